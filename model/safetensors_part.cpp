// The header is read by events, not as a tree: a hostile one of 100 MB takes no more memory than
// its tensors do.
#include "model/safetensors_part.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "core/error.h"
#include "model/file_kind.h"
#include "model/gguf_part.h"
#include "model/json_text.h"
#include "model/safetensors_format.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

namespace st = safetensors;
using Json = nlohmann::json;

struct Offsets {
  std::uint64_t begin = 0;  ///< from the end of the header
  std::uint64_t end = 0;
};

struct ListedTensor {
  StoredTensor tensor;
  Offsets offsets;
};

/// Takes the parser's events; anything but {name: {dtype, shape, data_offsets}} and
/// {"__metadata__": {key: text}} is refused where it occurs.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(const std::filesystem::path& path) : path_(path) {}

  std::vector<ListedTensor> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;

  bool null() override { return take_other("null"); }
  bool boolean(bool) override { return take_other("a bool"); }
  bool number_float(double, const std::string&) override { return take_other("a fraction"); }
  bool number_integer(std::int64_t value) override {
    return take_other(fmt::format("{}", value));  // negative: others are unsigned
  }
  bool binary(Json::binary_t&) override { return take_other("binary data"); }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ == Place::kShape) {
      if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
        fail(fmt::format("has the extent {}, expected less than 2^63", value));
      }
      tensors.back().tensor.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_taken_ == 2) fail("has more than two data_offsets");
      Offsets& offsets = tensors.back().offsets;
      (offsets_taken_++ == 0 ? offsets.begin : offsets.end) = value;
      return true;
    }
    return take_other(fmt::format("{}", value));
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) {
      metadata.emplace_back(key_, std::move(value));
      return true;
    }
    if (place_ == Place::kTensor && key_ == "dtype") {
      const auto format = st::find_dtype(value);
      if (!format) {
        fail(fmt::format("has the unknown dtype '{}', expected one of {}", escape_text(value),
                         st::dtype_names()));
      }
      tensors.back().tensor.format = *format;
      return true;
    }
    return take_other(fmt::format("'{}'", escape_text(value)));
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kNames;
    } else if (place_ == Place::kNames && key_ == st::kMetadataKey) {
      place_ = Place::kMetadata;
      fields_.clear();
    } else if (place_ == Place::kNames) {
      place_ = Place::kTensor;
      fields_.clear();
    } else {
      return take_other("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (std::string_view field : {"dtype", "shape", "data_offsets"}) {
        if (!fields_.contains(field)) fail(fmt::format("has no {}", field));
      }
    }
    place_ = Place::kNames;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
    } else if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
      offsets_taken_ = 0;
    } else {
      return take_other("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_taken_ != 2) {
      fail(fmt::format("has {} data_offsets, expected two", offsets_taken_));
    }
    place_ = Place::kTensor;
    return true;
  }

  bool key(std::string& value) override {
    key_ = value;
    if (place_ == Place::kNames) {
      begin_name();
    } else if (!fields_.insert(key_).second) {
      fail(fmt::format("has the key '{}' twice", escape_text(key_)));
    } else if (place_ == Place::kTensor && key_ != "dtype" && key_ != "shape" &&
               key_ != "data_offsets") {
      fail(fmt::format("has the field '{}', expected dtype, shape and data_offsets",
                       escape_text(key_)));
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw InputError(path_.string(), fmt::format("has a header that is no JSON: {}",
                                                 escape_text(json_problem(error), 300)));
  }

 private:
  enum class Place { kStart, kNames, kMetadata, kTensor, kShape, kOffsets };

  void begin_name() {
    if (key_ == st::kMetadataKey) {
      if (std::exchange(has_metadata_, true)) {
        throw InputError(path_.string(), "has a header with the key '__metadata__' twice");
      }
      return;
    }
    if (key_.empty() || has_control_character(key_)) {
      throw InputError(path_.string(),
                       fmt::format("has a tensor of the name '{}', expected one or more characters "
                                   "that are no control characters",
                                   escape_text(key_)));
    }
    tensors.emplace_back().tensor.name = key_;
  }

  /// A value where none of its kind may be.
  bool take_other(std::string_view found) {
    switch (place_) {
      case Place::kStart:
        throw InputError(path_.string(),
                         fmt::format("has a header that is {}, expected an object", found));
      case Place::kNames:
        if (key_ == st::kMetadataKey) {
          throw InputError(
              path_.string(),
              fmt::format("has the __metadata__ {}, expected an object of strings", found));
        }
        fail(fmt::format("is {} in the header, expected an object", found));
      case Place::kMetadata:
        throw InputError(
            path_.string(),
            fmt::format("has the value {} in __metadata__ under '{}', expected a string", found,
                        escape_text(key_)));
      case Place::kTensor:
        fail(fmt::format("has the {} {}, expected {}", key_, found,
                         key_ == "dtype" ? "a string" : "an array"));
      case Place::kShape:
        fail(fmt::format("has {} in its shape, expected whole numbers, 0 or more", found));
      case Place::kOffsets:
        fail(fmt::format("has {} in its data_offsets, expected whole numbers, 0 or more", found));
    }
    KTJIT_UNREACHABLE("a known place in the header");
  }

  [[noreturn]] void fail(std::string_view problem) const {
    throw InputError(tensor_place(path_, tensors.back().tensor.name), problem);
  }

  const std::filesystem::path& path_;
  Place place_ = Place::kStart;
  std::string key_;
  std::set<std::string, std::less<>> fields_;  ///< of the object that is open
  int offsets_taken_ = 0;
  bool has_metadata_ = false;
};

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string_view take_header(const MappedFile& file) {
  const std::string where = file.path().string();
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() < st::kLengthBytes) {
    throw InputError(where, bytes.empty()
                                ? "is empty (0 bytes), expected a safetensors file"
                                : fmt::format("ends at byte {}, inside the header's length: it is "
                                              "cut short",
                                              bytes.size()));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > st::kMaxHeaderBytes) {
    // Anything that is no safetensors file has a huge number here.
    throw InputError(where, fmt::format("says its header has {} bytes, expected at most {}; the "
                                        "file is {}",
                                        length, st::kMaxHeaderBytes, describe_file(bytes)));
  }
  if (length > bytes.size() - st::kLengthBytes) {
    throw InputError(where,
                     fmt::format("says its header has {} bytes, but the file has {} more: it "
                                 "is cut short or damaged",
                                 length, bytes.size() - st::kLengthBytes));
  }
  const std::string_view header = text_of(bytes.subspan(st::kLengthBytes, length));
  if (!header.starts_with('{')) {
    throw InputError(where, fmt::format("has a header that begins with '{}', expected '{{'",
                                        escape_text(header.substr(0, 8))));
  }
  return header;
}

