#include "cache/entry_name.h"

namespace ktjit::cache {
namespace {

constexpr std::string_view kSuffix = ".ktk";
constexpr std::size_t kHexDigits = 32;
constexpr std::size_t kShardDigits = 2;
constexpr std::size_t kNameBytes = 2 * kHexDigits + 1 + kSuffix.size();

}  // namespace

std::string EntryName::shard() const { return request.hex().substr(0, kShardDigits); }

std::string EntryName::file_name() const {
  return request.hex().append(1, '-').append(artifact.hex()).append(kSuffix);
}

std::optional<EntryName> EntryName::parse(std::string_view name) {
  if (name.size() != kNameBytes || name[kHexDigits] != '-' || !name.ends_with(kSuffix)) {
    return std::nullopt;
  }
  const auto request = Digest::parse(name.substr(0, kHexDigits));
  const auto artifact = Digest::parse(name.substr(kHexDigits + 1, kHexDigits));
  if (!request || !artifact) return std::nullopt;
  return EntryName{*request, *artifact};
}

bool is_shard_name(std::string_view name) {
  return name.size() == kShardDigits &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace ktjit::cache
