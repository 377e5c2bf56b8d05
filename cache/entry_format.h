// One cache entry as a value, and its form as a file. FORMAT.md has the bytes.
#pragma once

#include <chrono>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "cache/field_list.h"
#include "cache/reject_reason.h"

namespace ktjit::cache {

/// What is stored under a key. The cache looks into neither part.
struct Entry {
  nlohmann::json manifest = nlohmann::json::object();  ///< an object: facts about the artefact
  FieldList blobs;                                     ///< bytes by name, e.g. "artifact", "log"

  bool operator==(const Entry&) const = default;
};

/// A larger file is no entry of ours; reading stops there instead of filling the memory.
inline constexpr std::size_t kMaxEntryBytes = std::size_t{1} << 30;

/// Where the stamp (stamp.h) lies in every entry's file, and how much of a file holds all of the
/// header.
inline constexpr std::size_t kStampAt = 64;
inline constexpr std::size_t kHeaderBytes = 72;

/// The file for `entry`, stored under the key whose hashed text is `key_text`, last used at `used`.
///
/// Errors:  InternalError if the manifest is no object, or the file would be over kMaxEntryBytes.
std::string encode_entry(std::string_view key_text, const Entry& entry,
                         std::chrono::sys_seconds used = {});

/// When the entry was last used, from its file or the first kHeaderBytes of it; nothing if they are
/// not an entry's, or the stamp is damaged.
std::optional<std::chrono::sys_seconds> stamp_of(std::string_view file);

/// Whether the entry is a note: it has no blobs, so that nothing but its manifest is kept, such as what was
/// measured. From its file or the first kHeaderBytes of it; false if they are not an entry's.
bool is_note(std::string_view file);

/// A file's content after every check that needs no key.
struct DecodedEntry {
  std::string key_text;
  Entry entry;
};

/// Reads a file back, or names the first thing that is wrong with it.
std::variant<DecodedEntry, RejectReason> decode_entry(std::string_view file);

/// The same for a file that must be the entry of `key_text` (compared byte for byte).
std::variant<Entry, RejectReason> decode_entry_of(std::string_view key_text, std::string_view file);

}  // namespace ktjit::cache
