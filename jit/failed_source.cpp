// A fresh name each time: the folder may be shared with other users, as /tmp is.
#include "jit/failed_source.h"

#include <cstdlib>
#include <exception>
#include <unistd.h>

namespace ktjit {
namespace {

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// Letters, digits, '_' and '-' only: the name comes from a spec, not from us.
std::string file_name_part(std::string_view name) {
  std::string part;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    part += plain ? c : '_';
  }
  constexpr std::size_t kMaxLength = 150;  // far below what file systems allow
  return part.substr(0, kMaxLength);
}

}  // namespace

std::string save_failed_source(const std::filesystem::path& folder, std::string_view name,
                               std::string_view extension, std::string_view source) noexcept try {
  const std::filesystem::path in = folder.empty() ? std::filesystem::temp_directory_path() : folder;
  std::string path = in / ("ktjit-" + file_name_part(name) + "-XXXXXX" + std::string(extension));
  const int descriptor = ::mkstemps(path.data(), static_cast<int>(extension.size()));
  if (descriptor < 0) return "";
  const bool written = write_all(descriptor, source);
  if (::close(descriptor) == 0 && written) return path;
  ::unlink(path.c_str());
  return "";
} catch (const std::exception&) {
  return "";  // out of memory, or no folder for temporary files: the error goes out without a file
}

}  // namespace ktjit
