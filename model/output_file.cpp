#include "model/output_file.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace ktjit::model {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

// Unique in this process; the process id makes it unique among those that live now.
std::filesystem::path make_temporary_path(const std::filesystem::path& path) {
  static std::atomic<unsigned> counter = 0;
  std::filesystem::path temporary = path;
  temporary.replace_filename(
      fmt::format(".{}.{}-{}.tmp", path.filename().string(), ::getpid(), counter++));
  return temporary;
}

}  // namespace

OutputError::OutputError(const std::filesystem::path& path, std::string_view problem)
    : Error(fmt::format("{}: {}", path.string(), problem)) {}

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code ignored;
  const std::filesystem::file_status there = std::filesystem::status(path_, ignored);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd_ < 0) fail_with_errno("opened");
    buffer_.reserve(kBufferBytes);
    return;
  }
  constexpr int kTries = 100;  // a dead process with our id may have left its files
  for (int i = 0; i < kTries && fd_ < 0; ++i) {
    temporary_path_ = make_temporary_path(path_);
    fd_ = ::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) break;
  }
  if (fd_ < 0) fail_with_errno("created");
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!temporary_path_.empty()) ::unlink(temporary_path_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
  bytes_written_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes) {
    write_through(bytes);
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
}

void OutputFile::commit() {
  KTJIT_CHECK(fd_ >= 0);
  flush();
  if (temporary_path_.empty()) {
    if (::close(std::exchange(fd_, -1)) != 0) fail_with_errno("written");
    return;
  }
  if (::fsync(fd_) != 0) fail_with_errno("written to disk");
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) fail_with_errno("given its name");
  ::close(std::exchange(fd_, -1));

  // The name is durable once its folder is. Some file systems refuse this, and the file is there
  // anyway.
  const std::filesystem::path parent = path_.parent_path();
  const int folder = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_CLOEXEC);
  if (folder < 0) return;
  ::fsync(folder);
  ::close(folder);
}

void OutputFile::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void OutputFile::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void OutputFile::fail_with_errno(std::string_view doing) const {
  throw OutputError(path_,
                    fmt::format("cannot be {}: {}", doing, std::generic_category().message(errno)));
}

}  // namespace ktjit::model
