#include "cache/entry_format.h"

#include <cstdint>

#include "cache/digest.h"
#include "cache/little_endian.h"
#include "cache/stamp.h"
#include "core/error.h"

namespace ktjit::cache {
namespace {

// Header, all numbers little-endian. Offsets and sizes in bytes.
constexpr std::string_view kMagic("\x89KTJIT\r\n", 8);  // as PNG's: shows text-mode transfers
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kVersionAt = 8;         // u32
constexpr std::size_t kReservedAt = 12;       // u32, 0
constexpr std::size_t kFileBytesAt = 16;      // u64, the whole file
constexpr std::size_t kKeyBytesAt = 24;       // u64
constexpr std::size_t kManifestBytesAt = 32;  // u64
constexpr std::size_t kBlobBytesAt = 40;      // u64
constexpr std::size_t kChecksumAt = 48;       // 16 bytes: every byte before, and after the header
static_assert(kStampAt == kChecksumAt + 16 && kHeaderBytes == kStampAt + kStampBytes);

constexpr std::string_view kBlobs = "blobs";  // heading of the blobs' field list

Digest checksum_of(std::string_view file) {
  return digest_of(file.substr(0, kChecksumAt), file.substr(kHeaderBytes));
}

// A file cut into its parts, none of them read yet.
struct Parts {
  std::string_view key;
  std::string_view manifest;
  std::string_view blobs;
};

std::variant<Parts, RejectReason> split(std::string_view file) {
  if (file.size() < kHeaderBytes) return RejectReason::kTruncated;
  if (!file.starts_with(kMagic)) return RejectReason::kBadMagic;
  if (get_number<std::uint32_t>(file, kVersionAt) != kVersion) return RejectReason::kWrongVersion;
  const auto key_bytes = get_number<std::uint64_t>(file, kKeyBytesAt);
  const auto manifest_bytes = get_number<std::uint64_t>(file, kManifestBytesAt);
  const auto blob_bytes = get_number<std::uint64_t>(file, kBlobBytesAt);
  const std::uint64_t body_bytes = file.size() - kHeaderBytes;
  const bool sizes_hold = get_number<std::uint64_t>(file, kFileBytesAt) == file.size() &&
                          key_bytes <= body_bytes && manifest_bytes <= body_bytes - key_bytes &&
                          blob_bytes == body_bytes - key_bytes - manifest_bytes;
  if (!sizes_hold) return RejectReason::kBadSizes;
  const Digest stored{get_number<std::uint64_t>(file, kChecksumAt + 8),
                      get_number<std::uint64_t>(file, kChecksumAt)};
  if (stored != checksum_of(file)) return RejectReason::kBadChecksum;
  if (!decode_stamp(file.substr(kStampAt, kStampBytes))) return RejectReason::kBadStamp;
  file.remove_prefix(kHeaderBytes);
  return Parts{file.substr(0, key_bytes), file.substr(key_bytes, manifest_bytes),
               file.substr(key_bytes + manifest_bytes)};
}

std::variant<Entry, RejectReason> read_entry(const Parts& parts) {
  Entry entry;
  entry.manifest = nlohmann::json::parse(parts.manifest, nullptr, /*allow_exceptions=*/false);
  if (!entry.manifest.is_object()) return RejectReason::kBadManifest;
  std::string_view rest = parts.blobs;
  auto blobs = FieldList::parse(kBlobs, rest);
  if (!blobs || !rest.empty()) return RejectReason::kBadBlobs;
  entry.blobs = std::move(*blobs);
  return entry;
}

bool has_header(std::string_view file) {
  return file.size() >= kHeaderBytes && file.starts_with(kMagic) &&
         get_number<std::uint32_t>(file, kVersionAt) == kVersion;
}

}  // namespace

std::string encode_entry(std::string_view key_text, const Entry& entry,
                         std::chrono::sys_seconds used) {
  KTJIT_CHECK(entry.manifest.is_object());
  // Compilers' logs are not always UTF-8; JSON has to be.
  const std::string manifest =
      entry.manifest.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);

  std::string file;
  file.reserve(kHeaderBytes + key_text.size() + manifest.size() + entry.blobs.text_bytes(kBlobs));
  file.resize(kHeaderBytes);
  file.append(key_text).append(manifest);
  const std::size_t blobs_at = file.size();
  entry.blobs.append_text(kBlobs, file);
  KTJIT_CHECK(file.size() <= kMaxEntryBytes);

  file.replace(0, kMagic.size(), kMagic);
  put_number<std::uint32_t>(kVersion, kVersionAt, file);
  put_number<std::uint32_t>(0, kReservedAt, file);
  put_number<std::uint64_t>(file.size(), kFileBytesAt, file);
  put_number<std::uint64_t>(key_text.size(), kKeyBytesAt, file);
  put_number<std::uint64_t>(manifest.size(), kManifestBytesAt, file);
  put_number<std::uint64_t>(file.size() - blobs_at, kBlobBytesAt, file);
  const Digest checksum = checksum_of(file);
  put_number<std::uint64_t>(checksum.low, kChecksumAt, file);
  put_number<std::uint64_t>(checksum.high, kChecksumAt + 8, file);
  file.replace(kStampAt, kStampBytes, encode_stamp(used));
  return file;
}

std::optional<std::chrono::sys_seconds> stamp_of(std::string_view file) {
  if (!has_header(file)) return std::nullopt;
  return decode_stamp(file.substr(kStampAt, kStampBytes));
}

bool is_note(std::string_view file) {
  static const std::uint64_t kNoBlobBytes = [] {
    std::string text;
    FieldList().append_text(kBlobs, text);
    return text.size();
  }();
  return has_header(file) && get_number<std::uint64_t>(file, kBlobBytesAt) == kNoBlobBytes;
}

std::variant<DecodedEntry, RejectReason> decode_entry(std::string_view file) {
  const auto parts = split(file);
  if (const auto* reason = std::get_if<RejectReason>(&parts)) return *reason;
  const std::string_view key_text = std::get<Parts>(parts).key;
  auto entry = read_entry(std::get<Parts>(parts));
  if (const auto* reason = std::get_if<RejectReason>(&entry)) return *reason;
  return DecodedEntry{std::string(key_text), std::move(std::get<Entry>(entry))};
}

std::variant<Entry, RejectReason> decode_entry_of(std::string_view key_text,
                                                  std::string_view file) {
  const auto parts = split(file);
  if (const auto* reason = std::get_if<RejectReason>(&parts)) return *reason;
  if (std::get<Parts>(parts).key != key_text) return RejectReason::kOtherKey;
  return read_entry(std::get<Parts>(parts));
}

}  // namespace ktjit::cache
