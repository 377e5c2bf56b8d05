#include "cache/cache_key.h"

namespace ktjit::cache {
namespace {

// The first line of every hashed text: a change of the text's form changes every key.
constexpr std::string_view kTextVersion = "ktjit-key 1\n";
constexpr std::string_view kRequest = "request";
constexpr std::string_view kCompiler = "compiler";

}  // namespace

HashedKey CacheKey::hashed() const {
  HashedKey key;
  key.text.reserve(kTextVersion.size() + request.text_bytes(kRequest) +
                   compiler.text_bytes(kCompiler));
  key.text = kTextVersion;
  request.append_text(kRequest, key.text);
  key.request = digest_of(key.text);
  compiler.append_text(kCompiler, key.text);
  key.artifact = digest_of(key.text);
  return key;
}

Digest CacheKey::request_digest() const { return request_digest_of(request); }

Digest CacheKey::artifact_digest() const { return hashed().artifact; }

std::optional<CacheKey> CacheKey::parse(std::string_view text) {
  if (!text.starts_with(kTextVersion)) return std::nullopt;
  text.remove_prefix(kTextVersion.size());
  auto request = KeyFields::parse(kRequest, text);
  if (!request) return std::nullopt;
  auto compiler = KeyFields::parse(kCompiler, text);
  if (!compiler || !text.empty()) return std::nullopt;
  return CacheKey{std::move(*request), std::move(*compiler)};
}

Digest request_digest_of(const KeyFields& request) {
  std::string text(kTextVersion);
  request.append_text(kRequest, text);
  return digest_of(text);
}

}  // namespace ktjit::cache
