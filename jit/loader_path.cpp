// Asks dlinfo for the folders, and reads glibc's cache file. Layout of the file: glibc,
// sysdeps/generic/dl-cache.h, "struct cache_file_new".
#include "jit/loader_path.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <link.h>
#include <sstream>
#include <string>
#include <utility>

namespace ktjit {
namespace {

constexpr std::string_view kCacheMagic = "glibc-ld.so.cache1.1";

struct CacheHeader {
  char magic[20];
  std::uint32_t entries;
  std::uint32_t string_bytes;
  std::uint8_t flags;
  std::uint8_t padding[3];
  std::uint32_t extension_offset;
  std::uint32_t unused[3];
};
static_assert(sizeof(CacheHeader) == 48);

struct CacheEntry {
  std::int32_t flags;
  std::uint32_t name_offset;  // from the start of the file, as path_offset
  std::uint32_t path_offset;
  std::uint32_t os_version;
  std::uint64_t hardware;
};
static_assert(sizeof(CacheEntry) == 24);

std::string_view text_at(std::string_view file, std::size_t offset) {
  if (offset >= file.size()) return {};
  const std::size_t end = file.find('\0', offset);
  if (end == std::string_view::npos) return {};
  return file.substr(offset, end - offset);
}

}  // namespace

std::vector<std::filesystem::path> loader_folders() {
  std::vector<std::filesystem::path> folders;
  void* self = ::dlopen(nullptr, RTLD_LAZY);
  if (self == nullptr) return folders;
  Dl_serinfo sizes = {};
  if (::dlinfo(self, RTLD_DI_SERINFOSIZE, &sizes) == 0) {
    std::vector<std::max_align_t> storage(sizes.dls_size / sizeof(std::max_align_t) + 1);
    auto* info = reinterpret_cast<Dl_serinfo*>(storage.data());
    if (::dlinfo(self, RTLD_DI_SERINFOSIZE, info) == 0 &&
        ::dlinfo(self, RTLD_DI_SERINFO, info) == 0) {
      // The struct declares one element, the loader wrote dls_cnt.
      const Dl_serpath* paths = info->dls_serpath;
      for (unsigned i = 0; i < info->dls_cnt; ++i) {
        const char* folder = paths[i].dls_name;
        if (*folder != '\0') folders.emplace_back(folder);
      }
    }
  }
  ::dlclose(self);
  return folders;
}

std::vector<std::filesystem::path> find_in_loader_cache(std::string_view prefix,
                                                        const std::filesystem::path& cache) {
  std::vector<std::filesystem::path> found;
  std::ifstream stream(cache, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();  // a folder reads as nothing
  const std::string file = std::move(text).str();
  CacheHeader header;
  if (file.size() < sizeof header) return found;
  std::memcpy(&header, file.data(), sizeof header);
  if (std::string_view(header.magic, sizeof header.magic) != kCacheMagic ||
      header.entries > (file.size() - sizeof header) / sizeof(CacheEntry)) {
    return found;
  }
  for (std::size_t i = 0; i < header.entries; ++i) {
    CacheEntry entry;
    std::memcpy(&entry, file.data() + sizeof header + i * sizeof entry, sizeof entry);
    if (!text_at(file, entry.name_offset).starts_with(prefix)) continue;
    const std::string_view path = text_at(file, entry.path_offset);
    if (!path.empty()) found.emplace_back(path);
  }
  return found;
}

}  // namespace ktjit
