// The fact table and the names of targets.
#include "core/target.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit {
namespace {

constexpr int kKiB = 1024;

// Columns as in CudaFacts. smem: CUDA C++ Programming Guide, table "Technical Specifications".
constexpr std::array kCudaFacts = {
    CudaFacts{60, "P100", "", true, false, false, false, false, "none", 48 * kKiB, "5.0"},
    CudaFacts{61, "P40, GTX 1080", "", false, true, false, false, false, "none", 48 * kKiB, "5.0"},
    CudaFacts{70, "V100", "", true, true, false, false, false, "m8n8k4 f16", 96 * kKiB, "6.0"},
    CudaFacts{72, "Xavier", "", true, true, false, false, false, "m8n8k4 f16, m8n8k16 s8",
              96 * kKiB, "6.1"},
    CudaFacts{75, "T4, RTX 2080", "", true, true, false, false, false, "m16n8k8 f16, m8n8k16 s8",
              64 * kKiB, "6.3"},
    CudaFacts{80, "A100", "", true, true, true, false, false, "m16n8k16 f16/bf16, m16n8k32 s8",
              163 * kKiB, "7.0"},
    CudaFacts{86, "A10, RTX 3090", "", true, true, true, false, false,
              "m16n8k16 f16/bf16, m16n8k32 s8", 99 * kKiB, "7.1"},
    CudaFacts{87, "Orin", "", true, true, true, false, false, "m16n8k16 f16/bf16, m16n8k32 s8",
              163 * kKiB, "7.4"},
    CudaFacts{88, "Thor-class Ampere", "", true, true, true, false, false,
              "m16n8k16 f16/bf16, m16n8k32 s8", 163 * kKiB, "9.0"},
    CudaFacts{89, "L4, RTX 4090", "", true, true, true, true, false,
              "m16n8k16 f16/bf16, m16n8k32 s8/fp8", 99 * kKiB, "7.8"},
    CudaFacts{90, "H100, H200", "a", true, true, true, true, false,
              "wgmma (a), m16n8k16 f16/bf16, m16n8k32 s8/fp8", 227 * kKiB, "7.8"},
    CudaFacts{100, "B200", "af", true, true, true, true, true,
              "tcgen05 (a), m16n8k16 f16/bf16, m16n8k32 s8/fp8", 227 * kKiB, "8.6"},
    CudaFacts{103, "B300", "af", true, true, true, true, true,
              "tcgen05 (a), m16n8k16 f16/bf16, m16n8k32 s8/fp8", 227 * kKiB, "8.8"},
    CudaFacts{110, "Jetson Thor", "af", true, true, true, true, true,
              "tcgen05 (a), m16n8k16 f16/bf16, m16n8k32 s8/fp8", 227 * kKiB, "9.0"},
    CudaFacts{120, "RTX 5090", "af", true, true, true, true, true,
              "block-scaled mma (a), m16n8k16 f16/bf16, m16n8k32 s8/fp8", 99 * kKiB, "8.7"},
    CudaFacts{121, "DGX Spark", "af", true, true, true, true, true,
              "block-scaled mma (a), m16n8k16 f16/bf16, m16n8k32 s8/fp8", 99 * kKiB, "8.8"},
};

constexpr std::array<std::string_view, 25> kCpuFeatures = {
    "amx-bf16", "amx-int8", "amx-tile", "avx",        "avx2",       "avx512bf16", "avx512bw",
    "avx512cd", "avx512dq", "avx512f",  "avx512fp16", "avx512vbmi", "avx512vl",   "avx512vnni",
    "avxvnni",  "bmi",      "bmi2",     "f16c",       "fma",        "lzcnt",      "popcnt",
    "sse4.1",   "sse4.2",   "sse4a",    "ssse3"};

const CudaFacts* find_cuda_facts(int sm) {
  const auto found = std::find_if(kCudaFacts.begin(), kCudaFacts.end(),
                                  [sm](const CudaFacts& facts) { return facts.sm == sm; });
  return found == kCudaFacts.end() ? nullptr : &*found;
}

std::string known_targets() {
  std::string names;
  for (const CudaFacts& facts : kCudaFacts) names += fmt::format("sm_{}, ", facts.sm);
  return names +
         "(from sm_90 up with a suffix a where the chip has one), cpu, cpu:x86-64, cpu:x86-64-v2, "
         "cpu:x86-64-v3, cpu:x86-64-v4";
}

}  // namespace

