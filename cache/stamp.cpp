#include "cache/stamp.h"

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace ktjit::cache {
namespace {

constexpr std::size_t kTimeBytes = 5;
constexpr std::int64_t kLatest = (std::int64_t{1} << (8 * kTimeBytes)) - 1;

// CRC-24 with OpenPGP's polynomial and start (RFC 4880, 6.1): finds every error burst of up to 24
// bits, and eight zero bytes are no stamp.
std::uint32_t check_of(std::string_view bytes) {
  constexpr std::uint32_t kPolynomial = 0x1864cfb;
  constexpr std::uint32_t kTopBit = 0x1000000;
  std::uint32_t check = 0xb704ce;
  for (const char byte : bytes) {
    check ^= static_cast<std::uint32_t>(static_cast<unsigned char>(byte)) << 16;
    for (int bit = 0; bit < 8; ++bit) {
      check <<= 1;
      if (check & kTopBit) check ^= kPolynomial;
    }
  }
  return check;
}

}  // namespace

std::string encode_stamp(std::chrono::sys_seconds time) {
  const std::int64_t count = time.time_since_epoch().count();
  const auto seconds = static_cast<std::uint64_t>(std::clamp<std::int64_t>(count, 0, kLatest));
  std::string bytes(kStampBytes, '\0');
  for (std::size_t i = 0; i < kTimeBytes; ++i) bytes[i] = static_cast<char>(seconds >> (8 * i));
  const std::uint32_t check = check_of(std::string_view(bytes).substr(0, kTimeBytes));
  for (std::size_t i = kTimeBytes; i < kStampBytes; ++i) {
    bytes[i] = static_cast<char>(check >> (8 * (kStampBytes - 1 - i)));  // as a CRC is sent
  }
  return bytes;
}

std::optional<std::chrono::sys_seconds> decode_stamp(std::string_view bytes) {
  KTJIT_CHECK(bytes.size() == kStampBytes);
  std::int64_t seconds = 0;
  for (std::size_t i = 0; i < kTimeBytes; ++i) {
    seconds |= std::int64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
  if (encode_stamp(time) != bytes) return std::nullopt;
  return time;
}

}  // namespace ktjit::cache
