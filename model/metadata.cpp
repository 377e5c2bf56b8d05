#include "model/metadata.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <type_traits>
#include <utility>

#include "model/utf8.h"

namespace ktjit::model {
namespace {

template <typename T>
constexpr bool kIsArray = false;
template <typename T>
constexpr bool kIsArray<std::vector<T>> = true;

template <typename T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <typename T>
constexpr std::string_view scalar_type_name() {
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_same_v<T, std::string>) return "str";
  if constexpr (std::is_same_v<T, float>) return "f32";
  if constexpr (std::is_same_v<T, double>) return "f64";
  if constexpr (std::is_same_v<T, std::uint8_t>) return "u8";
  if constexpr (std::is_same_v<T, std::int8_t>) return "i8";
  if constexpr (std::is_same_v<T, std::uint16_t>) return "u16";
  if constexpr (std::is_same_v<T, std::int16_t>) return "i16";
  if constexpr (std::is_same_v<T, std::uint32_t>) return "u32";
  if constexpr (std::is_same_v<T, std::int32_t>) return "i32";
  if constexpr (std::is_same_v<T, std::uint64_t>) return "u64";
  if constexpr (std::is_same_v<T, std::int64_t>) return "i64";
}

template <typename T>
std::string scalar_to_text(const T& value, std::size_t max_string_bytes) {
  if constexpr (std::is_same_v<T, std::string>) {
    return fmt::format("'{}'", escape_text(value, max_string_bytes));
  } else if constexpr (kIsInteger<T>) {
    return fmt::format("{:d}", value);  // :d, so that 8-bit integers do not print as characters
  } else {
    return fmt::format("{}", value);
  }
}

template <typename T>
std::optional<std::uint64_t> to_uint(T value) {
  if constexpr (std::is_signed_v<T>) {
    if (value < 0) return std::nullopt;
  }
  return static_cast<std::uint64_t>(value);
}

}  // namespace

std::string value_type_name(const MetadataValue& value) {
  return std::visit(
      []<typename T>(const T&) {
        if constexpr (kIsArray<T>) {
          return fmt::format("array of {}", scalar_type_name<typename T::value_type>());
        } else {
          return std::string(scalar_type_name<T>());
        }
      },
      value);
}

std::size_t value_count(const MetadataValue& value) {
  return std::visit(
      []<typename T>(const T& held) -> std::size_t {
        if constexpr (kIsArray<T>) {
          return held.size();
        } else {
          return 1;
        }
      },
      value);
}

std::string value_to_text(const MetadataValue& value, std::size_t max_items,
                          std::size_t max_string_bytes) {
  return std::visit(
      [&]<typename T>(const T& held) {
        if constexpr (kIsArray<T>) {
          std::string out = "[";
          const std::size_t shown = std::min(held.size(), max_items);
          for (std::size_t i = 0; i < shown; ++i) {
            const typename T::value_type element = held[i];
            out += (i == 0 ? "" : ", ") + scalar_to_text(element, max_string_bytes);
          }
          if (shown < held.size()) {
            fmt::format_to(std::back_inserter(out), "{}... {} in all", shown == 0 ? "" : ", ",
                           held.size());
          }
          return out + "]";
        } else {
          return scalar_to_text(held, max_string_bytes);
        }
      },
      value);
}

std::size_t count_invalid_utf8(const MetadataValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return is_valid_utf8(*text) ? 0 : 1;
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    return static_cast<std::size_t>(
        std::count_if(texts->begin(), texts->end(),
                      [](const std::string& text) { return !is_valid_utf8(text); }));
  }
  return 0;
}

bool Metadata::add(std::string key, MetadataValue value) {
  if (!index_.try_emplace(key, entries_.size()).second) return false;
  entries_.push_back({std::move(key), std::move(value)});
  return true;
}

const MetadataValue* Metadata::find(std::string_view key) const {
  const auto at = index_.find(key);
  return at == index_.end() ? nullptr : &entries_[at->second].value;
}

std::optional<std::uint64_t> Metadata::find_uint(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  return std::visit(
      []<typename T>(const T& held) -> std::optional<std::uint64_t> {
        if constexpr (kIsInteger<T>) {
          return to_uint(held);
        } else {
          return std::nullopt;
        }
      },
      *value);
}

std::optional<double> Metadata::find_float(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const float* single = std::get_if<float>(value)) return static_cast<double>(*single);
  if (const double* full = std::get_if<double>(value)) return *full;
  return std::nullopt;
}

std::optional<bool> Metadata::find_bool(std::string_view key) const {
  const MetadataValue* value = find(key);
  const bool* flag = value == nullptr ? nullptr : std::get_if<bool>(value);
  return flag == nullptr ? std::nullopt : std::optional(*flag);
}

std::optional<std::string_view> Metadata::find_string(std::string_view key) const {
  const MetadataValue* value = find(key);
  const std::string* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return text == nullptr ? std::nullopt : std::optional<std::string_view>(*text);
}

std::optional<std::vector<std::uint64_t>> Metadata::find_uints(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto one = find_uint(key)) return std::vector{*one};
  return std::visit(
      []<typename T>(const T& held) -> std::optional<std::vector<std::uint64_t>> {
        if constexpr (kIsArray<T>) {
          if constexpr (kIsInteger<typename T::value_type>) {
            std::vector<std::uint64_t> numbers;
            numbers.reserve(held.size());
            for (const auto element : held) {
              const auto number = to_uint(element);
              if (!number) return std::nullopt;
              numbers.push_back(*number);
            }
            return numbers;
          }
        }
        return std::nullopt;
      },
      *value);
}

std::span<const std::string> Metadata::find_strings(std::string_view key) const {
  const MetadataValue* value = find(key);
  const auto* texts = value == nullptr ? nullptr : std::get_if<std::vector<std::string>>(value);
  return texts == nullptr ? std::span<const std::string>() : std::span<const std::string>(*texts);
}

}  // namespace ktjit::model
