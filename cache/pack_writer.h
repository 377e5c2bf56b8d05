// Writes packs: pack_file.h reads them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cache/cache_key.h"
#include "cache/entry_format.h"
#include "cache/file_system.h"
#include "cache/posix_file_system.h"
#include "core/error.h"

namespace ktjit::cache {

struct EntryToPack {
  CacheKey key;
  Entry entry;
};

/// A pack can't be written: the disk or the folder is at fault.
class PackWriteError : public Error {
 public:
  PackWriteError(const std::string& path, std::string problem);

  /// What is wrong, without the path.
  const std::string& problem() const { return problem_; }

 private:
  std::string problem_;
};

struct PackReport {
  std::size_t entries = 0;  ///< written; entries given twice count once
  std::uint64_t size_bytes = 0;
};

/// Writes a pack with these entries, in place of an older pack. It appears whole or not at all.
///
/// `manifest` is an object of facts about the pack. Equal arguments, in any order and on any day,
/// give equal bytes: who wants that keeps times and paths out of manifest and entries.
/// Of entries with one key the first counts.
///
/// Errors:  as check_pack_target.
/// Threads: any number of threads and processes may write one path; the last one's stays.
PackReport write_pack(const std::string& path, const nlohmann::json& manifest,
                      const std::vector<EntryToPack>& entries,
                      FileSystem& files = posix_file_system());

/// Finds out before the work whether `write_pack` may have this name.
///
/// Errors:  SpecError if something other than a pack has it: no file of the user's is replaced.
///          PackWriteError if the folder is absent or can't be read.
void check_pack_target(const std::string& path, FileSystem& files = posix_file_system());

}  // namespace ktjit::cache
