#include "model/open_model.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "model/gguf_reader.h"
#include "model/gguf_split.h"

namespace ktjit::model {
namespace {

namespace fs = std::filesystem;

struct FolderListing {
  std::vector<std::string> models;       ///< file names; of a split model one part, the first there
  std::vector<std::string> safetensors;  ///< not served yet, but worth a word
  std::size_t files = 0;
};

bool has_extension(const fs::path& path, std::string_view wanted) {
  const std::string extension = path.extension().string();
  return std::equal(extension.begin(), extension.end(), wanted.begin(), wanted.end(),
                    [](unsigned char a, unsigned char b) { return std::tolower(a) == b; });
}

FolderListing list_folder(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_directory(ignored)) names.push_back(entry->path().filename().string());
  }
  if (error)
    throw InputError(folder.string(), fmt::format("cannot be listed: {}", error.message()));
  std::sort(names.begin(), names.end());  // parts of a split model come in order

  FolderListing listing;
  listing.files = names.size();
  std::set<std::string> split_models;
  for (const std::string& name : names) {
    if (has_extension(name, ".safetensors")) listing.safetensors.push_back(name);
    if (!has_extension(name, ".gguf")) continue;
    const auto split = parse_split_name(name);
    if (split && !split_models.insert(fmt::format("{}/{}", split->prefix, split->count)).second) {
      continue;
    }
    listing.models.push_back(name);
  }
  return listing;
}

fs::path find_model_in(const fs::path& folder) {
  constexpr std::size_t kMostNames = 8;
  const FolderListing listing = list_folder(folder);
  if (listing.models.empty()) {
    const std::string instead =
        listing.safetensors.empty()
            ? fmt::format("none of its {} files is one", listing.files)
            : fmt::format("it has {} safetensors files, which are not read yet",
                          listing.safetensors.size());
    throw InputError(folder.string(),
                     fmt::format("has no model file, looked for *.gguf; {}", instead));
  }
  if (listing.models.size() > 1) {
    const auto shown = std::min(listing.models.size(), kMostNames);
    throw InputError(
        folder.string(),
        fmt::format("has {} models, expected one or the path of one of them: {}{}",
                    listing.models.size(),
                    fmt::join(listing.models.begin(), listing.models.begin() + shown, ", "),
                    shown < listing.models.size() ? ", ..." : ""));
  }
  return folder / listing.models.front();
}

}  // namespace

Model open_model(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    throw InputError(path.string(), "is missing: no such file or folder");
  }
  return read_gguf(fs::is_directory(status) ? find_model_in(path) : path);
}

}  // namespace ktjit::model
