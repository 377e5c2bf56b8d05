// The table. Source: nvrtcGetSupportedArchs
// of 11.8.89, 12.1.105, 12.4.127, 12.8.93, 12.9.86, 13.0.88 and 13.5.37, called on 2025-11-22; the
// versions between were not released with other lists (CUDA release notes, "New Features"), but 107
// is dated to 13.5 only because that is where it was seen.
#include "jit/nvrtc_archs.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace ktjit {
namespace {

constexpr int kArchs11_8[] = {35, 37, 50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90};
constexpr int kArchs12_0[] = {50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90};
constexpr int kArchs12_8[] = {50, 52, 53, 60, 61, 62,  70,  72, 75,
                              80, 86, 87, 89, 90, 100, 101, 120};
constexpr int kArchs12_9[] = {50, 52, 53, 60, 61,  62,  70,  72,  75, 80,
                              86, 87, 89, 90, 100, 101, 103, 120, 121};
constexpr int kArchs13_0[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
constexpr int kArchs13_5[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 107, 110, 120, 121};

struct Row {
  NvrtcVersion from;
  std::span<const int> archs;
};

constexpr std::array kRows = {Row{{11, 8}, kArchs11_8}, Row{{12, 0}, kArchs12_0},
                              Row{{12, 8}, kArchs12_8}, Row{{12, 9}, kArchs12_9},
                              Row{{13, 0}, kArchs13_0}, Row{{13, 5}, kArchs13_5}};

// CUDA 12.0 brought sm_90a (PTX ISA 8.0), CUDA 12.9 the family targets (PTX ISA 8.8).
constexpr NvrtcVersion kFirstWithExactTargets = {12, 0};
constexpr NvrtcVersion kFirstWithFamilyTargets = {12, 9};

}  // namespace

std::string NvrtcVersion::text() const { return fmt::format("{}.{}", major, minor); }

std::span<const int> nvrtc_archs(NvrtcVersion version) {
  std::span<const int> archs;
  for (const Row& row : kRows) {
    if (row.from <= version) archs = row.archs;
  }
  return archs;
}

bool nvrtc_serves(NvrtcVersion version, const Target& target) {
  if (!target.is_cuda()) return false;
  const std::span<const int> archs = nvrtc_archs(version);
  if (!std::binary_search(archs.begin(), archs.end(), target.sm)) return false;
  if (target.suffix == "a") return version >= kFirstWithExactTargets;
  if (target.suffix == "f") return version >= kFirstWithFamilyTargets;
  return target.suffix.empty();
}

}  // namespace ktjit
