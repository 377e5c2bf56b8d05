// An entry together with the key it was stored under, read back from its file alone: what listings,
// checks and lookups by request work on.
#pragma once

#include <string_view>
#include <variant>

#include "cache/cache_key.h"
#include "cache/entry_format.h"
#include "cache/entry_name.h"

namespace ktjit::cache {

struct StoredEntry {
  EntryName name;
  CacheKey key;
  Entry entry;
};

/// Reads the file that was found under `name`. kOtherKey if its key belongs under another name.
std::variant<StoredEntry, RejectReason> decode_stored(const EntryName& name, std::string_view file);

}  // namespace ktjit::cache
