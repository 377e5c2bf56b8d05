// Why an entry that is there was not used. Each reason has a name, a text and a counter.
#pragma once

#include <cstddef>
#include <string_view>

namespace ktjit::cache {

enum class RejectReason {
  // The content is wrong: a miss, and the next store of that key rewrites the entry.
  kTruncated,     // shorter than a header
  kBadMagic,      // not one of our files
  kWrongVersion,  // another version of the format
  kBadSizes,      // the sizes in the header don't add up to the file's
  kBadChecksum,   // some byte is not what was written
  kBadStamp,      // the time of last use is damaged, though the checksum, which skips it, holds
  kBadKey,        // the key can't be read, though the checksum holds
  kBadManifest,   // the manifest is no JSON object, though the checksum holds
  kBadBlobs,      // the blobs can't be read, though the checksum holds
  kOtherKey,      // a whole entry, but of another key
  // The content was not looked at.
  kNotAFile,    // a link, a folder, a device
  kUntrusted,   // somebody else owns it or can write to it
  kReadFailed,  // says nothing about the entry: nothing is removed, nothing rewritten because of it
};

inline constexpr std::size_t kRejectReasons = 13;

/// The reason in words, e.g. "bad checksum".
std::string_view to_text(RejectReason reason);

}  // namespace ktjit::cache
