// Structs whose size tells their version: a caller's may be older or newer than ours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fmt/format.h>
#include <string_view>

#include "capi/status.h"

#include "core/error.h"

namespace ktjit::capi {

/// Size of a struct in the first version that had it.
template <class Struct>
inline constexpr std::size_t kFirstBytes = 0;
template <>
inline constexpr std::size_t kFirstBytes<ktjit_options> = 88;
template <>
inline constexpr std::size_t kFirstBytes<ktjit_executor> = 32;
template <>
inline constexpr std::size_t kFirstBytes<ktjit_kernel_desc> = 120;
template <>
inline constexpr std::size_t kFirstBytes<ktjit_kernel_info> = 112;
template <>
inline constexpr std::size_t kFirstBytes<ktjit_arguments> = 64;
template <>
inline constexpr std::size_t kFirstBytes<ktjit_counts> = 64;

/// The size that the caller's header has for the struct.
/// Errors: SpecError if it is null, or shorter than any version.
template <class Struct>
std::size_t given_size(const Struct* given, std::string_view name) {
  static_assert(kFirstBytes<Struct> != 0 && kFirstBytes<Struct> <= sizeof(Struct));
  require(given, name);
  const std::size_t size = given->struct_size;
  if (size < kFirstBytes<Struct>) {
    throw SpecError(fmt::format("struct_size of {}", name), fmt::format("{}", size),
                    fmt::format("{} and more, as its _init function sets it", kFirstBytes<Struct>));
  }
  return size;
}

/// What a struct of the caller's says, in our version of it. Fields that the caller's header lacks
/// are zero. Errors: as given_size; SpecError if fields that we don't know are set.
template <class Struct>
Struct read_struct(const Struct* given, std::string_view name) {
  const std::size_t size = given_size(given, name);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (std::any_of(bytes + std::min(size, sizeof(Struct)), bytes + size,
                  [](unsigned char byte) { return byte != 0; })) {
    throw SpecError(
        name, "fields of a newer version",
        fmt::format("the first {} bytes: the library is older than the header", sizeof(Struct)));
  }
  Struct result = {};
  std::memcpy(&result, given, std::min(size, sizeof(Struct)));
  result.struct_size = sizeof(Struct);
  return result;
}

/// Fills a struct of the caller's as far as it knows it. Errors: as given_size.
template <class Struct>
void write_struct(const Struct& from, Struct* to, std::string_view name) {
  const std::size_t size = given_size(to, name);
  std::memset(static_cast<void*>(to), 0, size);
  std::memcpy(to, &from, std::min(size, sizeof(Struct)));
  to->struct_size = size;
}

}  // namespace ktjit::capi
