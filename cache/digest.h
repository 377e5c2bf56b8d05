// 128-bit digests: the names of cache entries and the checksum inside them.
//
// XXH3-128 is fast and not cryptographic, and that is enough here. A digest only finds an entry:
// the hashed input is stored in the entry and compared byte for byte on every load, so two inputs
// with one digest are a miss, not a wrong kernel. As a checksum it guards against accidents (cut
// and flipped bytes). Against somebody who plants an entry no checksum helps: trust.h does, by
// owner and mode.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ktjit::cache {

struct Digest {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  /// 32 lower-case hex digits, `high` first.
  std::string hex() const;

  /// The reverse of `hex`; nothing unless `text` is exactly 32 lower-case hex digits.
  static std::optional<Digest> parse(std::string_view text);

  auto operator<=>(const Digest&) const = default;
};

/// Digest of `bytes`.
Digest digest_of(std::string_view bytes);

/// Digest of `first` followed by `second`, without joining them.
Digest digest_of(std::string_view first, std::string_view second);

}  // namespace ktjit::cache
