#include "convert/work_folder.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <linux/magic.h>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <system_error>
#include <unistd.h>

#include "core/error.h"
#include "model/output_file.h"

namespace ktjit::convert {
namespace {

namespace fs = std::filesystem;

std::string read_whole(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_whole(const fs::path& path, std::string_view text) {
  model::OutputFile file(path);
  file.write(std::as_bytes(std::span(text.data(), text.size())));
  file.commit();
}

/// Linux 6.14's RWF_DONTCACHE, which older headers lack: the disk gets the bytes at once, and their pages are used
/// again instead of filling the memory. 8.5 GB so written to ext4 took 5.6 s and 3.1 s of the CPU's time, against
/// 31 s and 19 s, most of it spent on finding free pages (2-core Xeon, 24 GB, Linux 6.18, 2026-11-24).
constexpr int kDontCache = 0x80;

/// "" if all went well. `may_skip_cache` is cleared where the file system can't.
std::string write_fully(int fd, std::uint64_t offset, std::span<const std::byte> bytes,
                        std::atomic<bool>& may_skip_cache) {
  while (!bytes.empty()) {
    const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    const bool skips_cache = may_skip_cache;
    const ssize_t written =
        ::pwritev2(fd, &part, 1, static_cast<off_t>(offset), skips_cache ? kDontCache : 0);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && skips_cache && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
      may_skip_cache = false;
      continue;
    }
    if (written < 0) return std::generic_category().message(errno);
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return "";
}

/// Not in memory: there it would fill every page with zeros, by one thread, before any is written.
bool can_reserve(int fd) {
  struct statfs facts{};
  return ::fstatfs(fd, &facts) != 0 || facts.f_type != TMPFS_MAGIC;
}

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;  // some file systems refuse this, and the names are there anyway
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

fs::path WorkFolder::path_beside(const fs::path& output) {
  fs::path whole = fs::absolute(output).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();  // "model/"
  return whole.parent_path() / fmt::format(".{}.converting", whole.filename().string());
}

WorkFolder::WorkFolder(const fs::path& output, OutputKind kind, std::string_view plan)
    : output_(fs::absolute(output).lexically_normal()),
      kind_(kind),
      folder_(path_beside(output)),
      files_folder_(folder_ / "out") {
  if (!output_.has_filename()) output_ = output_.parent_path();
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    throw model::OutputError(
        folder_, fmt::format("cannot be made: {}", std::generic_category().message(error.value())));
  }
  const fs::path journal = folder_ / "journal";
  journal_ = ::open(journal.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (journal_ < 0) fail(journal, "opened", errno);
  if (::flock(journal_, LOCK_EX | LOCK_NB) != 0) {
    throw model::OutputError(folder_, "another process is converting to this output");
  }
  const fs::path plan_path = folder_ / "plan";
  if (fs::exists(plan_path) && read_whole(plan_path) == plan) {
    read_journal(read_whole(journal));
  } else {
    replaced_other_plan_ = fs::exists(plan_path);
    if (::ftruncate(journal_, 0) != 0) fail(journal, "emptied", errno);
    fs::remove_all(files_folder_, error);
    if (error) fail(files_folder_, "removed", error.value());
    write_whole(plan_path, plan);
  }
  fs::create_directories(files_folder_, error);
  if (error) fail(files_folder_, "made", error.value());
}

WorkFolder::~WorkFolder() {
  for (const int fd : fds_) ::close(fd);
  if (journal_ >= 0) ::close(journal_);
}

void WorkFolder::fail(const fs::path& path, std::string_view doing, int error) const {
  throw model::OutputError(
      path,
      fmt::format("cannot be {}: {}; what is done is kept in {}, and the same command goes on "
                  "from there",
                  doing, std::generic_category().message(error), folder_.string()));
}

void WorkFolder::read_journal(std::string_view text) {
  // A line counts once its end is there: the last one may be cut, and would run into the next.
  const std::size_t whole = text.rfind('\n') + 1;  // 0 if there is none
  if (whole < text.size() && ::ftruncate(journal_, static_cast<off_t>(whole)) != 0)
    fail(folder_ / "journal", "cut", errno);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string_view::npos) break;
    const std::string_view line = text.substr(at, end - at);
    std::size_t batch = 0;
    const auto [last, problem] = std::from_chars(line.data(), line.data() + line.size(), batch);
    constexpr std::size_t kMostBatches = std::size_t{1} << 32;
    if (problem == std::errc() && last == line.data() + line.size() && batch < kMostBatches) {
      if (done_.size() <= batch) done_.resize(batch + 1);
      done_[batch] = true;
    }
    at = end + 1;
  }
}

void WorkFolder::make_files(std::vector<PlannedFile> files) {
  files_ = std::move(files);
  writing_ = std::vector<std::mutex>(files_.size());
  std::uint64_t wanted = 0;
  for (const PlannedFile& file : files_) {
    const fs::path path = files_folder_ / file.name;
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) fail(path, "made", errno);
    fds_.push_back(fd);
    struct stat there{};
    if (::fstat(fd, &there) != 0) fail(path, "read", errno);
    // A file that is shorter than planned has lost what the journal says of it.
    if (there.st_size != static_cast<off_t>(file.bytes)) done_.clear();
    const auto held = static_cast<std::uint64_t>(there.st_blocks) * 512;
    wanted += file.bytes - std::min(file.bytes, held);
  }
  if (done_.empty() && ::ftruncate(journal_, 0) != 0) fail(folder_ / "journal", "emptied", errno);
  struct statvfs room{};
  if (::statvfs(folder_.c_str(), &room) == 0) {
    const std::uint64_t free = std::uint64_t{room.f_bavail} * room.f_frsize;
    if (free < wanted) {
      throw model::OutputError(
          output_,
          fmt::format("needs {} bytes more, and the disk has {} left; what is done is kept "
                      "in {}, and the same command goes on from there",
                      wanted, free, folder_.string()));
    }
  }
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const PlannedFile& file = files_[i];
    const fs::path path = files_folder_ / file.name;
    if (::ftruncate(fds_[i], static_cast<off_t>(file.bytes)) != 0)
      fail(path, "made that large", errno);
    // Where a file system can't reserve, writes say when the disk is full.
    if (file.bytes > 0 && can_reserve(fds_[i]) &&
        ::fallocate(fds_[i], 0, 0, static_cast<off_t>(file.bytes)) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS) {
      fail(path, fmt::format("given {} bytes", file.bytes), errno);
    }
    write_at(i, 0, std::as_bytes(std::span(file.head.data(), file.head.size())));
  }
}