bool Target::has_cpu_feature(std::string_view feature) const {
  return std::find(cpu_features.begin(), cpu_features.end(), feature) != cpu_features.end();
}

std::string Target::name() const {
  if (is_cuda()) return fmt::format("sm_{}{}", sm, suffix);
  return cpu_level == "native" ? "cpu" : fmt::format("cpu:{}", cpu_level);
}

std::string Target::virtual_arch() const {
  KTJIT_CHECK(is_cuda());
  return fmt::format("compute_{}{}", sm, suffix);
}

std::span<const CudaFacts> all_cuda_facts() { return kCudaFacts; }

const CudaFacts& get_cuda_facts(const Target& target) {
  const CudaFacts* facts = target.is_cuda() ? find_cuda_facts(target.sm) : nullptr;
  KTJIT_CHECK(facts != nullptr);
  return *facts;
}

Target make_cuda_target(int sm, std::string_view suffix) {
  const CudaFacts* facts = find_cuda_facts(sm);
  if (facts == nullptr)
    throw SpecError("target", fmt::format("'sm_{}{}'", sm, suffix), known_targets());
  if (!suffix.empty() &&
      (suffix.size() != 1 || facts->suffixes.find(suffix) == std::string_view::npos)) {
    throw SpecError("target", fmt::format("'sm_{}{}'", sm, suffix),
                    facts->suffixes.empty()
                        ? fmt::format("sm_{} without a suffix", sm)
                        : fmt::format("sm_{} with one suffix of '{}'", sm, facts->suffixes));
  }
  Target target;
  target.kind = TargetKind::kCuda;
  target.sm = sm;
  target.suffix = suffix;
  return target;
}

Target make_native_cuda_target(int sm) {
  const CudaFacts* facts = find_cuda_facts(sm);
  return make_cuda_target(sm, facts != nullptr && !facts->suffixes.empty() ? "a" : "");
}

Target make_cpu_target(std::string_view level, std::vector<std::string> features) {
  Target target;
  target.kind = TargetKind::kCpu;
  target.cpu_level = level;
  std::sort(features.begin(), features.end());
  target.cpu_features = std::move(features);
  return target;
}

Target parse_target(std::string_view name, std::span<const std::string> host_features) {
  if (name == "cpu" || name == "cpu:native") {
    return make_cpu_target("native", {host_features.begin(), host_features.end()});
  }
  if (name.starts_with("cpu:")) {
    const std::string_view level = name.substr(4);
    if (level == "x86-64" || !cpu_level_features(level).empty()) {
      return make_cpu_target(level, cpu_level_features(level));
    }
  }
  if (name.starts_with("sm_")) {
    int sm = 0;
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + 3, end, sm);
    if (error == std::errc() && end - rest <= 1) return make_cuda_target(sm, {rest, end});
  }
  throw SpecError("target", fmt::format("'{}'", name), known_targets());
}

std::vector<std::string> cpu_level_features(std::string_view level) {
  if (level.size() != 9 || !level.starts_with("x86-64-v")) return {};
  const char number = level.back();
  if (number < '2' || number > '4') return {};
  std::vector<std::string> features = {"popcnt", "sse4.1", "sse4.2", "ssse3"};
  if (number >= '3')
    features.insert(features.end(), {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt"});
  if (number >= '4')
    features.insert(features.end(), {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"});
  std::sort(features.begin(), features.end());
  return features;
}

std::span<const std::string_view> known_cpu_features() { return kCpuFeatures; }

}  // namespace ktjit
