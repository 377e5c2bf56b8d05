#include "cache/pack_format.h"

#include <algorithm>
#include <fmt/format.h>

#include "cache/entry_format.h"
#include "cache/little_endian.h"
#include "core/error.h"

namespace ktjit::cache {
namespace {

// Header, all numbers little-endian. Offsets and sizes in bytes.
constexpr std::string_view kMagic("\x89KTPK\r\n\x1a", kPackMagicBytes);
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kVersionAt = 8;         // u32
constexpr std::size_t kReservedAt = 12;       // u32, 0
constexpr std::size_t kFileBytesAt = 16;      // u64, the whole file
constexpr std::size_t kManifestBytesAt = 24;  // u64
constexpr std::size_t kEntriesAt = 32;        // u64, how many
constexpr std::size_t kReserved2At = 40;      // u64, 0
constexpr std::size_t kChecksumAt = 48;       // 16 bytes, low half first

// One entry's place in the index.
constexpr std::size_t kRequestAt = 0;    // 16 bytes, low half first
constexpr std::size_t kArtifactAt = 16;  // 16 bytes, low half first
constexpr std::size_t kOffsetAt = 32;    // u64
constexpr std::size_t kSizeAt = 40;      // u64
constexpr std::size_t kItemBytes = 48;

void put_digest(const Digest& digest, std::size_t at, std::string& out) {
  put_number(digest.low, at, out);
  put_number(digest.high, at + 8, out);
}

Digest get_digest(std::string_view in, std::size_t at) {
  return {get_number<std::uint64_t>(in, at + 8), get_number<std::uint64_t>(in, at)};
}

PackItem get_item(std::string_view in, std::size_t at) {
  return {{get_digest(in, at + kRequestAt), get_digest(in, at + kArtifactAt)},
          get_number<std::uint64_t>(in, at + kOffsetAt),
          get_number<std::uint64_t>(in, at + kSizeAt)};
}

}  // namespace

std::uint64_t PackHeader::index_bytes() const { return manifest_bytes + entries * kItemBytes; }

bool begins_as_pack(std::string_view bytes) { return bytes.starts_with(kMagic); }

std::string encode_pack(const nlohmann::json& manifest, std::vector<PackedEntry> entries) {
  KTJIT_CHECK(manifest.is_object());
  const auto by_name = [](const PackedEntry& a, const PackedEntry& b) { return a.name < b.name; };
  const auto same = [](const PackedEntry& a, const PackedEntry& b) { return a.name == b.name; };
  std::sort(entries.begin(), entries.end(), by_name);
  KTJIT_CHECK(std::adjacent_find(entries.begin(), entries.end(), same) == entries.end());

  const std::string manifest_text =
      manifest.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::size_t index_at = kPackHeaderBytes + manifest_text.size();
  const std::size_t entries_at = index_at + entries.size() * kItemBytes;
  std::size_t file_bytes = entries_at;
  for (const PackedEntry& entry : entries) file_bytes += entry.file.size();

  std::string pack;
  pack.reserve(file_bytes);
  pack.resize(kPackHeaderBytes);
  pack.append(manifest_text).resize(entries_at);
  std::size_t item_at = index_at;
  for (const PackedEntry& entry : entries) {
    put_digest(entry.name.request, item_at + kRequestAt, pack);
    put_digest(entry.name.artifact, item_at + kArtifactAt, pack);
    put_number<std::uint64_t>(pack.size(), item_at + kOffsetAt, pack);
    put_number<std::uint64_t>(entry.file.size(), item_at + kSizeAt, pack);
    pack.append(entry.file);
    item_at += kItemBytes;
  }

  pack.replace(0, kMagic.size(), kMagic);
  put_number<std::uint32_t>(kVersion, kVersionAt, pack);
  put_number<std::uint32_t>(0, kReservedAt, pack);
  put_number<std::uint64_t>(file_bytes, kFileBytesAt, pack);
  put_number<std::uint64_t>(manifest_text.size(), kManifestBytesAt, pack);
  put_number<std::uint64_t>(entries.size(), kEntriesAt, pack);
  put_number<std::uint64_t>(0, kReserved2At, pack);
  const std::string_view bytes = pack;
  put_digest(digest_of(bytes.substr(0, kChecksumAt),
                       bytes.substr(kPackHeaderBytes, entries_at - kPackHeaderBytes)),
             kChecksumAt, pack);
  return pack;
}

PackHeader decode_pack_header(std::string_view head, std::uint64_t file_bytes) {
  const std::string_view magic = kMagic.substr(0, std::min(head.size(), kMagic.size()));
  if (head.empty() || !head.starts_with(magic)) throw PackDamage("not a pack of kernels");
  if (head.size() < kPackHeaderBytes) {
    throw PackDamage(fmt::format("cut: {} bytes are less than a pack's header", head.size()));
  }
  const auto version = get_number<std::uint32_t>(head, kVersionAt);
  if (version != kVersion) {
    throw PackDamage(
        fmt::format("a pack of format version {}, this ktjit reads version {}", version, kVersion));
  }
  PackHeader header;
  header.file_bytes = get_number<std::uint64_t>(head, kFileBytesAt);
  header.manifest_bytes = get_number<std::uint64_t>(head, kManifestBytesAt);
  header.entries = get_number<std::uint64_t>(head, kEntriesAt);
  header.checksum = get_digest(head, kChecksumAt);
  if (header.file_bytes != file_bytes) {
    throw PackDamage(fmt::format("cut or damaged: the header says {} bytes, the file has {}",
                                 header.file_bytes, file_bytes));
  }
  const std::uint64_t body_bytes = file_bytes - kPackHeaderBytes;
  const bool fits = header.manifest_bytes <= body_bytes &&
                    header.entries <= (body_bytes - header.manifest_bytes) / kItemBytes;
  if (!fits) throw PackDamage("damaged: manifest and index are larger than the file");
  return header;
}

PackIndex decode_pack_index(const PackHeader& header, std::string_view head,
                            std::string_view index) {
  if (index.size() != header.index_bytes()) throw PackDamage("cut while it was read");
  if (digest_of(head.substr(0, kChecksumAt), index) != header.checksum) {
    throw PackDamage("damaged: the checksum of header and index is wrong");
  }
  // From here on the bytes are as they were written: what is wrong now, its writer did.
  PackIndex result;
  result.manifest = nlohmann::json::parse(index.substr(0, header.manifest_bytes), nullptr,
                                          /*allow_exceptions=*/false);
  if (!result.manifest.is_object()) throw PackDamage("damaged: its manifest is no JSON object");
  result.items.reserve(header.entries);
  std::uint64_t next = kPackHeaderBytes + header.index_bytes();
  for (std::uint64_t at = header.manifest_bytes; at < index.size(); at += kItemBytes) {
    const PackItem item = get_item(index, at);
    const bool in_order = result.items.empty() || result.items.back().name < item.name;
    const bool fits = item.offset == next && item.size_bytes <= header.file_bytes - next &&
                      item.size_bytes <= kMaxEntryBytes;
    if (!in_order || !fits) {
      throw PackDamage(fmt::format("damaged: its index is wrong at entry {} of {}",
                                   result.items.size() + 1, header.entries));
    }
    next += item.size_bytes;
    result.items.push_back(item);
  }
  if (next != header.file_bytes) throw PackDamage("damaged: bytes behind its last entry");
  return result;
}

}  // namespace ktjit::cache
