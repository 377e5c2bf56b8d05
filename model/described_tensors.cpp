#include "model/described_tensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "model/gguf_part.h"
#include "model/json_text.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

[[noreturn]] void fail(const fs::path& path, std::string_view key, std::string_view problem) {
  throw InputError(path.string(), fmt::format("has '{}' in its metadata, which {}", key, problem));
}

/// What the file says of one tensor.
class Description {
 public:
  Description(const fs::path& path, const std::string& name, const json& fields)
      : where_(tensor_place(path, name)), fields_(fields) {
    if (!fields.is_object()) fail("is described by no object", fields);
  }

  TensorDescription read() const {
    const std::string format_name = text("format");
    const Format* format = find_format(format_name);
    if (format == nullptr) fail("is described with an unknown format", fields_["format"]);
    TensorDescription description;
    description.format = format->id;
    description.layout = layout();
    description.ne = extents();
    if (description.ne.front() % format->block_elems != 0) {
      throw InputError(where_,
                       fmt::format("has {} columns, not a multiple of {}, the block of {}",
                                   description.ne.front(), format->block_elems, format->name));
    }
    if (description.layout == LayoutKind::kPrepared &&
        find_prepared_layout(format->id) == nullptr) {
      throw InputError(where_, fmt::format("is {} in layout {}, which has no such format",
                                           format->name, kPreparedLayoutName));
    }
    check_scale(*format);
    return description;
  }

  const std::string& where() const { return where_; }

 private:
  [[noreturn]] void fail(std::string_view what, const json& value) const {
    throw InputError(
        where_,
        fmt::format("{}: {}", what,
                    escape_text(value.dump(-1, ' ', false, json::error_handler_t::replace))));
  }

  const json& field(const char* name) const {
    const auto found = fields_.find(name);
    if (found == fields_.end())
      throw InputError(where_, fmt::format("is described without '{}'", name));
    return *found;
  }

  std::string text(const char* name) const {
    const json& value = field(name);
    if (!value.is_string()) fail(fmt::format("has a '{}' that is no text", name), value);
    return value.get<std::string>();
  }

  LayoutKind layout() const {
    const std::string name = text("layout");
    if (name == layout_name(LayoutKind::kNative)) return LayoutKind::kNative;
    if (name != kPreparedLayoutName) {
      throw InputError(where_, fmt::format("has the layout '{}', expected native or {}",
                                           escape_text(name), kPreparedLayoutName));
    }
    const json& version = field("version");
    if (version != kPreparedLayoutVersion) {
      throw InputError(
          where_,
          fmt::format("has version {} of the layout {}, expected {}: prepare the original model "
                      "again, or restore this one with the ktjit that wrote it",
                      escape_text(version.dump(-1, ' ', false, json::error_handler_t::replace)),
                      name, kPreparedLayoutVersion));
    }
    return LayoutKind::kPrepared;
  }

  std::vector<std::int64_t> extents() const {
    const json& value = field("ne");
    const bool is_shape =
        value.is_array() && !value.empty() && value.size() <= 4 &&
        std::ranges::all_of(value, [](const json& e) {
          return e.is_number_unsigned() && e.get<std::uint64_t>() > 0 &&
                 e.get<std::uint64_t>() <= std::uint64_t(std::numeric_limits<std::int64_t>::max());
        });
    if (!is_shape) fail("has an 'ne' that is not 1 to 4 positive numbers", value);
    return value.get<std::vector<std::int64_t>>();
  }

  /// Written for readers that don't know the format; there is but one that it may be.
  void check_scale(const Format& format) const {
    const std::string expected = scale_grid_name(fixed_scale_grid(format.id));
    const std::string given = text("scale");
    if (given != expected) {
      throw InputError(where_, fmt::format("has scales '{}', expected '{}', those of {}",
                                           escape_text(given), expected, format.name));
    }
  }

  std::string where_;
  const json& fields_;
};

// ---- metadata

