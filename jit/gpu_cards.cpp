// Sources of the table, by short name:
//   data sheet    NVIDIA's data sheet or product brief of the card
//   GP100, GV100, TU102, GA100, GA102, AD102, GH100, GB202: NVIDIA's white paper on that chip
//   GeForce page  specifications on nvidia.com/geforce
//   deviceQuery   what the driver reports of the card, for what NVIDIA doesn't publish
// Bandwidth is the data sheet's, not what a kernel reaches: see decode_speed.h.
#include "jit/gpu_cards.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fmt/format.h>
#include <vector>

#include "core/error.h"

namespace ktjit {
namespace {

constexpr bool kEcc = true;
constexpr bool kNoEcc = false;  // none, off as delivered, or at no cost (HBM)

// name, sm, memory GiB, ECC in memory, GB/s, SMs, boost MHz, source.
constexpr std::array kCards = {
    GpuCard{"P100", 60, 16, kNoEcc, 732, 56, 1303, "P100 PCIe data sheet, GP100"},
    GpuCard{"P100 SXM2", 60, 16, kNoEcc, 732, 56, 1480, "GP100"},

    GpuCard{"P40", 61, 24, kEcc, 346, 30, 1531, "P40 data sheet"},
    GpuCard{"GTX 1080 Ti", 61, 11, kNoEcc, 484, 28, 1582, "GeForce page"},
    GpuCard{"GTX 1080", 61, 8, kNoEcc, 320, 20, 1733, "GeForce page"},
    GpuCard{"GTX 1070", 61, 8, kNoEcc, 256, 15, 1683, "GeForce page"},

    GpuCard{"V100", 70, 16, kNoEcc, 900, 80, 1380, "V100 PCIe data sheet, GV100"},
    GpuCard{"V100 32GB", 70, 32, kNoEcc, 900, 80, 1380, "V100 PCIe data sheet, GV100"},
    GpuCard{"V100 SXM2", 70, 32, kNoEcc, 900, 80, 1530, "V100 SXM2 data sheet, GV100"},
    GpuCard{"V100S", 70, 32, kNoEcc, 1134, 80, 1597, "V100S data sheet"},

    GpuCard{"T4", 75, 16, kEcc, 320, 40, 1590, "T4 data sheet, TU104 in TU102"},
    GpuCard{"RTX 2080 Ti", 75, 11, kNoEcc, 616, 68, 1545, "TU102"},
    GpuCard{"RTX 2080", 75, 8, kNoEcc, 448, 46, 1710, "TU102"},
    GpuCard{"RTX 2070", 75, 8, kNoEcc, 448, 36, 1620, "TU102"},
    GpuCard{"RTX 2060", 75, 6, kNoEcc, 336, 30, 1680, "GeForce page"},
    GpuCard{"Titan RTX", 75, 24, kNoEcc, 672, 72, 1770, "TU102"},

    GpuCard{"A100 80GB", 80, 80, kNoEcc, 2039, 108, 1410, "A100 SXM data sheet, GA100"},
    GpuCard{"A100 40GB", 80, 40, kNoEcc, 1555, 108, 1410, "A100 data sheet, GA100"},
    GpuCard{"A100 PCIe 80GB", 80, 80, kNoEcc, 1935, 108, 1410, "A100 PCIe data sheet, GA100"},
    GpuCard{"A30", 80, 24, kNoEcc, 933, 56, 1440, "A30 data sheet"},

    GpuCard{"A10", 86, 24, kEcc, 600, 72, 1695, "A10 data sheet"},
    GpuCard{"A10G", 86, 24, kEcc, 600, 80, 1710, "deviceQuery on EC2 G5"},
    GpuCard{"A40", 86, 48, kEcc, 696, 84, 1740, "A40 data sheet"},
    GpuCard{"A2", 86, 16, kEcc, 200, 10, 1770, "A2 data sheet"},
    GpuCard{"RTX 3090", 86, 24, kNoEcc, 936, 82, 1695, "GA102"},
    GpuCard{"RTX 3090 Ti", 86, 24, kNoEcc, 1008, 84, 1860, "GeForce page"},
    GpuCard{"RTX 3080", 86, 10, kNoEcc, 760, 68, 1710, "GA102"},
    GpuCard{"RTX 3080 Ti", 86, 12, kNoEcc, 912, 80, 1665, "GeForce page"},
    GpuCard{"RTX 3070", 86, 8, kNoEcc, 448, 46, 1725, "GA102"},
    GpuCard{"RTX 3060", 86, 12, kNoEcc, 360, 28, 1777, "GeForce page"},
    GpuCard{"RTX A6000", 86, 48, kNoEcc, 768, 84, 1800, "RTX A6000 data sheet, GA102"},
    GpuCard{"RTX A5000", 86, 24, kNoEcc, 768, 64, 1695, "RTX A5000 data sheet"},
    GpuCard{"RTX A4000", 86, 16, kNoEcc, 448, 48, 1560, "RTX A4000 data sheet"},

    GpuCard{"AGX Orin 64GB", 87, 64, kNoEcc, 205, 16, 1300, "Jetson AGX Orin data sheet"},

    GpuCard{"L4", 89, 24, kEcc, 300, 58, 2040, "L4 data sheet"},
    GpuCard{"L40S", 89, 48, kEcc, 864, 142, 2520, "L40S data sheet"},
    GpuCard{"L40", 89, 48, kEcc, 864, 142, 2490, "L40 data sheet"},
    GpuCard{"RTX 6000 Ada", 89, 48, kNoEcc, 960, 142, 2505, "RTX 6000 Ada data sheet, AD102"},
    GpuCard{"RTX 4090", 89, 24, kNoEcc, 1008, 128, 2520, "AD102"},
    GpuCard{"RTX 4080", 89, 16, kNoEcc, 717, 76, 2505, "AD102"},
    GpuCard{"RTX 4070 Ti", 89, 12, kNoEcc, 504, 60, 2610, "GeForce page"},
    GpuCard{"RTX 4070", 89, 12, kNoEcc, 504, 46, 2475, "GeForce page"},
    GpuCard{"RTX 4060 Ti 16GB", 89, 16, kNoEcc, 288, 34, 2535, "GeForce page"},
    GpuCard{"RTX 4060", 89, 8, kNoEcc, 272, 24, 2460, "GeForce page"},

    GpuCard{"H100 SXM", 90, 80, kNoEcc, 3350, 132, 1980,
            "H100 data sheet (67 TFLOPS of f32), GH100"},
    GpuCard{"H100 PCIe", 90, 80, kNoEcc, 2000, 114, 1755,
            "H100 data sheet (51 TFLOPS of f32), GH100"},
    GpuCard{"H200", 90, 141, kNoEcc, 4800, 132, 1980, "H200 data sheet (67 TFLOPS of f32)"},

    GpuCard{"B200", 100, 180, kNoEcc, 8000, 148, 1965,
            "DGX B200 data sheet; SMs, clock: deviceQuery"},

    GpuCard{"Jetson Thor", 110, 128, kNoEcc, 273, 20, 1575, "Jetson T5000 data sheet"},

    GpuCard{"RTX 5090", 120, 32, kNoEcc, 1792, 170, 2407, "GB202"},
    GpuCard{"RTX 5080", 120, 16, kNoEcc, 960, 84, 2617, "GB202"},
    GpuCard{"RTX 5070 Ti", 120, 16, kNoEcc, 896, 70, 2452, "GB202"},
    GpuCard{"RTX 5070", 120, 12, kNoEcc, 672, 48, 2512, "GB202"},
    GpuCard{"RTX 5060 Ti 16GB", 120, 16, kNoEcc, 448, 36, 2572, "GeForce page"},
    GpuCard{"RTX PRO 6000 Blackwell", 120, 96, kNoEcc, 1792, 188, 2617, "GB202"},
};

/// Words that say nothing about which card it is.
constexpr std::array<std::string_view, 9> kNoiseWords = {
    "nvidia", "geforce", "tesla", "quadro", "rtx", "gtx", "gpu", "graphics", "generation"};

/// Other words for the same: names that drivers report, and short forms.
struct CardAlias {
  std::string_view alias;  ///< normalised
  std::string_view card;
};
constexpr std::array kAliases = {
    CardAlias{"p100pcie16gb", "P100"},
    CardAlias{"p100sxm216gb", "P100 SXM2"},
    CardAlias{"v100pcie16gb", "V100"},
    CardAlias{"v100pcie32gb", "V100 32GB"},
    CardAlias{"v100sxm232gb", "V100 SXM2"},
    CardAlias{"v100spcie32gb", "V100S"},
    CardAlias{"a100", "A100 80GB"},
    CardAlias{"a10080", "A100 80GB"},
    CardAlias{"a10040", "A100 40GB"},
    CardAlias{"a100sxm480gb", "A100 80GB"},
    CardAlias{"a100sxm440gb", "A100 40GB"},
    CardAlias{"a100pcie40gb", "A100 40GB"},
    CardAlias{"a10080gbpcie", "A100 PCIe 80GB"},
    CardAlias{"h100", "H100 SXM"},
    CardAlias{"h10080gbhbm3", "H100 SXM"},
    CardAlias{"b200sxm", "B200"},
    CardAlias{"h200sxm", "H200"},
    CardAlias{"4060ti", "RTX 4060 Ti 16GB"},
    CardAlias{"5060ti", "RTX 5060 Ti 16GB"},
    CardAlias{"pro6000", "RTX PRO 6000 Blackwell"},
    CardAlias{"pro6000blackwellworkstationedition", "RTX PRO 6000 Blackwell"},
    CardAlias{"agxorin", "AGX Orin 64GB"},
    CardAlias{"thor", "Jetson Thor"},
};

/// Letters and digits only, lower case, without noise words.
std::string normalise(std::string_view name) {
  std::string result;
  std::string word;
  const auto take_word = [&] {
    if (std::find(kNoiseWords.begin(), kNoiseWords.end(), word) == kNoiseWords.end())
      result += word;
    word.clear();
  };
  for (const char c : name) {
    const auto letter = static_cast<unsigned char>(c);
    if (std::isalnum(letter)) {
      word += static_cast<char>(std::tolower(letter));
    } else {
      take_word();
    }
  }
  take_word();
  return result;
}

const GpuCard* find_normalised(std::string_view name) {
  const auto found = std::find_if(kCards.begin(), kCards.end(), [&](const GpuCard& card) {
    return normalise(card.name) == name;
  });
  return found == kCards.end() ? nullptr : &*found;
}

}  // namespace

std::uint64_t GpuCard::memory_bytes() const {
  const std::uint64_t bytes = static_cast<std::uint64_t>(memory_gib) << 30;
  // Seen in nvidia-smi: A10 and A10G 23028 MiB, T4 15360, A40 and L40S 46068.
  return ecc_in_memory ? bytes / 16 * 15 : bytes;
}

std::span<const GpuCard> all_gpu_cards() { return kCards; }

const GpuCard* find_gpu_card(std::string_view name) {
  std::string wanted = normalise(name);
  if (wanted.empty()) return nullptr;
  // "rtx3090" is one word to normalise.
  for (const std::string_view prefix : {"rtx", "gtx"}) {
    if (wanted.starts_with(prefix)) wanted.erase(0, prefix.size());
  }
  if (const GpuCard* card = find_normalised(wanted)) return card;
  const auto alias = std::find_if(kAliases.begin(), kAliases.end(),
                                  [&](const CardAlias& known) { return known.alias == wanted; });
  return alias == kAliases.end() ? nullptr : find_normalised(normalise(alias->card));
}

const GpuCard& get_gpu_card(std::string_view name) {
  if (const GpuCard* card = find_gpu_card(name)) return *card;
  std::vector<std::string_view> names;
  for (const GpuCard& card : kCards) names.push_back(card.name);
  throw SpecError("card", fmt::format("'{}'", name), fmt::format("{}", fmt::join(names, ", ")));
}

const GpuCard* default_gpu_card(const Target& target) {
  if (!target.is_cuda()) return nullptr;
  const auto found = std::find_if(kCards.begin(), kCards.end(),
                                  [&](const GpuCard& card) { return card.sm == target.sm; });
  return found == kCards.end() ? nullptr : &*found;
}

bool runs_on(const Target& target, const GpuCard& card) {
  if (!target.is_cuda()) return false;
  if (target.sm == card.sm) return true;
  const bool same_major = target.sm / 10 == card.sm / 10;
  return same_major && target.sm < card.sm && target.suffix != "a";
}

Target native_target(const GpuCard& card) { return make_native_cuda_target(card.sm); }

}  // namespace ktjit
