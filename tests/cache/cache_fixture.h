// What the cache's tests share: a folder that goes away, a key and an entry to work on, a log that
// remembers, and whole files in and out.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "cache/disk_cache.h"
#include "core/error.h"

namespace ktjit::cache::test {

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "ktjit-test-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw Error("no temporary folder");
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  /// A root for the cache, not made yet.
  std::string root() const { return (path_ / "cache").string(); }

 private:
  std::filesystem::path path_;
};

inline CacheKey make_key(std::string_view text = "__global__ void f() {}") {
  CacheKey key;
  key.request.add("text", text).add("entry", "f").add("target", "sm_86").add("kind", "cubin");
  key.compiler.add("prelude", "").add("flag", "-ftz=false").add("identity", "nvrtc 12.4");
  return key;
}

inline Entry make_entry(std::string_view artifact = "cubin bytes") {
  Entry entry;
  entry.manifest = {{"registers", 40}, {"spilled_bytes", 0}};
  entry.blobs.add("artifact", artifact).add("log", "");
  return entry;
}

/// Warnings in the order in which they came.
struct Log {
  std::vector<std::string> lines;
  LogHook hook() {
    return [this](std::string_view line) { lines.emplace_back(line); };
  }
};

inline DiskCacheOptions options_for(const std::string& root, Log& log,
                                    FileSystem& files = posix_file_system()) {
  DiskCacheOptions options;
  options.writable = RootOptions{root, false};
  options.log = log.hook();
  options.files = &files;
  return options;
}

inline EntryName name_of(const CacheKey& key) {
  return {key.request_digest(), key.artifact_digest()};
}

inline std::filesystem::path shard_path(const std::string& root, const CacheKey& key) {
  return std::filesystem::path(root) / kLayoutFolder / name_of(key).shard();
}

inline std::filesystem::path entry_path(const std::string& root, const CacheKey& key) {
  return shard_path(root, key) / name_of(key).file_name();
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary);
  out << bytes;
}

/// Writes the entry of `key`, as if last used at `used`; makes the folders.
inline void put_entry(const std::string& root, const CacheKey& key, std::chrono::sys_seconds used,
                      const Entry& entry = make_entry()) {
  namespace fs = std::filesystem;
  fs::create_directories(shard_path(root, key));
  for (const fs::path& path :
       {fs::path(root), fs::path(root) / kLayoutFolder, shard_path(root, key)}) {
    fs::permissions(path, fs::perms::owner_all);
  }
  write_file(entry_path(root, key), encode_entry(key.hashed().text, entry, used));
  fs::permissions(entry_path(root, key), fs::perms::owner_read | fs::perms::owner_write);
}

}  // namespace ktjit::cache::test
