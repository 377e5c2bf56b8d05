// The seam between the disk cache and the disk: every file call that the cache makes is one
// function here, so that a test can make any of them fail. posix_file_system.h is the real one.
//
// Outcomes that the cache expects are values (an absent file, a name that is taken); everything
// else is a FileError, which stays inside this folder.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"

namespace ktjit::cache {

/// A file call that failed. `call` says what was tried on what: "open entry.ktk".
class FileError : public Error {
 public:
  FileError(std::string_view call, std::error_code code);
  FileError(std::string_view call, int error_number);

  std::error_code code() const { return code_; }

 private:
  std::error_code code_;
};

enum class FileKind { kFile, kDirectory, kLink, kOther };

struct FileInfo {
  FileKind kind = FileKind::kOther;
  std::uint32_t owner = 0;            // user id
  std::uint32_t mode = 0;             // permission bits, 0 to 07777
  std::uint64_t size_bytes = 0;       // what can be read
  std::uint64_t allocated_bytes = 0;  // what it takes of the disk
  std::chrono::system_clock::time_point modified;
};

enum class LockKind { kShared, kExclusive };

class FileSystem;

/// An open file or folder; closes itself.
class FileHandle {
 public:
  FileHandle(FileSystem& owner, int descriptor) : owner_(&owner), descriptor_(descriptor) {}
  FileHandle(FileHandle&& other) noexcept
      : owner_(other.owner_), descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~FileHandle();

  int descriptor() const { return descriptor_; }

  /// Gives the descriptor up without closing it.
  int release() { return std::exchange(descriptor_, -1); }

 private:
  FileSystem* owner_;
  int descriptor_;
};

/// Threads: safe to call from several threads.
/// Errors:  FileError from every function that does not say otherwise.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Folders. `_at` takes one name in an open folder and never follows a link there.
  /// Opens a root; links on the way are the user's own and are followed. Nothing if it is absent.
  virtual std::optional<FileHandle> open_directory(const std::string& path) = 0;
  virtual std::optional<FileHandle> open_directory_at(const FileHandle& dir,
                                                      const std::string& name) = 0;
  /// False if the name is taken.
  virtual bool make_directory(const std::string& path, std::uint32_t mode) = 0;
  virtual bool make_directory_at(const FileHandle& dir, const std::string& name,
                                 std::uint32_t mode) = 0;
  /// Names in the folder, sorted, without "." and "..".
  virtual std::vector<std::string> list(const FileHandle& dir) = 0;
  /// True if this process may make files in the folder.
  virtual bool is_writable(const FileHandle& dir) = 0;

  // Files.
  /// Opens for reading. Nothing if it is absent; a FileError with ELOOP if it is a link.
  virtual std::optional<FileHandle> open_file_at(const FileHandle& dir,
                                                 const std::string& name) = 0;
  /// Opens for reading and writing in place. Otherwise as `open_file_at`.
  virtual std::optional<FileHandle> open_for_update_at(const FileHandle& dir,
                                                       const std::string& name) = 0;
  /// Opens a new file for reading and writing. Nothing if the name is taken.
  virtual std::optional<FileHandle> create_file_at(const FileHandle& dir, const std::string& name,
                                                   std::uint32_t mode) = 0;
  /// Opens whatever has this path for reading; links are followed. Nothing if it is absent.
  virtual std::optional<FileHandle> open_file(const std::string& path) = 0;
  /// Reads up to `bytes` from `offset` on, and moves nothing; 0 at the end of the file.
  virtual std::size_t read_at(const FileHandle& file, char* to, std::size_t bytes,
                              std::uint64_t offset) = 0;
  /// Reads up to `bytes`; 0 at the end of the file.
  virtual std::size_t read_some(const FileHandle& file, char* to, std::size_t bytes) = 0;
  /// Writes at least one of `bytes`; returns how many.
  virtual std::size_t write_some(const FileHandle& file, std::string_view bytes) = 0;
  /// Writes all of `bytes` at `offset`, over what is there.
  virtual void write_at(const FileHandle& file, std::uint64_t offset, std::string_view bytes) = 0;
  virtual void sync(const FileHandle& file) = 0;
  /// Sets the permission bits, whatever the umask.
  virtual void set_mode(const FileHandle& file, std::uint32_t mode) = 0;
  virtual void close(int descriptor) noexcept = 0;

  // Locks of byte ranges, of an open file description each: they exclude other descriptions, in
  // this process too, and end with the last descriptor of theirs. Bytes need not be in the file.
  /// False if another description has a lock in the way. `bytes` 0: to the end of all offsets.
  virtual bool try_lock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes,
                        LockKind kind) = 0;
  virtual void unlock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes) = 0;

  // Names.
  virtual FileInfo info(const FileHandle& file) = 0;
  /// Of the name itself, also if it is a link. Nothing if it is absent.
  virtual std::optional<FileInfo> info_at(const FileHandle& dir, const std::string& name) = 0;
  virtual void rename_at(const FileHandle& dir, const std::string& from, const std::string& to) = 0;
  /// False if it is absent.
  virtual bool remove_file_at(const FileHandle& dir, const std::string& name) = 0;
  /// False if it is absent or not empty.
  virtual bool remove_directory_at(const FileHandle& dir, const std::string& name) = 0;

  // The process.
  virtual std::uint32_t user() = 0;
  virtual std::chrono::system_clock::time_point now() = 0;
};

/// Does `work` again if it failed with ESTALE: what a network file system says of a file or folder
/// that was replaced while it was open.
template <typename Work>
auto once_more_if_stale(Work work) {
  try {
    return work();
  } catch (const FileError& error) {
    if (error.code().value() != ESTALE) throw;
  }
  return work();
}

}  // namespace ktjit::cache
