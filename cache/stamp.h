// When an entry was last used: eight bytes in its file that are rewritten in place (FORMAT.md).
// Times of files are not used: copies, backups and mount options change them.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace ktjit::cache {

inline constexpr std::size_t kStampBytes = 8;

/// A stamp is rewritten when it is older than this, so a hit seldom writes.
inline constexpr std::chrono::hours kStampLifetime{1};

/// 40 bits of seconds since 1970 and 24 bits that check them. Times outside of what fits are cut.
std::string encode_stamp(std::chrono::sys_seconds time);

/// The time in `bytes` (kStampBytes of them); nothing if any one byte, or any run of bits within 24
/// bits, is not what was written.
std::optional<std::chrono::sys_seconds> decode_stamp(std::string_view bytes);

}  // namespace ktjit::cache
