// Facts of the safetensors format that its reader and writer share.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/format.h"

namespace ktjit::model::safetensors {

/// A file is: the header's length (u64, little-endian), the header (JSON), the tensors' bytes.
constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
/// Writers pad the header with spaces to a multiple of this.
constexpr std::uint64_t kHeaderAlignment = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

/// The format of a dtype, "F8_E4M3"; nothing for an unknown name. Names are case-sensitive.
std::optional<FormatId> find_dtype(std::string_view name);

/// The dtype of a format; empty if safetensors has none.
std::string_view dtype_name(FormatId format);

/// All dtypes, for messages: "BOOL, F4, ...".
std::string dtype_names();

/// Bytes of a tensor of that shape; nothing if its bits are no whole number of bytes, or its
/// elements or bytes are 2^63 or more, extents of zero left out. REQUIRES: no extent is negative.
std::optional<std::int64_t> count_bytes(FormatId format, std::span<const std::int64_t> shape);

}  // namespace ktjit::model::safetensors
