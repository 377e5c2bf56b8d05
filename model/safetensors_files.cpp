#include "model/safetensors_files.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <set>
#include <system_error>

#include "core/error.h"
#include "model/folder_listing.h"
#include "model/gguf_part.h"
#include "model/json_text.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".safetensors";
constexpr std::string_view kIndexExtension = ".safetensors.index.json";

std::string shard_file_name(const ShardName& shard) {
  return fmt::format("{}-{:05}-of-{:05}{}", shard.prefix, shard.number, shard.count, kExtension);
}

/// A few of the names, for messages.
std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 4;
  const std::size_t shown = std::min(names.size(), kMost);
  return fmt::format("{}{}", fmt::join(names.begin(), names.begin() + shown, ", "),
                     shown < names.size() ? ", ..." : "");
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// ---- with an index

struct Index {
  fs::path path;
  std::map<std::string, std::string> shard_of;  ///< tensor to file name
  std::set<std::string> shards;
};

Index read_index(const fs::path& path) {
  Index index{path, {}, {}};
  const nlohmann::json document = read_json_file(path);
  const auto weight_map = document.find("weight_map");
  if (weight_map == document.end() || !weight_map->is_object()) {
    throw InputError(path.string(), "has no object 'weight_map', expected an index of shards");
  }
  for (const auto& [tensor, value] : weight_map->items()) {
    const auto* name = value.get_ptr<const std::string*>();
    if (name == nullptr || name->empty() || fs::path(*name).filename() != *name || *name == ".." ||
        *name == ".") {
      throw InputError(path.string(),
                       fmt::format("names the shard {} for tensor '{}', expected a file of its own "
                                   "folder",
                                   escape_text(value.dump()), escape_text(tensor)));
    }
    index.shard_of.emplace(tensor, *name);
    index.shards.insert(*name);
  }
  if (index.shards.empty()) throw InputError(path.string(), "has an empty 'weight_map'");
  return index;
}

void check_shards_exist(const Index& index) {
  std::vector<std::string> missing;
  for (const std::string& shard : index.shards) {
    if (!is_there(index.path.parent_path() / shard)) missing.push_back(shard);
  }
  if (missing.empty()) return;
  throw InputError(
      index.path.string(),
      fmt::format("names {} shards, of which {} {} missing in its folder: {}", index.shards.size(),
                  missing.size(), missing.size() == 1 ? "is" : "are", some_of(missing)));
}

/// The index and the shards must name the same tensors at the same places.
void check_index(const Index& index, const std::vector<SafetensorsPart>& parts) {
  std::map<std::string_view, std::string> found_in;
  for (const SafetensorsPart& part : parts) {
    const std::string shard = part.file.path().filename().string();
    for (const StoredTensor& tensor : part.tensors) {
      const auto listed = index.shard_of.find(tensor.name);
      if (listed == index.shard_of.end()) {
        throw InputError(tensor_place(part.file.path(), tensor.name),
                         fmt::format("is not in the index {}", index.path.filename().string()));
      }
      if (listed->second != shard) {
        throw InputError(tensor_place(part.file.path(), tensor.name),
                         fmt::format("is in {} by the index {}", listed->second,
                                     index.path.filename().string()));
      }
      found_in.emplace(tensor.name, shard);
    }
  }
  for (const auto& [tensor, shard] : index.shard_of) {
    if (found_in.contains(tensor)) continue;
    throw InputError(index.path.string(), fmt::format("says tensor '{}' is in {}, which lacks it",
                                                      escape_text(tensor), shard));
  }
}

SafetensorsFiles open_indexed(const fs::path& index_path) {
  const Index index = read_index(index_path);
  check_shards_exist(index);
  SafetensorsFiles files;
  files.folder = index_path.parent_path();
  for (const std::string& shard : index.shards)
    files.parts.push_back(read_safetensors_part(files.folder / shard));
  check_index(index, files.parts);
  return files;
}

// ---- without an index

/// The file names of the checkpoint that the shard belongs to, in order.
std::vector<std::string> find_shards(const fs::path& folder, const ShardName& opened) {
  // KTransformers counts from 0 to the number that it calls the count.
  const bool from_zero =
      opened.number == 0 || is_there(folder / shard_file_name({opened.prefix, 0, opened.count}));
  std::vector<std::string> names;
  std::vector<std::string> missing;
  for (int number = from_zero ? 0 : 1; number <= opened.count; ++number) {
    names.push_back(shard_file_name({opened.prefix, number, opened.count}));
    if (!is_there(folder / names.back())) missing.push_back(names.back());
  }
  if (!missing.empty()) {
    throw InputError(
        (folder / shard_file_name(opened)).string(),
        fmt::format("is a shard of {}, of which {} {} missing in its folder: {}", names.size(),
                    missing.size(), missing.size() == 1 ? "is" : "are", some_of(missing)));
  }
  return names;
}

