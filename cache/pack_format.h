// The bytes of a pack: one file with many entries. FORMAT.md has them in a table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cache/digest.h"
#include "cache/entry_name.h"
#include "core/error.h"

namespace ktjit::cache {

inline constexpr std::size_t kPackHeaderBytes = 64;
inline constexpr std::size_t kPackMagicBytes = 8;

/// Where an entry lies in a pack.
struct PackItem {
  EntryName name;
  std::uint64_t offset = 0;  ///< of its first byte, from the begin of the pack
  std::uint64_t size_bytes = 0;
};

/// What a pack's header says.
struct PackHeader {
  std::uint64_t file_bytes = 0;
  std::uint64_t manifest_bytes = 0;
  std::uint64_t entries = 0;
  Digest checksum;  ///< of the header without the checksum, the manifest and the index

  /// Of manifest and index together, which follow the header.
  std::uint64_t index_bytes() const;
};

/// An entry to be packed, as the file it would be in a folder.
struct PackedEntry {
  EntryName name;
  std::string file;
};

/// Manifest and index of a pack.
struct PackIndex {
  nlohmann::json manifest;
  std::vector<PackItem> items;  ///< in the order of their names, and of their offsets
};

/// A pack is not read: `what()` says what is wrong with its bytes. Stays inside this folder.
class PackDamage : public Error {
 public:
  using Error::Error;
};

/// True if the bytes begin as a pack does, damaged or not.
bool begins_as_pack(std::string_view bytes);

/// The file with these entries. Equal arguments give equal bytes, in whatever order they come.
///
/// Errors:  InternalError if the manifest is no object, or two entries have one name.
std::string encode_pack(const nlohmann::json& manifest, std::vector<PackedEntry> entries);

/// Reads the first kPackHeaderBytes of a file (fewer if it has fewer) of `file_bytes` bytes.
///
/// Errors:  PackDamage.
PackHeader decode_pack_header(std::string_view head, std::uint64_t file_bytes);

/// Reads the header.index_bytes() that follow the header's bytes `head`, after their checksum.
///
/// Errors:  PackDamage.
PackIndex decode_pack_index(const PackHeader& header, std::string_view head,
                            std::string_view index);

}  // namespace ktjit::cache
