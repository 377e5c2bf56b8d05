// Where an entry lies below a root: "v1/<first 2 hex digits>/<request>-<artifact>.ktk". The
// request's digest comes first, so that one folder's listing shows every artefact of a request.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cache/digest.h"

namespace ktjit::cache {

/// The folder of this layout below a root. Another layout gets another name.
inline constexpr const char* kLayoutFolder = "v1";

/// Files in that folder beside the shards: what processes lock (byte_lock.h), and what they remember
/// (ledger.h).
inline constexpr const char* kLockFile = "lock";
inline constexpr const char* kLedgerFile = "ledger";

struct EntryName {
  Digest request;
  Digest artifact;

  /// Name of the folder below kLayoutFolder: two hex digits.
  std::string shard() const;

  /// Name of the file in that folder.
  std::string file_name() const;

  /// The reverse of `file_name`; nothing unless `name` is exactly such a name.
  static std::optional<EntryName> parse(std::string_view name);

  auto operator<=>(const EntryName&) const = default;
};

/// True for the name of a folder that `EntryName::shard` gives.
bool is_shard_name(std::string_view name);

}  // namespace ktjit::cache
