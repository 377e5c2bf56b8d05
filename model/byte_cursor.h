// Reads a mapped file from front to back and never past its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "model/mapped_file.h"

namespace ktjit::model {

/// Little-endian numbers and length-prefixed strings, one after another. `what` names the thing
/// that is read, for the message. Errors: InputError where the file is too short for it.
class ByteCursor {
 public:
  explicit ByteCursor(const MappedFile& file)
      : bytes_(file.bytes()), where_(file.path().string()) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
  T take(std::string_view what) {
    require(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof value);
    position_ += sizeof value;
    return value;
  }

  /// A 64-bit length and as many bytes, as a view into the map.
  std::string_view take_text(std::string_view what);

  /// Refuses a count of things of at least `least_bytes` each that the rest of the file can't hold:
  /// to be called before memory is taken for them.
  void require_room(std::uint64_t count, std::uint64_t least_bytes, std::string_view what) const;

  /// Throws InputError with the file's path.
  [[noreturn]] void fail(std::string_view problem) const;

 private:
  void require(std::uint64_t bytes, std::string_view what) const;

  std::span<const std::byte> bytes_;
  std::string where_;
  std::uint64_t position_ = 0;
};

}  // namespace ktjit::model
