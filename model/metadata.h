// The key-value pairs of a model file. A value keeps the exact type that it has in the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ktjit::model {

/// One value: a scalar, a string, or an array of either. GGUF has no other types (ggml refuses
/// arrays of arrays). Strings are bytes: those of a tokenizer need not be UTF-8, print them with
/// value_to_text.
using MetadataValue =
    std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t,
                 std::int32_t, float, bool, std::string, std::uint64_t, std::int64_t, double,
                 std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                 std::vector<float>, std::vector<bool>, std::vector<std::string>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;

/// "u32", "str", "array of f32".
std::string value_type_name(const MetadataValue& value);

/// Number of elements of an array, 1 for anything else.
std::size_t value_count(const MetadataValue& value);

/// The value on one line: strings quoted and escaped, arrays as `[1, 2, 3, ... 32000 in all]` past
/// `max_items`, strings cut past `max_string_bytes`.
std::string value_to_text(const MetadataValue& value, std::size_t max_items = 8,
                          std::size_t max_string_bytes = 120);

/// Strings in `value` that are not UTF-8.
std::size_t count_invalid_utf8(const MetadataValue& value);

class Metadata {
 public:
  struct Entry {
    std::string key;
    MetadataValue value;
  };

  /// In the order of the file.
  const std::vector<Entry>& entries() const { return entries_; }

  /// Adds a pair. Returns false, and changes nothing, if the key is there already.
  bool add(std::string key, MetadataValue value);

  const MetadataValue* find(std::string_view key) const;

  /// The value if the key is there and is any integer type, not negative. Some keys that are one
  /// number in most models are an array with one number a layer in others: see find_uints.
  std::optional<std::uint64_t> find_uint(std::string_view key) const;
  /// An f32 or f64.
  std::optional<double> find_float(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string_view> find_string(std::string_view key) const;
  /// All elements of an integer array, or the one integer. Nothing if one of them is negative.
  std::optional<std::vector<std::uint64_t>> find_uints(std::string_view key) const;
  /// An array of strings; empty if the key is absent or is something else.
  std::span<const std::string> find_strings(std::string_view key) const;

 private:
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

}  // namespace ktjit::model
