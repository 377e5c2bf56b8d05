#include "cache/cache_root.h"

#include <cerrno>
#include <filesystem>
#include <fmt/format.h>

#include "cache/entry_format.h"
#include "cache/trust.h"

namespace ktjit::cache {
namespace {

EntryFile rejected(RejectReason reason, std::string detail) {
  return EntryFile{{}, reason, std::move(detail)};
}

std::string join(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
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

std::optional<FileHandle> CacheRoot::open_shard(const FileHandle& layout,
                                                const std::string& shard) const {
  return open_trusted(layout, shard, join(join(path(), kLayoutFolder), shard));
}

void CacheRoot::make_with_parents(const std::string& path) const {
  try {
    files_.make_directory(path, directory_mode());
  } catch (const FileError& error) {
    const std::string parent = std::filesystem::path(path).parent_path().string();
    const bool parent_is_absent = error.code() == std::errc::no_such_file_or_directory;
    if (!parent_is_absent || parent.empty() || parent == path) throw;
    make_with_parents(parent);
    files_.make_directory(path, directory_mode());
  }
}

FileHandle CacheRoot::open_or_make(const FileHandle& parent, const std::string& name,
                                   const std::string& path) const {
  if (auto directory = open_trusted(parent, name, path)) return std::move(*directory);
  files_.make_directory_at(parent, name, directory_mode());  // another process may be first: fine
  if (auto directory = open_trusted(parent, name, path)) return std::move(*directory);
  throw FileError("open " + path, ENOENT);
}

FileHandle CacheRoot::make_shard(const std::string& shard) const {
  auto root = open();
  if (!root) {
    make_with_parents(path());
    root = open();
  }
  if (!root) throw FileError("open " + path(), ENOENT);
  const std::string layout_path = join(path(), kLayoutFolder);
  const FileHandle layout = open_or_make(*root, kLayoutFolder, layout_path);
  return open_or_make(layout, shard, join(layout_path, shard));
}

std::optional<EntryFile> CacheRoot::read_entry(const FileHandle& shard,
                                               const EntryName& name) const {
  try {
    return try_read_entry(shard, name);
  } catch (const FileError& error) {
    const bool is_link = error.code() == std::errc::too_many_symbolic_link_levels;
    const auto reason = is_link ? RejectReason::kNotAFile : RejectReason::kReadFailed;
    return rejected(reason, fmt::format("'{}': {}", entry_path(name), error.what()));
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
  EntryFile result;
  result.bytes.resize(info.size_bytes);
  std::size_t done = 0;
  while (done < result.bytes.size()) {
    const std::size_t more =
        files_.read_some(*file, result.bytes.data() + done, result.bytes.size() - done);
    if (more == 0) break;
    done += more;
  }
  result.bytes.resize(done);  // shorter only if the file was cut meanwhile: the decoder says so
  return result;
}

}  // namespace ktjit::cache
