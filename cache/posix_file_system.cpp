#include "cache/posix_file_system.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace ktjit::cache {
namespace {

[[noreturn]] void fail(std::string_view call, const std::string& name, int error_number) {
  throw FileError(fmt::format("{} {}", call, name), error_number);
}

// Repeats a call that a signal interrupted.
template <typename Call>
auto retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

std::optional<FileHandle> open_or_absent(FileSystem& owner, int at, const std::string& name,
                                         int flags) {
  const int descriptor = retry([&] { return ::openat(at, name.c_str(), flags | O_CLOEXEC); });
  if (descriptor >= 0) return FileHandle(owner, descriptor);
  if (errno == ENOENT) return std::nullopt;
  fail("open", name, errno);
}

bool make_directory_or_taken(int at, const std::string& name, std::uint32_t mode) {
  if (::mkdirat(at, name.c_str(), mode) == 0) return true;
  if (errno == EEXIST) return false;
  fail("make folder", name, errno);
}

struct flock to_range(std::uint64_t offset, std::uint64_t bytes) {
  struct flock range{};  // l_pid has to be 0 for locks of descriptions
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(offset);
  range.l_len = static_cast<off_t>(bytes);
  return range;
}

FileInfo to_info(const struct stat& status) {
  FileInfo info;
  if (S_ISREG(status.st_mode)) info.kind = FileKind::kFile;
  if (S_ISDIR(status.st_mode)) info.kind = FileKind::kDirectory;
  if (S_ISLNK(status.st_mode)) info.kind = FileKind::kLink;
  info.owner = status.st_uid;
  info.mode = status.st_mode & 07777u;
  info.size_bytes = static_cast<std::uint64_t>(status.st_size);
  info.allocated_bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;  // POSIX's unit
  info.modified = std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::seconds(status.st_mtim.tv_sec) +
          std::chrono::nanoseconds(status.st_mtim.tv_nsec)));
  return info;
}

}  // namespace

