#include "cache/reject_reason.h"

namespace ktjit::cache {

std::string_view to_text(RejectReason reason) {
  switch (reason) {
    case RejectReason::kTruncated:
      return "shorter than a header";
    case RejectReason::kBadMagic:
      return "not a ktjit cache entry";
    case RejectReason::kWrongVersion:
      return "another format version";
    case RejectReason::kBadSizes:
      return "sizes do not add up";
    case RejectReason::kBadChecksum:
      return "bad checksum";
    case RejectReason::kBadStamp:
      return "bad time stamp";
    case RejectReason::kBadKey:
      return "unreadable key";
    case RejectReason::kBadManifest:
      return "unreadable manifest";
    case RejectReason::kBadBlobs:
      return "unreadable blobs";
    case RejectReason::kOtherKey:
      return "entry of another key";
    case RejectReason::kNotAFile:
      return "not a regular file";
    case RejectReason::kUntrusted:
      return "not trusted";
    case RejectReason::kReadFailed:
      return "read failed";
  }
  return "unknown";
}

}  // namespace ktjit::cache
