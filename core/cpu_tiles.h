// CPUs with AMX: tiles, registers of 16 rows of 64 bytes.
#pragma once

#include "core/target.h"

namespace ktjit {

/// Whether a target has tiles for products of bf16, and vector instructions to fill them.
bool has_bf16_tiles(const Target& target);

}  // namespace ktjit
