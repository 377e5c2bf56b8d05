#include "cache/stored_entry.h"

namespace ktjit::cache {

std::variant<StoredEntry, RejectReason> decode_stored(const EntryName& name,
                                                      std::string_view file) {
  auto decoded = decode_entry(file);
  if (const auto* reason = std::get_if<RejectReason>(&decoded)) return *reason;
  auto& [key_text, entry] = std::get<DecodedEntry>(decoded);
  auto key = CacheKey::parse(key_text);
  if (!key) return RejectReason::kBadKey;
  const HashedKey hashed = key->hashed();
  if (hashed.text != key_text) return RejectReason::kBadKey;
  if (EntryName{hashed.request, hashed.artifact} != name) return RejectReason::kOtherKey;
  return StoredEntry{name, std::move(*key), std::move(entry)};
}

}  // namespace ktjit::cache
