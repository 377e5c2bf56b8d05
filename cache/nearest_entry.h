// Why a key is not in the cache: the entry that comes nearest to it, and how they differ.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/cache_key.h"
#include "cache/cache_root.h"
#include "cache/entry_name.h"
#include "cache/posix_file_system.h"

namespace ktjit::cache {

/// What the roots have for a key.
struct NearestEntry {
  enum class Match {
    kNothing,  ///< no entry comes near: `root` and all below are empty
    kOther,    ///< an entry that was asked for in other words
    kRequest,  ///< an entry of the same request, by another compiler
    kExact,    ///< the entry of this key
  };
  Match match = Match::kNothing;
  std::string root;
  bool in_pack = false;  ///< packs give their entry for kRequest, folders don't
  EntryName name;
  CacheKey key;
  /// Wanted on the left, the entry's on the right; by part of the key.
  std::vector<FieldDifference> request;
  std::vector<FieldDifference> compiler;
  /// Path of a damaged entry that has this key's name, with what is wrong.
  std::optional<std::string> damaged;
};

/// For each of `wanted` what the roots have. Every entry of every root is read once.
///
/// Entries of the same request come before others (of those a pack's first, since it serves), then those that agree in more of `first` (names of
/// request fields, the most important one first), then those whose first of these begins
/// more alike, then those with fewer differing fields, then the
/// earlier root.
///
/// Errors:  InputError if a root can't be read or is not trusted. An absent one is empty.
std::vector<NearestEntry> find_nearest(std::span<const RootOptions> roots,
                                       std::span<const CacheKey> wanted,
                                       std::span<const std::string_view> first,
                                       FileSystem& files = posix_file_system());

/// Where two long texts part.
struct TextDifference {
  std::size_t line = 0;  ///< counted from 1
  std::string left;      ///< that line; empty where the text has ended
  std::string right;
};

/// The first line in which two texts differ. REQUIRES: they differ.
TextDifference first_difference(std::string_view left, std::string_view right);

}  // namespace ktjit::cache
