// A file system that does what the real one does, until a chosen call fails; and one that writes
// and reads a byte at a time.
#pragma once

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "cache/posix_file_system.h"

namespace ktjit::cache::test {

class FaultyFileSystem : public PosixFileSystem {
 public:
  /// The `n`-th call from now, counted from 0, fails with `error_number`, and so do all after it if
  /// `from_then_on`.
  void fail_call(int n, int error_number, bool from_then_on = false) {
    calls_ = 0;
    failing_call_ = n;
    error_number_ = error_number;
    from_then_on_ = from_then_on;
    failed_ = false;
    failed_call_.clear();
  }
  /// Every call of this name fails.
  void fail_calls_named(std::string name, int error_number) {
    failing_name_ = std::move(name);
    error_number_ = error_number;
  }
  /// True if a call has failed since `fail_call`.
  bool has_failed() const { return failed_; }

  /// Name of the first call that has failed since `fail_call`.
  const std::string& failed_call() const { return failed_call_; }

  /// Reads and writes are this short.
  std::size_t most_bytes = std::numeric_limits<std::size_t>::max();
  /// Added to the time.
  std::chrono::hours later{0};
  /// Names of all calls.
  std::vector<std::string> calls;

  std::optional<FileHandle> open_directory(const std::string& path) override {
    step("open_directory");
    return PosixFileSystem::open_directory(path);
  }
  std::optional<FileHandle> open_directory_at(const FileHandle& dir,
                                              const std::string& name) override {
    step("open_directory_at");
    return PosixFileSystem::open_directory_at(dir, name);
  }
  bool make_directory(const std::string& path, std::uint32_t mode) override {
    step("make_directory");
    return PosixFileSystem::make_directory(path, mode);
  }
  bool make_directory_at(const FileHandle& dir, const std::string& name,
                         std::uint32_t mode) override {
    step("make_directory_at");
    return PosixFileSystem::make_directory_at(dir, name, mode);
  }
  std::vector<std::string> list(const FileHandle& dir) override {
    step("list");
    return PosixFileSystem::list(dir);
  }
  std::optional<FileHandle> open_file_at(const FileHandle& dir, const std::string& name) override {
    step("open_file_at");
    return PosixFileSystem::open_file_at(dir, name);
  }
  std::optional<FileHandle> open_for_update_at(const FileHandle& dir,
                                               const std::string& name) override {
    step("open_for_update_at");
    return PosixFileSystem::open_for_update_at(dir, name);
  }
  std::optional<FileHandle> create_file_at(const FileHandle& dir, const std::string& name,
                                           std::uint32_t mode) override {
    step("create_file_at");
    return PosixFileSystem::create_file_at(dir, name, mode);
  }
  std::optional<FileHandle> open_file(const std::string& path) override {
    step("open_file");
    return PosixFileSystem::open_file(path);
  }
  std::size_t read_at(const FileHandle& file, char* to, std::size_t bytes,
                      std::uint64_t offset) override {
    step("read_at");
    return PosixFileSystem::read_at(file, to, std::min(bytes, most_bytes), offset);
  }
  std::size_t read_some(const FileHandle& file, char* to, std::size_t bytes) override {
    step("read_some");
    return PosixFileSystem::read_some(file, to, std::min(bytes, most_bytes));
  }
  std::size_t write_some(const FileHandle& file, std::string_view bytes) override {
    step("write_some");
    return PosixFileSystem::write_some(file, bytes.substr(0, most_bytes));
  }
  void write_at(const FileHandle& file, std::uint64_t offset, std::string_view bytes) override {
    step("write_at");
    PosixFileSystem::write_at(file, offset, bytes);
  }
  void set_mode(const FileHandle& file, std::uint32_t mode) override {
    step("set_mode");
    PosixFileSystem::set_mode(file, mode);
  }
  bool try_lock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes,
                LockKind kind) override {
    step("try_lock");
    return PosixFileSystem::try_lock(file, offset, bytes, kind);
  }
  void unlock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes) override {
    step("unlock");
    PosixFileSystem::unlock(file, offset, bytes);
  }
  void sync(const FileHandle& file) override {
    step("sync");
    PosixFileSystem::sync(file);
  }
  FileInfo info(const FileHandle& file) override {
    step("info");
    return PosixFileSystem::info(file);
  }
  std::optional<FileInfo> info_at(const FileHandle& dir, const std::string& name) override {
    step("info_at");
    return PosixFileSystem::info_at(dir, name);
  }
  void rename_at(const FileHandle& dir, const std::string& from, const std::string& to) override {
    step("rename_at");
    PosixFileSystem::rename_at(dir, from, to);
  }
  bool remove_file_at(const FileHandle& dir, const std::string& name) override {
    step("remove_file_at");
    return PosixFileSystem::remove_file_at(dir, name);
  }
  bool remove_directory_at(const FileHandle& dir, const std::string& name) override {
    step("remove_directory_at");
    return PosixFileSystem::remove_directory_at(dir, name);
  }
  std::chrono::system_clock::time_point now() override { return PosixFileSystem::now() + later; }

 private:
  void step(const char* call) {
    calls.emplace_back(call);
    const int n = calls_++;
    const bool chosen = n == failing_call_ || (from_then_on_ && n > failing_call_);
    if (!chosen && failing_name_ != call) return;
    failed_ = true;
    if (failed_call_.empty()) failed_call_ = call;
    throw FileError(call, error_number_);
  }

  int calls_ = 0;
  int failing_call_ = -1;
  int error_number_ = EIO;
  bool from_then_on_ = false;
  bool failed_ = false;
  std::string failed_call_;
  std::string failing_name_;
};

}  // namespace ktjit::cache::test