/// A text, or {"hex": "ff00"} where it is no UTF-8.
json to_json(const std::string& text) {
  if (is_valid_utf8(text)) return text;
  std::string hex;
  for (const char c : text) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return json{{"hex", hex}};
}

json to_json(bool value) { return value; }

/// Numbers; floats as their bits, which no rounding or NaN changes.
template <typename T>
json to_json(T value) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<std::uint32_t>(value);
  } else if constexpr (std::is_same_v<T, double>) {
    return std::bit_cast<std::uint64_t>(value);
  } else {
    return value;
  }
}

template <typename T>
json to_json(const std::vector<T>& values) {
  json list = json::array();
  for (const auto& value : values) list.push_back(to_json(static_cast<T>(value)));
  return list;
}

/// Throws json::exception, or an int as a code for what is no such value.
template <typename T>
T from_json(const json& value, std::type_identity<T>) {
  if constexpr (std::is_same_v<T, std::string>) {
    if (value.is_string()) return value.get<std::string>();
    const auto hex = value.at("hex").get<std::string>();
    std::string text;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
      text += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    return text;
  } else if constexpr (std::is_same_v<T, bool>) {
    return value.get<bool>();
  } else if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(value.get<std::uint32_t>());
  } else if constexpr (std::is_same_v<T, double>) {
    return std::bit_cast<double>(value.get<std::uint64_t>());
  } else {
    return value.get<T>();
  }
}

template <typename T>
std::vector<T> from_json(const json& value, std::type_identity<std::vector<T>>) {
  std::vector<T> list;
  for (const json& item : value.get_ref<const json::array_t&>())
    list.push_back(from_json(item, std::type_identity<T>{}));
  return list;
}

/// The value of the alternative that has that name; nothing if none has.
template <std::size_t kIndex = 0>
std::optional<MetadataValue> read_value(const std::string& type, const json& value) {
  if constexpr (kIndex == std::variant_size_v<MetadataValue>) {
    return std::nullopt;
  } else {
    using T = std::variant_alternative_t<kIndex, MetadataValue>;
    if (value_type_name(MetadataValue(std::in_place_index<kIndex>)) == type)
      return MetadataValue(std::in_place_index<kIndex>, from_json(value, std::type_identity<T>{}));
    return read_value<kIndex + 1>(type, value);
  }
}

}  // namespace

TensorDescription description_of(const TensorInfo& tensor) {
  return {tensor.format,
          tensor.layout,
          {tensor.ne.begin(), tensor.ne.begin() + std::max(1, tensor.n_dims)}};
}

std::int64_t described_bytes(const TensorDescription& description) {
  std::array<std::int64_t, 4> ne = {1, 1, 1, 1};
  std::ranges::copy(description.ne, ne.begin());
  const auto multiply = [&](std::int64_t a, std::int64_t b) {
    std::int64_t product = 0;
    if (__builtin_mul_overflow(a, b, &product))
      throw SpecError("ne", fmt::format("{}", fmt::join(description.ne, " x ")),
                      "less than 2^63 bytes");
    return product;
  };
  const std::int64_t matrices = multiply(ne[2], ne[3]);
  if (description.layout == LayoutKind::kPrepared)
    return multiply(matrices, ktjit::prepared_bytes(description.format, ne[1], ne[0]));
  return multiply(multiply(matrices, ne[1]),
                  ktjit::row_bytes(get_format(description.format), ne[0]));
}

std::string descriptions_to_text(const std::map<std::string, TensorDescription>& descriptions) {
  json all = json::object();
  for (const auto& [name, description] : descriptions) {
    const bool is_prepared = description.layout == LayoutKind::kPrepared;
    json fields = {{"format", get_format(description.format).name},
                   {"layout", is_prepared ? kPreparedLayoutName : layout_name(description.layout)},
                   {"ne", description.ne},
                   {"scale", scale_grid_name(fixed_scale_grid(description.format))}};
    if (is_prepared) fields["version"] = kPreparedLayoutVersion;
    all[name] = std::move(fields);
  }
  return all.dump();
}

