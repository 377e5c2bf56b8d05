// Facts of the GGUF container that its reader and writer share.
// Source: ggml's docs/gguf.md and src/gguf.cpp, August 2026.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace ktjit::model::gguf {

inline constexpr std::uint32_t kOldestVersion = 2;  // version 1 had 32-bit counts
inline constexpr std::uint32_t kNewestVersion = 3;
inline constexpr std::uint32_t kDefaultAlignment = 32;
inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr std::size_t kMaxKeyBytes = 65535;
inline constexpr int kMaxDims = 4;

inline constexpr std::uint32_t kArrayTypeId = 9;

/// The type id of a metadata value, T being one of the scalar alternatives of MetadataValue.
template <typename T>
constexpr std::uint32_t type_id() {
  if constexpr (std::is_same_v<T, std::uint8_t>) return 0;
  if constexpr (std::is_same_v<T, std::int8_t>) return 1;
  if constexpr (std::is_same_v<T, std::uint16_t>) return 2;
  if constexpr (std::is_same_v<T, std::int16_t>) return 3;
  if constexpr (std::is_same_v<T, std::uint32_t>) return 4;
  if constexpr (std::is_same_v<T, std::int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, std::string>) return 8;
  if constexpr (std::is_same_v<T, std::uint64_t>) return 10;
  if constexpr (std::is_same_v<T, std::int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}

inline constexpr bool is_valid_alignment(std::uint32_t alignment) {
  return alignment >= 8 && (alignment & (alignment - 1)) == 0;
}

/// REQUIRES: the sum does not overflow.
inline constexpr std::uint64_t align_up(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace ktjit::model::gguf
