// What an artefact is stored under. Two levels, each a list of fields: what was asked for, and who
// compiled it. Packs and sealed caches look up by the first alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cache/digest.h"
#include "cache/field_list.h"

namespace ktjit::cache {

using KeyFields = FieldList;

/// A key and what follows from it, computed once.
struct HashedKey {
  std::string text;  ///< the hashed input, readable: both lists in the form of field_list.h
  Digest request;    ///< of the request's part of the text
  Digest artifact;   ///< of the whole text
};

/// The key of one artefact.
///
/// REQUIRES of the caller, since the cache can't see it:
///   - `request` has everything that determines the artefact except who compiled it: the kernel's
///     text, its entry name, semantic options, the target with resolved features, the kind of
///     artefact;
///   - `compiler` has the rest: prelude, flags, the compiler's identity (and the driver's version
///   where
///     the driver links);
///   - neither has a path, a time, a host's name, or another compiler's output.
struct CacheKey {
  KeyFields request;
  KeyFields compiler;

  Digest request_digest() const;
  Digest artifact_digest() const;
  HashedKey hashed() const;

  /// Reads `HashedKey::text` back; nothing if it is not such a text.
  static std::optional<CacheKey> parse(std::string_view text);

  bool operator==(const CacheKey&) const = default;
};

/// The digest that `CacheKey::request_digest` gives for these request fields.
Digest request_digest_of(const KeyFields& request);

}  // namespace ktjit::cache
