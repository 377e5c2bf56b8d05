#include "model/folder_listing.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <system_error>

#include "core/error.h"

namespace ktjit::model {

namespace fs = std::filesystem;

std::vector<std::string> list_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_directory(ignored)) names.push_back(entry->path().filename().string());
  }
  if (error)
    throw InputError(folder.string(), fmt::format("cannot be listed: {}", error.message()));
  std::sort(names.begin(), names.end());
  return names;
}

bool has_extension(const fs::path& path, std::string_view lower_case) {
  const std::string extension = path.extension().string();
  return std::equal(extension.begin(), extension.end(), lower_case.begin(), lower_case.end(),
                    [](unsigned char a, unsigned char b) { return std::tolower(a) == b; });
}

}  // namespace ktjit::model
