// What AMX needs beside itself.
#include "core/cpu_tiles.h"

#include <algorithm>
#include <array>

namespace ktjit {

bool has_bf16_tiles(const Target& target) {
  constexpr std::array kNeeded = {"amx-bf16", "amx-tile", "avx512bf16", "avx512bw"};
  return std::ranges::all_of(kNeeded,
                             [&](const char* name) { return target.has_cpu_feature(name); });
}

}  // namespace ktjit
