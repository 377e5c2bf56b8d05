// A pack that is open: one relocatable file with many entries, read by whoever wants their kernels
// without compiling, written by pack_writer.h and by nobody else.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "cache/cache_root.h"
#include "cache/file_system.h"
#include "cache/pack_format.h"

namespace ktjit::cache {

/// The open file keeps what it was opened with: another file may take its name meanwhile.
///
/// Threads: safe to call from several threads; nothing changes after the constructor.
class PackFile {
 public:
  /// Opens the file (links are followed) and checks owner, mode, header and index. Entries are
  /// checked when they are read.
  ///
  /// Errors:  InputError with the path: absent, unreadable, not trusted, not a pack, damaged.
  PackFile(FileSystem& files, RootOptions options);

  const std::string& path() const { return options_.path; }
  std::uint64_t size_bytes() const { return size_bytes_; }

  /// What the writer said about the pack: "model", "targets", "kernels", "ktjit".
  const nlohmann::json& manifest() const { return index_.manifest; }

  /// Every entry's place, in the order of their names.
  std::span<const PackItem> items() const { return index_.items; }

  /// Those of one request, whoever compiled them.
  std::span<const PackItem> items_of(const Digest& request) const;

  /// The place of one entry, or null.
  const PackItem* find(const EntryName& name) const;

  /// An entry's bytes, none of them checked yet. Throws nothing: a failed read is a rejection.
  EntryFile read(const PackItem& item) const;

  /// "pack: request-artifact.ktk", for messages.
  std::string entry_path(const EntryName& name) const;

 private:
  void open_and_check();

  FileSystem& files_;
  RootOptions options_;
  std::optional<FileHandle> file_;
  std::uint64_t size_bytes_ = 0;
  PackIndex index_;
};

/// True if something that is no folder has this path: a root with such a path is meant as a pack.
///
/// Errors:  FileError.
bool is_pack_path(FileSystem& files, const std::string& path);

}  // namespace ktjit::cache
