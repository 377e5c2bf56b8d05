#include "cache/pack_file.h"

#include <algorithm>
#include <fmt/format.h>

#include "cache/trust.h"
#include "core/error.h"

namespace ktjit::cache {
namespace {

/// Reads `bytes` from `offset` on, fewer only where the file ends.
std::string read_range(FileSystem& files, const FileHandle& file, std::uint64_t offset,
                       std::uint64_t bytes) {
  std::string range(bytes, '\0');
  std::size_t done = 0;
  while (done < range.size()) {
    const std::size_t more =
        files.read_at(file, range.data() + done, range.size() - done, offset + done);
    if (more == 0) break;
    done += more;
  }
  range.resize(done);
  return range;
}

}  // namespace

PackFile::PackFile(FileSystem& files, RootOptions options)
    : files_(files), options_(std::move(options)) {
  try {
    open_and_check();
  } catch (const FileError& error) {
    throw InputError(path(), error.what());
  } catch (const TrustError& error) {
    throw InputError(path(), error.what());
  } catch (const PackDamage& damage) {
    throw InputError(path(), damage.what());
  }
}

void PackFile::open_and_check() {
  file_ = files_.open_file(path());
  if (!file_) throw InputError(path(), "no such pack");
  const FileInfo info = files_.info(*file_);
  if (info.kind != FileKind::kFile) throw InputError(path(), "not a regular file, and so no pack");
  const auto problem = trust_problem(path(), info, files_.user(), options_.shared);
  if (problem) throw TrustError(path(), *problem);
  size_bytes_ = info.size_bytes;
  const std::string head = read_range(files_, *file_, 0, kPackHeaderBytes);
  const PackHeader header = decode_pack_header(head, size_bytes_);
  const std::string index = read_range(files_, *file_, kPackHeaderBytes, header.index_bytes());
  index_ = decode_pack_index(header, head, index);
}

std::span<const PackItem> PackFile::items_of(const Digest& request) const {
  const auto begin =
      std::partition_point(index_.items.begin(), index_.items.end(),
                           [&](const PackItem& item) { return item.name.request < request; });
  const auto end = std::find_if(begin, index_.items.end(),
                                [&](const PackItem& item) { return item.name.request != request; });
  return {begin, end};
}

const PackItem* PackFile::find(const EntryName& name) const {
  for (const PackItem& item : items_of(name.request)) {
    if (item.name == name) return &item;
  }
  return nullptr;
}

EntryFile PackFile::read(const PackItem& item) const {
  EntryFile result;
  try {
    result.bytes = read_range(files_, *file_, item.offset, item.size_bytes);
  } catch (const FileError& error) {
    result.rejected = RejectReason::kReadFailed;
    result.detail = fmt::format("'{}': {}", entry_path(item.name), error.what());
    result.code = error.code();
  }
  return result;
}

std::string PackFile::entry_path(const EntryName& name) const {
  return fmt::format("{}: {}", path(), name.file_name());
}

bool is_pack_path(FileSystem& files, const std::string& path) {
  const auto file = files.open_file(path);
  return file && files.info(*file).kind != FileKind::kDirectory;
}

}  // namespace ktjit::cache
