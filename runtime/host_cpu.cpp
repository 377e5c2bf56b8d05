// CPU features by CPUID, as far as the operating system keeps their registers; caches from CPUID
// and sysfs.
#include "runtime/host_cpu.h"

#include <algorithm>
#include <array>
#include <asm/prctl.h>
#include <cpuid.h>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

namespace ktjit::runtime {
namespace {

enum Register { kEax, kEbx, kEcx, kEdx };

using CpuidResult = std::array<unsigned, 4>;

CpuidResult cpuid(unsigned leaf, unsigned subleaf) {
  CpuidResult r{};
  if (leaf <= __get_cpuid_max(leaf & 0x80000000u, nullptr))
    __cpuid_count(leaf, subleaf, r[kEax], r[kEbx], r[kEcx], r[kEdx]);
  return r;
}

// Bits of XCR0: the register sets that the operating system saves. Source: Intel SDM volume 1,
// section 13.1.
constexpr std::uint64_t kXcr0Avx = 0x6;      // XMM, YMM
constexpr std::uint64_t kXcr0Avx512 = 0xe6;  // and opmasks, upper ZMM, ZMM16-31
constexpr std::uint64_t kXcr0Amx = 0x60000;  // tile configuration and data
constexpr unsigned kXfeatureTileData = 18;

struct Feature {
  std::string_view name;  ///< LLVM's
  unsigned leaf;
  unsigned subleaf;
  Register reg;
  int bit;
  std::uint64_t xcr0;  ///< register sets it needs
};

// Source: Intel SDM volume 2, CPUID; lzcnt: AMD APM volume 3, appendix E.
constexpr std::array kFeatures = {
    Feature{"amx-bf16", 7, 0, kEdx, 22, kXcr0Amx},
    Feature{"amx-int8", 7, 0, kEdx, 25, kXcr0Amx},
    Feature{"amx-tile", 7, 0, kEdx, 24, kXcr0Amx},
    Feature{"avx", 1, 0, kEcx, 28, kXcr0Avx},
    Feature{"avx2", 7, 0, kEbx, 5, kXcr0Avx},
    Feature{"avx512bf16", 7, 1, kEax, 5, kXcr0Avx512},
    Feature{"avx512bw", 7, 0, kEbx, 30, kXcr0Avx512},
    Feature{"avx512cd", 7, 0, kEbx, 28, kXcr0Avx512},
    Feature{"avx512dq", 7, 0, kEbx, 17, kXcr0Avx512},
    Feature{"avx512f", 7, 0, kEbx, 16, kXcr0Avx512},
    Feature{"avx512fp16", 7, 0, kEdx, 23, kXcr0Avx512},
    Feature{"avx512vbmi", 7, 0, kEcx, 1, kXcr0Avx512},
    Feature{"avx512vl", 7, 0, kEbx, 31, kXcr0Avx512},
    Feature{"avx512vnni", 7, 0, kEcx, 11, kXcr0Avx512},
    Feature{"avxvnni", 7, 1, kEax, 4, kXcr0Avx},
    Feature{"bmi", 7, 0, kEbx, 3, 0},
    Feature{"bmi2", 7, 0, kEbx, 8, 0},
    Feature{"f16c", 1, 0, kEcx, 29, kXcr0Avx},
    Feature{"fma", 1, 0, kEcx, 12, kXcr0Avx},
    Feature{"lzcnt", 0x80000001u, 0, kEcx, 5, 0},
    Feature{"popcnt", 1, 0, kEcx, 23, 0},
    Feature{"sse4.1", 1, 0, kEcx, 19, 0},
    Feature{"sse4.2", 1, 0, kEcx, 20, 0},
    Feature{"sse4a", 0x80000001u, 0, kEcx, 6, 0},
    Feature{"ssse3", 1, 0, kEcx, 9, 0},
};

std::uint64_t read_xcr0() {
  constexpr int kOsxsaveBit = 27;
  if (((cpuid(1, 0)[kEcx] >> kOsxsaveBit) & 1u) == 0) return 0;
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

/// Linux hands out AMX's tiles on request only; without it the first tile instruction is fatal.
bool request_amx() {
#ifdef ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, kXfeatureTileData) == 0;
#else
  return false;
#endif
}

std::vector<std::string> detect_features() {
  const std::uint64_t xcr0 = read_xcr0();
  std::vector<std::string> names;
  for (const Feature& feature : kFeatures) {
    const bool in_cpu = (cpuid(feature.leaf, feature.subleaf)[feature.reg] >> feature.bit) & 1u;
    const bool in_kernel = (xcr0 & feature.xcr0) == feature.xcr0;
    const bool allowed = feature.xcr0 != kXcr0Amx || (in_cpu && in_kernel && request_amx());
    if (in_cpu && in_kernel && allowed) names.emplace_back(feature.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string detect_model() {
  std::string model;
  for (unsigned leaf = 0x80000002u; leaf <= 0x80000004u; ++leaf) {
    const CpuidResult text = cpuid(leaf, 0);
    model.append(reinterpret_cast<const char*>(text.data()), sizeof text);
  }
  model.resize(std::strlen(model.c_str()));
  const auto first = model.find_first_not_of(' ');
  const auto last = model.find_last_not_of(' ');
  return first == std::string::npos ? "x86-64 CPU" : model.substr(first, last - first + 1);
}

/// "32768K" as sysfs writes it.
std::size_t parse_cache_size(const std::string& text) {
  std::size_t value = 0;
  std::size_t i = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i)
    value = value * 10 + static_cast<std::size_t>(text[i] - '0');
  if (i < text.size() && text[i] == 'K') return value << 10;
  if (i < text.size() && text[i] == 'M') return value << 20;
  return value;
}

std::size_t largest_cache_by_sysfs() {
  std::size_t largest = 0;
  std::error_code error;
  const std::filesystem::path folder = "/sys/devices/system/cpu/cpu0/cache";
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::ifstream file(entry.path() / "size");
    std::string text;
    if (file >> text) largest = std::max(largest, parse_cache_size(text));
  }
  return largest;
}

/// Cache parameters: leaf 4 (Intel) and leaf 0x8000001d (AMD) have the same layout.
std::size_t largest_cache_by_cpuid() {
  constexpr unsigned kMaxCaches = 16;
  std::size_t largest = 0;
  for (const unsigned leaf : {4u, 0x8000001du}) {
    for (unsigned i = 0; i < kMaxCaches; ++i) {
      const CpuidResult r = cpuid(leaf, i);
      if ((r[kEax] & 0x1fu) == 0) break;  // no more caches
      const std::size_t ways = (r[kEbx] >> 22) + 1;
      const std::size_t partitions = ((r[kEbx] >> 12) & 0x3ffu) + 1;
      const std::size_t line_bytes = (r[kEbx] & 0xfffu) + 1;
      const std::size_t sets = std::size_t{r[kEcx]} + 1;
      largest = std::max(largest, ways * partitions * line_bytes * sets);
    }
  }
  return largest;
}

}  // namespace

HostCpu detect_host_cpu() {
  HostCpu host;
  host.model = detect_model();
  host.features = detect_features();
  host.last_level_cache_bytes = largest_cache_by_sysfs();
  if (host.last_level_cache_bytes == 0) host.last_level_cache_bytes = largest_cache_by_cpuid();
  return host;
}

}  // namespace ktjit::runtime