std::vector<TensorInfo> take_described_tensors(const fs::path& path, std::string_view text,
                                               std::vector<StoredTensor>& stored) {
  json all;
  try {
    all = json::parse(text);
  } catch (const json::exception& error) {
    fail(path, kDescriptionsKey, fmt::format("is no JSON: {}", json_problem(error)));
  }
  if (!all.is_object()) fail(path, kDescriptionsKey, "is no object");
  std::vector<TensorInfo> tensors;
  for (const auto& [name, fields] : all.items()) {
    const auto found = std::ranges::find(stored, name, &StoredTensor::name);
    if (found == stored.end()) {
      fail(path, kDescriptionsKey,
           fmt::format("describes '{}', a tensor that the file lacks", escape_text(name)));
    }
    const Description described(path, name, fields);
    const TensorDescription description = described.read();
    if (found->format != FormatId::kU8 || found->shape.size() != 1) {
      throw InputError(described.where(),
                       fmt::format("is {} {}, expected U8 [bytes], as it is described in '{}'",
                                   get_format(found->format).name, shape_to_text(found->shape),
                                   kDescriptionsKey));
    }
    std::int64_t bytes = 0;
    try {
      bytes = described_bytes(description);
    } catch (const SpecError& error) {
      throw InputError(described.where(), error.what());
    }
    if (found->data.size() != static_cast<std::size_t>(bytes)) {
      throw InputError(
          described.where(),
          fmt::format("has {} bytes, expected {}: {} [{}] in layout {}", found->data.size(), bytes,
                      get_format(description.format).name, fmt::join(description.ne, ", "),
                      fields.at("layout").get<std::string>()));
    }
    TensorInfo tensor;
    tensor.name = name;
    tensor.format = description.format;
    tensor.layout = description.layout;
    std::ranges::copy(description.ne, tensor.ne.begin());
    tensor.n_dims = static_cast<int>(description.ne.size());
    tensor.data = found->data;
    tensor.part = found->part;
    tensor.scale_grid = fixed_scale_grid(description.format);
    if (tensor.scale_grid && tensor.layout == LayoutKind::kNative) {
      throw InputError(described.where(),
                       "is native and has scales in a tensor of their own, which only prepared "
                       "ones hold in themselves");
    }
    tensors.push_back(std::move(tensor));
  }
  std::erase_if(stored, [&](const StoredTensor& tensor) { return all.contains(tensor.name); });
  // In the order of the file, which the model's tensors have.
  std::ranges::sort(tensors, {}, [](const TensorInfo& t) { return t.data.data(); });
  return tensors;
}

std::string metadata_to_text(const Metadata& metadata) {
  json all = json::array();
  for (const Metadata::Entry& entry : metadata.entries()) {
    all.push_back({to_json(entry.key), value_type_name(entry.value),
                   std::visit([](const auto& value) { return to_json(value); }, entry.value)});
  }
  return all.dump();
}

void add_metadata_of_text(const fs::path& path, std::string_view text, Metadata& metadata) {
  try {
    const json all = json::parse(text);
    for (const json& entry : all.get_ref<const json::array_t&>()) {
      std::string key = from_json(entry.at(0), std::type_identity<std::string>{});
      const std::string type = entry.at(1).get<std::string>();
      std::optional<MetadataValue> value = read_value(type, entry.at(2));
      if (!value) {
        fail(path, kModelMetadataKey,
             fmt::format("has the type '{}' at '{}'", escape_text(type), escape_text(key)));
      }
      metadata.add(std::move(key), std::move(*value));
    }
  } catch (const json::exception& error) {
    fail(path, kModelMetadataKey,
         fmt::format("is no list of [key, type, value]: {}", json_problem(error)));
  } catch (const std::logic_error&) {  // stoi of what is no number
    fail(path, kModelMetadataKey, "has a text in hex that is none");
  }
}

}  // namespace ktjit::model
