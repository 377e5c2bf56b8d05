// One root folder of the disk cache: its folders are opened and made here, and nowhere else, so
// that none is used before its owner and mode were checked (trust.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "cache/digest.h"
#include "cache/entry_name.h"
#include "cache/file_system.h"
#include "cache/reject_reason.h"

namespace ktjit::cache {

struct RootOptions {
  std::string path;
  bool shared =
      false;  ///< several users' folder: their files are trusted, group-writable is allowed
};

/// What reading an entry's file gave: its bytes, or why they were not taken.
struct EntryFile {
  std::string bytes;
  std::optional<RejectReason> rejected;
  std::string detail;    ///< for a warning, with the cure; only if rejected
  std::error_code code;  ///< of kReadFailed
};

/// The root and the folder with this layout's shards, both open.
struct OpenFolders {
  FileHandle root;
  FileHandle layout;
};

/// Errors:  FileError, TrustError from every function that does not say otherwise.
/// Threads: no state; safe to call from several threads.
class CacheRoot {
 public:
  CacheRoot(FileSystem& files, RootOptions options);

  const std::string& path() const { return options_.path; }
  FileSystem& files() const { return files_; }

  /// The root itself; nothing if it is absent.
  std::optional<FileHandle> open() const;

  /// The folder with this layout's shards; nothing if it is absent.
  std::optional<FileHandle> open_layout(const FileHandle& root) const;

  /// Both; nothing if either is absent.
  std::optional<OpenFolders> open_folders() const;

  /// Throws unless both, which were opened before, are still to be trusted.
  void check_trust(const OpenFolders& folders) const;

  /// A folder with entries; nothing if it is absent.
  std::optional<FileHandle> open_shard(const FileHandle& layout, const std::string& shard) const;

  /// The shard, made along with everything above it if need be.
  FileHandle make_shard(const std::string& shard) const;

  /// The folder with this layout's shards, made along with everything above it if need be.
  FileHandle make_layout() const;

  /// Reads an entry's file; nothing if it is absent. Throws nothing: a failed read is a rejection.
  std::optional<EntryFile> read_entry(const FileHandle& shard, const EntryName& name) const;

  struct EntryHead {
    std::optional<std::chrono::sys_seconds> used;  ///< last; nothing if its stamp can't be read
    bool is_note = false;                          ///< as in entry_format.h
  };
  /// What the entry's header says; neither if it is absent.
  EntryHead read_head(const FileHandle& shard, const std::string& file_name) const;

  /// Sets the time of last use in the entry's file, if there is a good entry.
  void write_stamp(const FileHandle& shard, const std::string& file_name,
                   std::chrono::sys_seconds used) const;

  /// The lock file, open for reading and writing; made if `layout` has none.
  FileHandle open_lock_file(const FileHandle& layout) const;

  /// The lock file as far as this process may open it, for shared locks; nothing if it may not.
  std::optional<FileHandle> try_open_lock_file(const FileHandle& layout) const;

  /// Content of a file of ours beside the shards; nothing if it is absent or over `most_bytes`.
  std::optional<std::string> read_file(const FileHandle& layout, const std::string& name,
                                       std::size_t most_bytes) const;

  /// Writes a file atomically, with this root's permissions. `sync`: see WriteOptions.
  void write_file(const FileHandle& directory, const std::string& name, std::string_view bytes,
                  bool sync) const;

  /// "root/v1/ab/name", for messages.
  std::string entry_path(const EntryName& name) const;

 private:
  // A shared root's files and folders get these whatever the umask; else the umask applies.
  std::uint32_t file_mode() const { return options_.shared ? 0660 : 0600; }
  std::uint32_t directory_mode() const { return options_.shared ? 0770 : 0700; }
  void share(const FileHandle& directory) const;
  void make_directory(const std::string& path) const;
  void make_with_parents(const std::string& path) const;
  void check_trust(const std::string& path, const FileHandle& directory) const;
  FileHandle open_or_make_lock_file(const FileHandle& layout) const;
  std::string layout_path(const std::string& name) const;
  FileHandle checked_file(FileHandle file, const std::string& path) const;
  std::string read_all(const FileHandle& file, std::size_t bytes) const;
  std::optional<FileHandle> open_trusted(const FileHandle& parent, const std::string& name,
                                         const std::string& path) const;
  FileHandle open_or_make(const FileHandle& parent, const std::string& name,
                          const std::string& path) const;
  std::optional<EntryFile> try_read_entry(const FileHandle& shard, const EntryName& name) const;

  FileSystem& files_;
  RootOptions options_;
};

}  // namespace ktjit::cache
