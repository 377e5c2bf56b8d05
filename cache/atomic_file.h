// Files that appear whole or not at all: temporary name in the same folder, write, sync, rename.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "cache/file_system.h"

namespace ktjit::cache {

struct WriteOptions {
  bool exact_mode = false;  ///< the mode as given, whatever the process's umask
  bool sync = true;         ///< false: after a power cut the file may be short
};

/// Writes `bytes` to `name` in `dir`, in place of what had that name before.
///
/// By default the file is synced and its folder is not: after a power cut the file may be missing, never
/// short. On failure the old file is as it was, and the temporary is removed (if even that fails it
/// stays behind under a name that no lookup opens, for `cache clear`).
///
/// Errors:  FileError.
/// Threads: any number of threads and processes may write one name; the last rename stays.
void write_atomically(FileSystem& files, const FileHandle& dir, const std::string& name,
                      std::string_view bytes, std::uint32_t mode, const WriteOptions& options = {});

/// True for the name of a temporary of `write_atomically`.
bool is_temporary_name(std::string_view name);

/// No write takes this long: an older temporary was left by a process that died.
inline constexpr std::chrono::hours kTemporaryLifetime{1};

}  // namespace ktjit::cache
