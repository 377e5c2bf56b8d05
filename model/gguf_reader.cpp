// Puts the parts of a split model together; one file is read by gguf_part.h.
#include "model/gguf_reader.h"

#include <cstdint>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"
#include "model/gguf_part.h"
#include "model/gguf_split.h"

namespace ktjit::model {
namespace {

struct SplitInfo {
  std::uint64_t index;  ///< from 0
  std::uint64_t count;
  std::optional<std::uint64_t> tensor_count;  ///< of all parts
};

/// Nothing if the file is a whole model.
std::optional<SplitInfo> find_split_info(const GgufPart& part) {
  const Metadata& metadata = part.metadata;
  const std::string where = part.file.path().string();
  if (metadata.find("split.count") == nullptr) return std::nullopt;
  const auto count = metadata.find_uint("split.count");
  if (!count) {
    throw InputError(where, fmt::format("metadata 'split.count' is {}, expected a number of parts",
                                        value_to_text(*metadata.find("split.count"))));
  }
  if (*count <= 1) return std::nullopt;
  const auto index = metadata.find_uint("split.no");
  if (!index || *index >= *count) {
    const MetadataValue* value = metadata.find("split.no");
    throw InputError(where,
                     fmt::format("metadata 'split.no' is {}, expected 0 to {}",
                                 value == nullptr ? "missing" : value_to_text(*value), *count - 1));
  }
  return SplitInfo{*index, *count, metadata.find_uint("split.tensors.count")};
}

/// The name of the opened part must tell those of the others.
SplitName get_split_name(const std::filesystem::path& path, const SplitInfo& split) {
  const auto name = parse_split_name(path.filename().string());
  const bool agrees = name && static_cast<std::uint64_t>(name->number) == split.index + 1 &&
                      static_cast<std::uint64_t>(name->count) == split.count;
  if (!agrees) {
    throw InputError(path.string(),
                     fmt::format("is part {} of {} of a split model by its metadata, expected a "
                                 "name that ends with '-{:05}-of-{:05}.gguf' so that the other "
                                 "parts can be found",
                                 split.index + 1, split.count, split.index + 1, split.count));
  }
  return *name;
}

void check_parts_exist(const std::filesystem::path& opened, const SplitName& name) {
  constexpr std::size_t kMostNames = 4;
  std::vector<std::string> missing;
  std::size_t missing_count = 0;
  for (int number = 1; number <= name.count; ++number) {
    const std::string file_name = split_file_name({name.prefix, number, name.count});
    std::error_code ignored;
    if (std::filesystem::exists(opened.parent_path() / file_name, ignored)) continue;
    if (++missing_count <= kMostNames) missing.push_back(file_name);
  }
  if (missing_count == 0) return;
  throw InputError(
      opened.string(),
      fmt::format("is part {} of {} of a split model, and {} {} missing in its folder: "
                  "{}{}",
                  name.number, name.count, missing_count,
                  missing_count == 1 ? "part is" : "parts are", fmt::join(missing, ", "),
                  missing_count > missing.size() ? ", ..." : ""));
}

void check_belongs(const GgufPart& part, const SplitInfo& expected) {
  const std::string where = part.file.path().string();
  const auto split = find_split_info(part);
  if (!split || split->count != expected.count || split->index != expected.index) {
    const std::string found =
        split ? fmt::format("part {} of {}", split->index + 1, split->count) : "a whole model";
    throw InputError(where, fmt::format("is {} by its metadata, expected part {} of {} as its name "
                                        "says",
                                        found, expected.index + 1, expected.count));
  }
  if (split->tensor_count != expected.tensor_count) {
    throw InputError(where,
                     "has another 'split.tensors.count' than the other parts, expected parts "
                     "of one model");
  }
}

void append_part(Model::Contents& contents, GgufPart part) {
  const auto index = static_cast<int>(contents.files.size());
  if (index == 0) {
    contents.version = part.version;
    contents.alignment = part.alignment;
    contents.metadata = std::move(part.metadata);
  }
  for (TensorInfo& tensor : part.tensors) {
    tensor.part = index;
    contents.tensors.push_back(std::move(tensor));
  }
  std::move(part.notes.begin(), part.notes.end(), std::back_inserter(contents.notes));
  contents.files.push_back(std::move(part.file));
}

void check_unique_names(const Model::Contents& contents) {
  std::map<std::string_view, int> part_of;
  for (const TensorInfo& tensor : contents.tensors) {
    const auto [at, is_new] = part_of.try_emplace(tensor.name, tensor.part);
    if (is_new) continue;
    const auto file_of = [&](int part) { return contents.files[part].path(); };
    throw InputError(tensor_place(file_of(tensor.part), tensor.name),
                     fmt::format("is in {} too, expected one of each name",
                                 file_of(at->second).filename().string()));
  }
}

void append_all_parts(Model::Contents& contents, GgufPart opened, const SplitInfo& split) {
  const std::filesystem::path path = opened.file.path();
  const SplitName name = get_split_name(path, split);
  check_parts_exist(path, name);
  for (std::uint64_t i = 0; i < split.count; ++i) {
    if (i == split.index) {
      append_part(contents, std::move(opened));
      continue;
    }
    const SplitName part_name{name.prefix, static_cast<int>(i) + 1, name.count};
    GgufPart part = read_gguf_part(path.parent_path() / split_file_name(part_name));
    check_belongs(part, {i, split.count, split.tensor_count});
    append_part(contents, std::move(part));
  }
  check_unique_names(contents);
  if (split.tensor_count && *split.tensor_count != contents.tensors.size()) {
    throw InputError(path.string(),
                     fmt::format("metadata 'split.tensors.count' is {}, but the {} parts have {} "
                                 "tensors",
                                 *split.tensor_count, split.count, contents.tensors.size()));
  }
}

}  // namespace

Model read_gguf(const std::filesystem::path& path) { return Model(read_gguf_contents(path)); }

Model::Contents read_gguf_contents(const std::filesystem::path& path) {
  Model::Contents contents{};
  contents.container = "GGUF";
  GgufPart opened = read_gguf_part(path);
  if (const auto split = find_split_info(opened)) {
    append_all_parts(contents, std::move(opened), *split);
  } else {
    append_part(contents, std::move(opened));
  }
  return contents;
}

}  // namespace ktjit::model
