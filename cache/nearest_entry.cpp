#include "cache/nearest_entry.h"

#include <algorithm>
#include <fmt/format.h>
#include <tuple>

#include "cache/maintenance.h"
#include "core/error.h"

namespace ktjit::cache {
namespace {

using Match = NearestEntry::Match;

// How near an entry is: greater is nearer.
struct Nearness {
  Match match = Match::kNothing;
  bool is_served = false;    // another compiler's, and it serves all the same
  std::size_t agreeing = 0;  // bits, the first of the important fields highest
  std::size_t alike = 0;     // characters that begin the most important field of both
  std::size_t same_fields = 0;

  auto operator<=>(const Nearness&) const = default;
};

std::size_t count_same(const FieldList& left, const FieldList& right) {
  return static_cast<std::size_t>(
      std::count_if(left.fields().begin(), left.fields().end(), [&](const Field& field) {
        const std::string* other = right.find(field.name);
        return other != nullptr && *other == field.value;
      }));
}

Nearness nearness_of(const CacheKey& wanted, const CacheKey& found, bool in_pack,
                     std::span<const std::string_view> first) {
  Nearness nearness;
  nearness.match = Match::kOther;
  if (found.request == wanted.request) {
    nearness.match = found.compiler == wanted.compiler ? Match::kExact : Match::kRequest;
  }
  nearness.is_served = nearness.match == Match::kRequest && in_pack;
  for (const std::string_view name : first) {
    const std::string* left = wanted.request.find(name);
    const std::string* right = found.request.find(name);
    if (name == first.front() && left != nullptr && right != nullptr) {
      const auto parted = std::mismatch(left->begin(), left->end(), right->begin(), right->end());
      nearness.alike = static_cast<std::size_t>(parted.first - left->begin());
    }
    nearness.agreeing =
        nearness.agreeing << 1 |
        static_cast<std::size_t>(left != nullptr && right != nullptr && *left == *right);
  }
  nearness.same_fields =
      count_same(wanted.request, found.request) + count_same(wanted.compiler, found.compiler);
  return nearness;
}

std::string_view line_at(std::string_view text, std::size_t begin) {
  if (begin >= text.size()) return {};
  return text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace

std::vector<NearestEntry> find_nearest(std::span<const RootOptions> roots,
                                       std::span<const CacheKey> wanted,
                                       std::span<const std::string_view> first, FileSystem& files) {
  std::vector<NearestEntry> nearest(wanted.size());
  std::vector<Nearness> best(wanted.size());
  std::vector<EntryName> names;
  for (const CacheKey& key : wanted) {
    const HashedKey hashed = key.hashed();
    names.push_back({hashed.request, hashed.artifact});
  }
  for (const RootOptions& root : roots) {
    Maintenance maintenance(root, files);
    const bool in_pack = !maintenance.stats().pack.is_null();
    maintenance.visit([&](CheckedEntry entry) {
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (!entry.stored) {
          const bool is_wanted = entry.name == names[i] && !nearest[i].damaged;
          if (is_wanted) nearest[i].damaged = fmt::format("{}: {}", entry.path, entry.detail);
          continue;
        }
        const Nearness nearness = nearness_of(wanted[i], entry.stored->key, in_pack, first);
        if (nearness <= best[i]) continue;
        best[i] = nearness;
        nearest[i].match = nearness.match;
        nearest[i].root = root.path;
        nearest[i].in_pack = in_pack;
        nearest[i].name = entry.name;
        nearest[i].key = entry.stored->key;
      }
    });
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (nearest[i].match == Match::kNothing) continue;
    nearest[i].request = differences(wanted[i].request, nearest[i].key.request);
    nearest[i].compiler = differences(wanted[i].compiler, nearest[i].key.compiler);
  }
  return nearest;
}

TextDifference first_difference(std::string_view left, std::string_view right) {
  KTJIT_CHECK(left != right);
  const auto parted = std::mismatch(left.begin(), left.end(), right.begin(), right.end()).first;
  const std::string_view same(left.begin(), parted);
  const std::size_t begin = same.rfind('\n') + 1;  // 0 if there is none
  TextDifference difference;
  difference.line = static_cast<std::size_t>(std::count(same.begin(), same.end(), '\n')) + 1;
  difference.left = line_at(left, begin);
  difference.right = line_at(right, begin);
  return difference;
}

}  // namespace ktjit::cache