void check_unique(const std::vector<SafetensorsPart>& parts) {
  std::map<std::string_view, const SafetensorsPart*> seen;
  for (const SafetensorsPart& part : parts) {
    for (const StoredTensor& tensor : part.tensors) {
      const auto [first, is_new] = seen.emplace(tensor.name, &part);
      if (is_new) continue;
      throw InputError(tensor_place(part.file.path(), tensor.name),
                       fmt::format("is in {} too, expected each tensor in one shard",
                                   first->second->file.path().filename().string()));
    }
  }
}

SafetensorsFiles open_by_name(const fs::path& path) {
  SafetensorsFiles files;
  files.folder = path.parent_path();
  if (const auto shard = parse_shard_name(path.filename().string())) {
    for (const std::string& name : find_shards(files.folder, *shard))
      files.parts.push_back(read_safetensors_part(files.folder / name));
    check_unique(files.parts);
  } else {
    files.parts.push_back(read_safetensors_part(path));
  }
  return files;
}

// ---- from a file or a folder

std::vector<std::string> names_if(const fs::path& folder, bool (*wanted)(const fs::path&)) {
  std::vector<std::string> names = list_files(folder);
  std::erase_if(names, [&](const std::string& name) { return !wanted(name); });
  return names;
}

/// The index of the folder that names the file, if there is one.
std::optional<fs::path> find_index_of(const fs::path& file) {
  const fs::path folder = file.parent_path();
  for (const std::string& name :
       names_if(folder.empty() ? "." : folder, is_safetensors_index_name)) {
    if (read_index(folder / name).shards.contains(file.filename().string())) return folder / name;
  }
  return std::nullopt;
}

SafetensorsFiles open_file(const fs::path& path) {
  if (is_safetensors_index_name(path)) return open_indexed(path);
  const auto index = find_index_of(path);
  return index ? open_indexed(*index) : open_by_name(path);
}

SafetensorsFiles open_folder(const fs::path& folder) {
  const std::vector<std::string> indices = names_if(folder, is_safetensors_index_name);
  const std::vector<std::string> names = names_if(folder, is_safetensors_name);
  if (indices.size() > 1) {
    throw InputError(folder.string(),
                     fmt::format("has {} safetensors indices, expected one or the path of one of "
                                 "them: {}",
                                 indices.size(), some_of(indices)));
  }
  if (names.empty()) {
    if (!indices.empty()) return open_indexed(folder / indices.front());  // names what is missing
    throw InputError(folder.string(), "has no safetensors file");
  }
  SafetensorsFiles files = indices.empty() ? open_by_name(folder / names.front())
                                           : open_indexed(folder / indices.front());
  std::set<std::string> read;
  for (const SafetensorsPart& part : files.parts) read.insert(part.file.path().filename().string());
  std::vector<std::string> others = names;
  std::erase_if(others, [&](const std::string& name) { return read.contains(name); });
  if (others.empty()) return files;
  if (indices.empty()) {
    throw InputError(folder.string(),
                     fmt::format("has {} safetensors files that are not shards of one checkpoint, "
                                 "and no index, expected the path of one of them: {}",
                                 names.size(), some_of(names)));
  }
  files.notes.push_back(fmt::format(
      "{} has {} safetensors {} that its index doesn't name, not "
      "read: {}",
      folder.string(), others.size(), others.size() == 1 ? "file" : "files", some_of(others)));
  return files;
}

}  // namespace

std::optional<ShardName> parse_shard_name(std::string_view file_name) {
  constexpr std::size_t kDigits = 5;
  constexpr std::string_view kMiddle = "-of-";
  constexpr std::size_t kTail = 1 + kDigits + kMiddle.size() + kDigits;  // "-00001-of-00003"
  if (!file_name.ends_with(kExtension)) return std::nullopt;
  const std::string_view stem = file_name.substr(0, file_name.size() - kExtension.size());
  if (stem.size() <= kTail) return std::nullopt;
  const std::string_view tail = stem.substr(stem.size() - kTail);
  const auto number_at = [&](std::size_t at) {
    int number = 0;
    for (char digit : tail.substr(at, kDigits)) {
      if (digit < '0' || digit > '9') return -1;
      number = 10 * number + (digit - '0');
    }
    return number;
  };
  const int number = number_at(1);
  const int count = number_at(1 + kDigits + kMiddle.size());
  if (tail[0] != '-' || tail.substr(1 + kDigits, kMiddle.size()) != kMiddle || number < 0 ||
      number > count) {
    return std::nullopt;
  }
  return ShardName{std::string(stem.substr(0, stem.size() - kTail)), number, count};
}

bool is_safetensors_name(const fs::path& path) { return has_extension(path, kExtension); }

bool is_safetensors_index_name(const fs::path& path) {
  return path.filename().string().ends_with(kIndexExtension);
}

SafetensorsFiles open_safetensors_files(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) ? open_folder(path) : open_file(path);
}

}  // namespace ktjit::model
