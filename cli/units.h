// Sizes and shapes as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/format.h"

namespace ktjit::cli {

/// "1.5 MiB", "812 B".
std::string human_bytes(std::uint64_t bytes);

/// As parse_byte_size of jit/byte_size.h. Errors: UsageError that names `option`.
std::uint64_t parse_bytes(std::string_view option, std::string_view text);

struct Shape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

/// Reads "4096x14336". Errors: UsageError that names `option`.
Shape parse_shape(std::string_view option, std::string_view text);

/// Reads "128x128", "row" (one scale a row) or "tensor" (one scale). Errors: UsageError.
ScaleGrid parse_scale_block(std::string_view text, ScaleType type);

/// "1 kernel", "2 kernels".
std::string counted(std::uint64_t count, std::string_view noun);

}  // namespace ktjit::cli
