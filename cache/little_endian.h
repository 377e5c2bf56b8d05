// Numbers in files: little-endian, whatever the machine.
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>

namespace ktjit::cache {

/// Writes `value` over the bytes of `out` from `at` on, which must be there.
template <std::unsigned_integral T>
void put_number(T value, std::size_t at, std::string& out) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out[at + i] = static_cast<char>(value >> (8 * i));
}

/// The number whose lowest byte is at `at`. All of its bytes must be there.
template <std::unsigned_integral T>
T get_number(std::string_view in, std::size_t at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<T>(static_cast<unsigned char>(in[at + i])) << (8 * i));
  }
  return value;
}

}  // namespace ktjit::cache
