// The plain reference decode of every number format: what emitted kernels are compared with. It is
// written from the definitions of the formats and shares no text with codegen or templates.
#pragma once

#include <cstddef>
#include <span>

#include "core/format.h"

namespace ktjit {

/// Whether decode_row serves the format: all but those that files hold and nothing computes with.
bool has_reference_decode(FormatId id);

/// Decodes one row of a tensor to f32, without scales from outside the row.
///
/// Shapes:  out [cols]; row_bytes [cols / block_elems * block_bytes], as core/format.h has them.
/// Math:    floats are exact (f64 is rounded once), integers are rounded once to nearest even,
///          ggml's formats equal ggml's float32 reference bit for bit. Subnormals are kept. Payload
///          and sign of a NaN are not specified.
/// Errors:  SpecError if cols is not a multiple of block_elems, if row_bytes has another size, or
///          if the format has no reference decode.
/// Threads: safe to call from several threads, in the default floating-point environment (round to
///          nearest, no flush to zero).
void decode_row(FormatId id, std::span<const std::byte> row_bytes, std::span<float> out);

}  // namespace ktjit
