#include "model/byte_cursor.h"

#include <bit>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit::model {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie");

std::string_view ByteCursor::take_text(std::string_view what) {
  const auto length = take<std::uint64_t>(what);
  if (length > remaining()) {
    fail(
        fmt::format("{} at byte {} says it is {} bytes long, but the file has {} more bytes: it is "
                    "cut short or damaged",
                    what, position_ - sizeof length, length, remaining()));
  }
  const auto* text = reinterpret_cast<const char*>(bytes_.data() + position_);
  position_ += length;
  return {text, length};
}

void ByteCursor::require_room(std::uint64_t count, std::uint64_t least_bytes,
                              std::string_view what) const {
  if (count <= remaining() / least_bytes) return;
  fail(fmt::format(
      "says it has {} {}, at least {} bytes each, but the file has {} more bytes: it is "
      "cut short or damaged",
      count, what, least_bytes, remaining()));
}

void ByteCursor::fail(std::string_view problem) const { throw InputError(where_, problem); }

void ByteCursor::require(std::uint64_t bytes, std::string_view what) const {
  if (bytes <= remaining()) return;
  fail(fmt::format("ends at byte {}, inside {}: it is cut short or damaged", bytes_.size(), what));
}

}  // namespace ktjit::model
