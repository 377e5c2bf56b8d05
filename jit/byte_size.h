// Sizes as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace ktjit {

/// Reads "24G", "24GiB", "24GB", "512M", "1.5T", "1000": all units are powers of 1024, as memory is
/// sold, in either case. Nothing for other texts, for 0 and for sizes over 2^62.
std::optional<std::uint64_t> parse_byte_size(std::string_view text);

}  // namespace ktjit
