// Models with weights prepared for a target's matvec, and the way back.
#pragma once

#include <cstdint>
#include <string>

#include "convert/model_conversion.h"

#include "core/target.h"
#include "jit/engine.h"
#include "model/model.h"

namespace ktjit::convert {

/// The files of a prepared or restored model.
struct PreparedOutput {
  OutputKind kind = OutputKind::kFolder;
  std::string file_name;  ///< of the one file, where kind is that
  std::uint64_t shard_bytes = std::uint64_t{5} << 30;
};

/// Safetensors in which every matrix that matvec for the target reads prepared is so; the others keep their bytes, with the
/// reason in Conversion::tensors. Metadata come along. Formats with bytes that don't come back are tried out here, on this
/// machine's CPU. The model must outlive the result.
/// Errors: SpecError if no matvec for the target reads prepared weights, or the model has none that it could read, or is
/// prepared already; what Engine throws.
Conversion plan_prepare(Engine& engine, const model::Model& input, const Target& target,
                        const PreparedOutput& output);

/// The model as it was before, tensor by tensor the same bytes: in GGUF where `container` is that, else in safetensors, where
/// ggml's blocks are described (docs/PREPARED.md). The model must outlive the result.
/// Errors: SpecError if nothing in the model is prepared, or the container can't hold a tensor.
Conversion plan_restore(const model::Model& input, Container container,
                        const PreparedOutput& output);

}  // namespace ktjit::convert