void check_size(const std::filesystem::path& path, const ListedTensor& listed) {
  const auto& [tensor, offsets] = listed;
  const auto bytes = st::count_bytes(tensor.format, tensor.shape);
  const std::string what =
      fmt::format("{} {}", st::dtype_name(tensor.format), shape_to_text(tensor.shape));
  if (!bytes) {
    throw InputError(tensor_place(path, tensor.name),
                     fmt::format("is {}, expected a whole number of bytes, less than 2^63", what));
  }
  if (offsets.end < offsets.begin ||
      offsets.end - offsets.begin != static_cast<std::uint64_t>(*bytes)) {
    throw InputError(tensor_place(path, tensor.name),
                     fmt::format("takes {} bytes as {}, but its data_offsets are [{}, {}]", *bytes,
                                 what, offsets.begin, offsets.end));
  }
}

/// REQUIRES: sorted by offsets.
void check_places(const std::filesystem::path& path, const std::vector<ListedTensor>& listed,
                  std::uint64_t data_bytes) {
  std::uint64_t expected = 0;
  const ListedTensor* previous = nullptr;
  for (const ListedTensor& each : listed) {
    if (each.offsets.begin != expected) {
      const bool overlaps = each.offsets.begin < expected;
      throw InputError(
          tensor_place(path, each.tensor.name),
          fmt::format("begins at byte {} of the data, expected {}, where {} ends: {}",
                      each.offsets.begin, expected,
                      previous == nullptr ? std::string("the header")
                                          : fmt::format("'{}'", escape_text(previous->tensor.name)),
                      overlaps ? "they overlap" : "there is a hole"));
    }
    expected = each.offsets.end;
    if (expected > data_bytes) {
      throw InputError(tensor_place(path, each.tensor.name),
                       fmt::format("ends at byte {} of the data, but the file has {}: it is cut "
                                   "short or damaged",
                                   expected, data_bytes));
    }
    previous = &each;
  }
  if (expected != data_bytes) {
    throw InputError(path.string(), fmt::format("has {} bytes after its last tensor, expected none",
                                                data_bytes - expected));
  }
}

void check_unique(const std::filesystem::path& path, const std::vector<ListedTensor>& listed) {
  std::set<std::string_view> names;
  for (const ListedTensor& each : listed) {
    if (names.insert(each.tensor.name).second) continue;
    throw InputError(path.string(),
                     fmt::format("has the tensor '{}' twice", escape_text(each.tensor.name)));
  }
}

}  // namespace

std::string shape_to_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

SafetensorsPart read_safetensors_part(const std::filesystem::path& path) {
  SafetensorsPart part(path);
  const std::string_view header = take_header(part.file);
  HeaderReader reader(path);
  Json::sax_parse(header, &reader);
  std::vector<ListedTensor>& listed = reader.tensors;
  check_unique(path, listed);
  for (const ListedTensor& each : listed) check_size(path, each);
  std::ranges::stable_sort(listed, {}, [](const ListedTensor& each) {
    return std::pair(each.offsets.begin, each.offsets.end);
  });
  const auto data = part.file.bytes().subspan(st::kLengthBytes + header.size());
  check_places(path, listed, data.size());

  part.metadata = std::move(reader.metadata);
  for (ListedTensor& each : listed) {
    if (each.offsets.end != each.offsets.begin) {
      each.tensor.data = data.subspan(each.offsets.begin, each.offsets.end - each.offsets.begin);
    }
    part.tensors.push_back(std::move(each.tensor));
  }
  return part;
}

}  // namespace ktjit::model
