#include "cache/atomic_file.h"

#include <atomic>
#include <cerrno>
#include <fmt/format.h>
#include <unistd.h>

namespace ktjit::cache {
namespace {

constexpr std::string_view kPrefix = "writing-";
constexpr std::string_view kSuffix = ".tmp";

// A name that no other writer uses: the process, the time (two containers that share a folder may
// both be process 1) and a count within the process. create_file_at refuses a taken name all the
// same.
std::string make_temporary_name(FileSystem& files) {
  static std::atomic<std::uint64_t> count{0};
  const auto ticks = static_cast<std::uint64_t>(files.now().time_since_epoch().count());
  return fmt::format("{}{}-{:x}-{}{}", kPrefix, ::getpid(), ticks, count++, kSuffix);
}

// Removes the temporary unless it got its final name.
class TemporaryGuard {
 public:
  TemporaryGuard(FileSystem& files, const FileHandle& dir, const std::string& name)
      : files_(files), dir_(dir), name_(name) {}
  TemporaryGuard(const TemporaryGuard&) = delete;
  TemporaryGuard& operator=(const TemporaryGuard&) = delete;
  ~TemporaryGuard() {
    if (renamed_) return;
    try {
      files_.remove_file_at(dir_, name_);
    } catch (const FileError&) {
      // The failure that brought us here is the one to report.
    }
  }

  void renamed() { renamed_ = true; }

 private:
  FileSystem& files_;
  const FileHandle& dir_;
  const std::string& name_;
  bool renamed_ = false;
};

}  // namespace

void write_atomically(FileSystem& files, const FileHandle& dir, const std::string& name,
                      std::string_view bytes, std::uint32_t mode, const WriteOptions& options) {
  const std::string temporary = make_temporary_name(files);
  const auto file = files.create_file_at(dir, temporary, mode);
  if (!file) throw FileError("create " + temporary, EEXIST);
  TemporaryGuard guard(files, dir, temporary);
  while (!bytes.empty()) bytes.remove_prefix(files.write_some(*file, bytes));
  if (options.exact_mode) files.set_mode(*file, mode);
  if (options.sync) files.sync(*file);
  files.rename_at(dir, temporary, name);
  guard.renamed();
}

bool is_temporary_name(std::string_view name) {
  return name.starts_with(kPrefix) && name.ends_with(kSuffix);
}

}  // namespace ktjit::cache
