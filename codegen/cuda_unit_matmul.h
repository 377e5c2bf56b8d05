// Matmul on floating-point tensor cores of every format that has units (core/prepared_layout.h): prepared weights as they
// lie, native blocks rearranged in shared memory.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Whether emit_unit_matmul serves the spec: matmul with policy a16 of a format with units, from sm_75 on. Others take
/// f32 fma.
bool takes_unit_matmul(const KernelSpec& spec);

/// Errors: SpecError for a tile of x that isn't 16, 32, 64, 128 or 256, or for tiles and stages that don't fit the
/// target's shared memory.
EmittedKernel emit_unit_matmul(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
