#include "model/checkpoint_config.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <string>
#include <system_error>

#include "core/error.h"
#include "model/json_text.h"

namespace ktjit::model {
namespace {

using Json = nlohmann::json;

bool fits_i64(const Json& value) {
  return !value.is_number_unsigned() ||
         value.get<std::uint64_t>() <= std::uint64_t{std::numeric_limits<std::int64_t>::max()};
}

template <typename Predicate>
bool all_of(const Json& array, Predicate predicate) {
  return std::all_of(array.begin(), array.end(), predicate);
}

/// The list as one array, if its items are of one kind.
std::optional<MetadataValue> to_array(const Json& array) {
  if (all_of(array, [](const Json& v) { return v.is_boolean(); }))
    return array.get<std::vector<bool>>();
  if (all_of(array, [](const Json& v) { return v.is_string(); }))
    return array.get<std::vector<std::string>>();
  if (all_of(array, [](const Json& v) { return v.is_number_integer() && fits_i64(v); }))
    return array.get<std::vector<std::int64_t>>();
  if (all_of(array, [](const Json& v) { return v.is_number(); }))
    return array.get<std::vector<double>>();
  return std::nullopt;
}

void add_value(const std::string& key, const Json& value, Metadata& metadata) {
  switch (value.type()) {
    case Json::value_t::object:
      for (const auto& [name, item] : value.items())
        add_value(fmt::format("{}.{}", key, name), item, metadata);
      return;
    case Json::value_t::array:
      if (value.empty()) return;
      if (auto array = to_array(value)) {
        metadata.add(key, *std::move(array));
        return;
      }
      for (std::size_t i = 0; i < value.size(); ++i)
        add_value(fmt::format("{}.{}", key, i), value[i], metadata);
      return;
    case Json::value_t::string:
      metadata.add(key, value.get<std::string>());
      return;
    case Json::value_t::boolean:
      metadata.add(key, value.get<bool>());
      return;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      if (fits_i64(value)) {
        metadata.add(key, value.get<std::int64_t>());
      } else {
        metadata.add(key, value.get<std::uint64_t>());
      }
      return;
    case Json::value_t::number_float:
      metadata.add(key, value.get<double>());
      return;
    case Json::value_t::null:
    case Json::value_t::binary:
    case Json::value_t::discarded:
      return;
  }
}

/// Of compressed-tensors: the blocks of the first group of layers that names some.
const MetadataValue* find_block_structure(const Metadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) {
    if (key.starts_with("config.") && key.find("quantization_config.config_groups.") != key.npos &&
        key.ends_with(".weights.block_structure")) {
      return &value;
    }
  }
  return nullptr;
}

}  // namespace

void add_config(const std::filesystem::path& path, std::string_view prefix, Metadata& metadata) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return;
  add_value(std::string(prefix), read_json_file(path), metadata);
}

const MetadataValue* find_config(const Metadata& metadata, std::string_view path) {
  if (const MetadataValue* value = metadata.find(fmt::format("config.{}", path))) return value;
  return metadata.find(fmt::format("config.text_config.{}", path));
}

std::optional<std::uint64_t> find_config_uint(const Metadata& metadata, std::string_view path) {
  if (const auto value = metadata.find_uint(fmt::format("config.{}", path))) return value;
  return metadata.find_uint(fmt::format("config.text_config.{}", path));
}

std::optional<BlockShape> find_weight_block(const Metadata& metadata, std::string_view where) {
  const MetadataValue* value = find_config(metadata, "quantization_config.weight_block_size");
  if (value == nullptr) value = find_block_structure(metadata);
  if (value == nullptr) return std::nullopt;
  const auto* sizes = std::get_if<std::vector<std::int64_t>>(value);
  if (sizes == nullptr || sizes->size() != 2 || (*sizes)[0] < 1 || (*sizes)[1] < 1) {
    throw InputError(where, fmt::format("quantization_config gives the block {}, expected two "
                                        "positive numbers",
                                        value_to_text(*value)));
  }
  return BlockShape{(*sizes)[0], (*sizes)[1]};
}

bool announces_quantisation(const Metadata& metadata) {
  return std::ranges::any_of(metadata.entries(), [](const Metadata::Entry& entry) {
    return entry.key.starts_with("config.quantization_config.") ||
           entry.key.starts_with("config.text_config.quantization_config.") ||
           entry.key.starts_with("config.compression_config.");
  });
}

}  // namespace ktjit::model
