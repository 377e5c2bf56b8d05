#include "cache/cache_root.h"

#include <cerrno>
#include <filesystem>
#include <fmt/format.h>

#include "cache/atomic_file.h"
#include "cache/entry_format.h"
#include "cache/stamp.h"
#include "cache/trust.h"

namespace ktjit::cache {
namespace {

EntryFile rejected(RejectReason reason, std::string detail) {
  return EntryFile{{}, reason, std::move(detail), {}};
}

std::string join(const std::string& folder, const std::string& name) {
  return folder.ends_with('/') ? folder + name : folder + '/' + name;
}

}  // namespace

CacheRoot::CacheRoot(FileSystem& files, RootOptions options)
    : files_(files), options_(std::move(options)) {}

std::string CacheRoot::entry_path(const EntryName& name) const {
  return join(join(join(path(), kLayoutFolder), name.shard()), name.file_name());
}

void CacheRoot::check_trust(const std::string& path, const FileHandle& directory) const {
  const auto problem = trust_problem(path, files_.info(directory), files_.user(), options_.shared);
  if (problem) throw TrustError(path, *problem);
}

std::optional<FileHandle> CacheRoot::open() const {
  auto root = files_.open_directory(path());
  if (root) check_trust(path(), *root);
  return root;
}

std::optional<FileHandle> CacheRoot::open_trusted(const FileHandle& parent, const std::string& name,
                                                  const std::string& path) const {
  auto directory = files_.open_directory_at(parent, name);
  if (directory) check_trust(path, *directory);
  return directory;
}

std::optional<FileHandle> CacheRoot::open_layout(const FileHandle& root) const {
  return open_trusted(root, kLayoutFolder, join(path(), kLayoutFolder));
}

std::optional<OpenFolders> CacheRoot::open_folders() const {
  auto root = open();
  if (!root) return std::nullopt;
  auto layout = open_layout(*root);
  if (!layout) return std::nullopt;
  return OpenFolders{std::move(*root), std::move(*layout)};
}

void CacheRoot::check_trust(const OpenFolders& folders) const {
  check_trust(path(), folders.root);
  check_trust(join(path(), kLayoutFolder), folders.layout);
}

std::optional<FileHandle> CacheRoot::open_shard(const FileHandle& layout,
                                                const std::string& shard) const {
  return open_trusted(layout, shard, join(join(path(), kLayoutFolder), shard));
}

std::string CacheRoot::layout_path(const std::string& name) const {
  return join(join(path(), kLayoutFolder), name);
}

// Gives the group of a shared root access to a folder of ours. Another user's is as that user left
// it, and a bit that hands the group on stays.
void CacheRoot::share(const FileHandle& directory) const {
  if (!options_.shared) return;
  const FileInfo info = files_.info(directory);
  const std::uint32_t mode = info.mode | directory_mode();
  if (mode != info.mode && info.owner == files_.user()) files_.set_mode(directory, mode);
}

void CacheRoot::make_directory(const std::string& path) const {
  if (!files_.make_directory(path, directory_mode())) return;
  if (const auto made = files_.open_directory(path)) share(*made);
}

void CacheRoot::make_with_parents(const std::string& path) const {
  try {
    make_directory(path);
  } catch (const FileError& error) {
    const std::string parent = std::filesystem::path(path).parent_path().string();
    const bool parent_is_absent = error.code() == std::errc::no_such_file_or_directory;
    if (!parent_is_absent || parent.empty() || parent == path) throw;
    make_with_parents(parent);
    make_directory(path);
  }
}

FileHandle CacheRoot::open_or_make(const FileHandle& parent, const std::string& name,
                                   const std::string& path) const {
  auto directory = open_trusted(parent, name, path);
  if (!directory) {
    files_.make_directory_at(parent, name, directory_mode());  // another process may be first: fine
    directory = open_trusted(parent, name, path);
  }
  if (!directory) throw FileError("open " + path, ENOENT);
  share(*directory);
  return std::move(*directory);
}

FileHandle CacheRoot::make_layout() const {
  auto root = open();
  if (!root) {
    make_with_parents(path());
    root = open();
  }
  if (!root) throw FileError("open " + path(), ENOENT);
  return open_or_make(*root, kLayoutFolder, join(path(), kLayoutFolder));
}

FileHandle CacheRoot::make_shard(const std::string& shard) const {
  return open_or_make(make_layout(), shard, layout_path(shard));
}

// A file of ours beside the shards, before it is used.
FileHandle CacheRoot::checked_file(FileHandle file, const std::string& path) const {
  const FileInfo info = files_.info(file);
  if (info.kind != FileKind::kFile) {
    throw TrustError(path, {"is not a regular file", fmt::format("run: rm -r '{}'", path)});
  }
  if (const auto problem = trust_problem(path, info, files_.user(), options_.shared)) {
    throw TrustError(path, *problem);
  }
  return file;
}

FileHandle CacheRoot::open_or_make_lock_file(const FileHandle& layout) const {
  auto file = files_.open_for_update_at(layout, kLockFile);
  if (!file) {
    file = files_.create_file_at(layout, kLockFile, file_mode());
    if (file && options_.shared) files_.set_mode(*file, file_mode());
  }
  if (!file) file = files_.open_for_update_at(layout, kLockFile);  // another process was first
  if (!file) throw FileError("open " + layout_path(kLockFile), ENOENT);
  return std::move(*file);
}

FileHandle CacheRoot::open_lock_file(const FileHandle& layout) const {
  return checked_file(open_or_make_lock_file(layout), layout_path(kLockFile));
}

std::optional<FileHandle> CacheRoot::try_open_lock_file(const FileHandle& layout) const {
  std::optional<FileHandle> file;
  try {
    file = open_or_make_lock_file(layout);
  } catch (const FileError& error) {
    const std::error_code code = error.code();
    const bool is_forbidden = code == std::errc::permission_denied ||
                              code == std::errc::read_only_file_system ||
                              code == std::errc::operation_not_permitted;
    if (!is_forbidden) throw;
    file = files_.open_file_at(layout, kLockFile);
  }
  if (!file) return std::nullopt;
  return checked_file(std::move(*file), layout_path(kLockFile));
}

std::string CacheRoot::read_all(const FileHandle& file, std::size_t bytes) const {
  std::string content(bytes, '\0');
  std::size_t done = 0;
  while (done < content.size()) {
    const std::size_t more = files_.read_some(file, content.data() + done, content.size() - done);
    if (more == 0) break;
    done += more;
  }
  content.resize(done);  // shorter only if the file is
  return content;
}

std::optional<std::string> CacheRoot::read_file(const FileHandle& layout, const std::string& name,
                                                std::size_t most_bytes) const {
  auto opened = files_.open_file_at(layout, name);
  if (!opened) return std::nullopt;
  const FileHandle file = checked_file(std::move(*opened), layout_path(name));
  const std::uint64_t bytes = files_.info(file).size_bytes;
  if (bytes > most_bytes) return std::nullopt;
  return read_all(file, bytes);
}

void CacheRoot::write_file(const FileHandle& directory, const std::string& name,
                           std::string_view bytes, bool sync) const {
  write_atomically(files_, directory, name, bytes, file_mode(), {options_.shared, sync});
}

CacheRoot::EntryHead CacheRoot::read_head(const FileHandle& shard,
                                          const std::string& file_name) const {
  const auto file = files_.open_file_at(shard, file_name);
  if (!file) return {};
  const std::string header = read_all(*file, kHeaderBytes);
  return {stamp_of(header), cache::is_note(header)};
}

void CacheRoot::write_stamp(const FileHandle& shard, const std::string& file_name,
                            std::chrono::sys_seconds used) const {
  const auto file = files_.open_for_update_at(shard, file_name);
  // The file may have been replaced since it was read, by another version of ktjit even.
  if (!file || !stamp_of(read_all(*file, kHeaderBytes))) return;
  files_.write_at(*file, kStampAt, encode_stamp(used));
}

std::optional<EntryFile> CacheRoot::read_entry(const FileHandle& shard,
                                               const EntryName& name) const {
  try {
    return once_more_if_stale([&] { return try_read_entry(shard, name); });
  } catch (const FileError& error) {
    const bool is_link = error.code() == std::errc::too_many_symbolic_link_levels;
    const auto reason = is_link ? RejectReason::kNotAFile : RejectReason::kReadFailed;
    return EntryFile{
        {}, reason, fmt::format("'{}': {}", entry_path(name), error.what()), error.code()};
  }
}

std::optional<EntryFile> CacheRoot::try_read_entry(const FileHandle& shard,
                                                   const EntryName& name) const {
  const auto file = files_.open_file_at(shard, name.file_name());
  if (!file) return std::nullopt;
  const FileInfo info = files_.info(*file);
  if (info.kind != FileKind::kFile) {
    return rejected(RejectReason::kNotAFile,
                    fmt::format("'{}' is not a regular file; remove it", entry_path(name)));
  }
  if (const auto problem = trust_problem(entry_path(name), info, files_.user(), options_.shared)) {
    return rejected(RejectReason::kUntrusted, TrustError(entry_path(name), *problem).what());
  }
  if (info.size_bytes > kMaxEntryBytes) {
    return rejected(RejectReason::kBadSizes,
                    fmt::format("'{}' has {} bytes", entry_path(name), info.size_bytes));
  }
  return EntryFile{read_all(*file, info.size_bytes), std::nullopt, {}, {}};
}

}  // namespace ktjit::cache