std::optional<FileHandle> PosixFileSystem::open_directory(const std::string& path) {
  return open_or_absent(*this, AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

std::optional<FileHandle> PosixFileSystem::open_directory_at(const FileHandle& dir,
                                                             const std::string& name) {
  return open_or_absent(*this, dir.descriptor(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

bool PosixFileSystem::make_directory(const std::string& path, std::uint32_t mode) {
  return make_directory_or_taken(AT_FDCWD, path, mode);
}

bool PosixFileSystem::make_directory_at(const FileHandle& dir, const std::string& name,
                                        std::uint32_t mode) {
  return make_directory_or_taken(dir.descriptor(), name, mode);
}

std::vector<std::string> PosixFileSystem::list(const FileHandle& dir) {
  // A second descriptor: closedir() closes the one it reads from.
  const int descriptor =
      retry([&] { return ::openat(dir.descriptor(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (descriptor < 0) fail("open", "folder to list", errno);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(descriptor), ::closedir);
  if (!stream) {
    const int error_number = errno;
    ::close(descriptor);
    fail("list", "folder", error_number);
  }
  std::vector<std::string> names;
  for (;;) {
    errno = 0;  // readdir() tells its end from an error by errno alone
    const dirent* item = ::readdir(stream.get());
    if (!item && errno != 0) fail("list", "folder", errno);
    if (!item) break;
    const std::string_view name = item->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool PosixFileSystem::is_writable(const FileHandle& dir) {
  return ::faccessat(dir.descriptor(), ".", W_OK | X_OK, AT_EACCESS) == 0;
}

std::optional<FileHandle> PosixFileSystem::open_file_at(const FileHandle& dir,
                                                        const std::string& name) {
  // O_NONBLOCK: opening a pipe that somebody put there must not wait for a writer.
  return open_or_absent(*this, dir.descriptor(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
}

std::optional<FileHandle> PosixFileSystem::open_for_update_at(const FileHandle& dir,
                                                              const std::string& name) {
  return open_or_absent(*this, dir.descriptor(), name, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
}

std::optional<FileHandle> PosixFileSystem::create_file_at(const FileHandle& dir,
                                                          const std::string& name,
                                                          std::uint32_t mode) {
  const int descriptor = retry([&] {
    return ::openat(dir.descriptor(), name.c_str(),
                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  });
  if (descriptor >= 0) return FileHandle(*this, descriptor);
  if (errno == EEXIST) return std::nullopt;
  fail("create", name, errno);
}

std::optional<FileHandle> PosixFileSystem::open_file(const std::string& path) {
  return open_or_absent(*this, AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
}

std::size_t PosixFileSystem::read_at(const FileHandle& file, char* to, std::size_t bytes,
                                     std::uint64_t offset) {
  const auto done =
      retry([&] { return ::pread(file.descriptor(), to, bytes, static_cast<off_t>(offset)); });
  if (done < 0) fail("read", "pack", errno);
  return static_cast<std::size_t>(done);
}

std::size_t PosixFileSystem::read_some(const FileHandle& file, char* to, std::size_t bytes) {
  const auto done = retry([&] { return ::read(file.descriptor(), to, bytes); });
  if (done < 0) fail("read", "entry", errno);
  return static_cast<std::size_t>(done);
}

std::size_t PosixFileSystem::write_some(const FileHandle& file, std::string_view bytes) {
  const auto done = retry([&] { return ::write(file.descriptor(), bytes.data(), bytes.size()); });
  if (done < 0) fail("write", "entry", errno);
  if (done == 0) fail("write", "entry", EIO);
  return static_cast<std::size_t>(done);
}

void PosixFileSystem::write_at(const FileHandle& file, std::uint64_t offset,
                               std::string_view bytes) {
  while (!bytes.empty()) {
    const auto done = retry([&] {
      return ::pwrite(file.descriptor(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    });
    if (done < 0) fail("write", "in place", errno);
    if (done == 0) fail("write", "in place", EIO);
    offset += static_cast<std::uint64_t>(done);
    bytes.remove_prefix(static_cast<std::size_t>(done));
  }
}

void PosixFileSystem::sync(const FileHandle& file) {
  // EINVAL: a file system that has no such call. The checksum covers what a power cut then leaves.
  if (retry([&] { return ::fsync(file.descriptor()); }) != 0 && errno != EINVAL) {
    fail("sync", "entry", errno);
  }
}

void PosixFileSystem::set_mode(const FileHandle& file, std::uint32_t mode) {
  if (::fchmod(file.descriptor(), mode) != 0) fail("set permissions", "of a new file", errno);
}

void PosixFileSystem::close(int descriptor) noexcept { ::close(descriptor); }

bool PosixFileSystem::try_lock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes,
                               LockKind kind) {
  struct flock range = to_range(offset, bytes);
  range.l_type = kind == LockKind::kExclusive ? F_WRLCK : F_RDLCK;
  if (retry([&] { return ::fcntl(file.descriptor(), F_OFD_SETLK, &range); }) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  fail("lock", "a file", errno);
}

void PosixFileSystem::unlock(const FileHandle& file, std::uint64_t offset, std::uint64_t bytes) {
  struct flock range = to_range(offset, bytes);
  range.l_type = F_UNLCK;
  if (retry([&] { return ::fcntl(file.descriptor(), F_OFD_SETLK, &range); }) != 0) {
    fail("unlock", "a file", errno);
  }
}

FileInfo PosixFileSystem::info(const FileHandle& file) {
  struct stat status;
  if (::fstat(file.descriptor(), &status) != 0) fail("stat", "open file", errno);
  return to_info(status);
}

std::optional<FileInfo> PosixFileSystem::info_at(const FileHandle& dir, const std::string& name) {
  struct stat status;
  if (::fstatat(dir.descriptor(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) {
    return to_info(status);
  }
  if (errno == ENOENT) return std::nullopt;
  fail("stat", name, errno);
}

void PosixFileSystem::rename_at(const FileHandle& dir, const std::string& from,
                                const std::string& to) {
  if (::renameat(dir.descriptor(), from.c_str(), dir.descriptor(), to.c_str()) != 0) {
    fail("rename to", to, errno);
  }
}

bool PosixFileSystem::remove_file_at(const FileHandle& dir, const std::string& name) {
  if (::unlinkat(dir.descriptor(), name.c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  fail("remove", name, errno);
}

bool PosixFileSystem::remove_directory_at(const FileHandle& dir, const std::string& name) {
  if (::unlinkat(dir.descriptor(), name.c_str(), AT_REMOVEDIR) == 0) return true;
  if (errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST) return false;
  fail("remove folder", name, errno);
}

std::uint32_t PosixFileSystem::user() { return ::geteuid(); }

std::chrono::system_clock::time_point PosixFileSystem::now() {
  return std::chrono::system_clock::now();
}

FileSystem& posix_file_system() {
  static PosixFileSystem instance;
  return instance;
}

}  // namespace ktjit::cache