void WorkFolder::write_at(std::size_t file, std::uint64_t offset,
                          std::span<const std::byte> bytes) {
  KTJIT_CHECK(file < files_.size() && offset <= files_[file].bytes &&
              bytes.size() <= files_[file].bytes - offset);
  if (before_write) before_write();
  // The kernel takes one writer of a file at a time; those that wait for it there spin.
  const std::scoped_lock one_writer(writing_[file]);
  const std::string problem = write_fully(fds_[file], offset, bytes, may_skip_cache_);
  if (!problem.empty()) fail(files_folder_ / files_[file].name, "written", errno);
}

void WorkFolder::sync_files() {
  for (std::size_t i = 0; i < fds_.size(); ++i) {
    if (::fdatasync(fds_[i]) != 0) fail(files_folder_ / files_[i].name, "written to disk", errno);
  }
}

void WorkFolder::commit_batch(std::size_t batch) {
  sync_files();
  const std::string line = fmt::format("{}\n", batch);
  if (::write(journal_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    fail(folder_ / "journal", "written", errno);
  if (::fdatasync(journal_) != 0) fail(folder_ / "journal", "written to disk", errno);
}

void WorkFolder::write_text(const std::string& name, std::string_view text) {
  write_whole(files_folder_ / name, text);
  texts_.insert(name);
}

void WorkFolder::remove_strangers() {
  std::set<std::string> wanted = texts_;
  for (const PlannedFile& file : files_) wanted.insert(file.name);
  for (const fs::directory_entry& entry : fs::directory_iterator(files_folder_)) {
    if (!wanted.contains(entry.path().filename().string())) fs::remove_all(entry.path());
  }
}

void WorkFolder::publish() {
  remove_strangers();
  sync_files();
  sync_folder(files_folder_);
  const fs::path from =
      kind_ == OutputKind::kFolder ? files_folder_ : files_folder_ / files_.at(0).name;
  std::error_code error;
  if (kind_ == OutputKind::kFolder && fs::exists(output_)) {
    // Both names at once where the file system can; the older output is removed with the rest.
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, output_.c_str(), RENAME_EXCHANGE) != 0) {
      fs::rename(output_, folder_ / "replaced", error);
      if (error) fail(output_, "put aside", error.value());
      fs::rename(from, output_, error);
      if (error) fail(output_, "given its name", error.value());
    }
  } else {
    fs::rename(from, output_, error);
    if (error) fail(output_, "given its name", error.value());
  }
  // Without its plan nothing of the folder is taken up again.
  fs::remove(folder_ / "plan", error);
  sync_folder(output_.parent_path());
  fs::remove_all(folder_, error);  // what can't be removed does no harm
}

}  // namespace ktjit::convert
