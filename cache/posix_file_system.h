// The file system of the operating system. See file_system.h for what each call promises.
#pragma once

#include "cache/file_system.h"

namespace ktjit::cache {

class PosixFileSystem : public FileSystem {
 public:
  std::optional<FileHandle> open_directory(const std::string& path) override;
  std::optional<FileHandle> open_directory_at(const FileHandle& dir,
                                              const std::string& name) override;
  bool make_directory(const std::string& path, std::uint32_t mode) override;
  bool make_directory_at(const FileHandle& dir, const std::string& name,
                         std::uint32_t mode) override;
  std::vector<std::string> list(const FileHandle& dir) override;
  bool is_writable(const FileHandle& dir) override;

  std::optional<FileHandle> open_file_at(const FileHandle& dir, const std::string& name) override;
  std::optional<FileHandle> open_for_update_at(const FileHandle& dir,
                                               const std::string& name) override;
  std::optional<FileHandle> create_file_at(const FileHandle& dir, const std::string& name,
                                           std::uint32_t mode) override;
  std::optional<FileHandle> open_file(const std::string& path) override;
  std::size_t read_at(const FileHandle& file, char* to, std::size_t bytes,
                      std::uint64_t offset) override;
  std::size_t read_some(const FileHandle& file, char* to, std::size_t bytes) override;
  std::size_t write_some(const FileHandle& file, std::string_view bytes) override;
  void write_at(const FileHandle& file, std::uint64_t offset, std::string_view bytes) override;
  void sync(const FileHandle& file) override;
  void set_mode(const FileHandle& file, std::uint32_t mode) override;
  void close(int descriptor) noexcept override;

  bool try_lock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes,
                LockKind kind) override;
  void unlock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes) override;

  FileInfo info(const FileHandle& file) override;
  std::optional<FileInfo> info_at(const FileHandle& dir, const std::string& name) override;
  void rename_at(const FileHandle& dir, const std::string& from, const std::string& to) override;
  bool remove_file_at(const FileHandle& dir, const std::string& name) override;
  bool remove_directory_at(const FileHandle& dir, const std::string& name) override;

  std::uint32_t user() override;
  std::chrono::system_clock::time_point now() override;
};

/// The one instance; it has no state.
FileSystem& posix_file_system();

}  // namespace ktjit::cache
