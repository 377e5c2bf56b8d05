// Targets: what code is made for. A CUDA target is a compute capability with an optional suffix, a
// CPU target a set of x86-64 features written out. The facts that codegen decides by live here.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit {

enum class TargetKind { kCuda, kCpu };

/// A plain value; equal targets give equal code.
struct Target {
  TargetKind kind = TargetKind::kCpu;
  int sm = 0;                             ///< CUDA: compute capability as one number, 86 for 8.6
  std::string suffix;                     ///< CUDA: "", "a" (this chip only) or "f" (this family)
  std::string cpu_level;                  ///< CPU: "native" or a level such as "x86-64-v3"
  std::vector<std::string> cpu_features;  ///< CPU: LLVM's names, sorted

  bool operator==(const Target&) const = default;

  bool is_cuda() const { return kind == TargetKind::kCuda; }
  bool is_cpu() const { return kind == TargetKind::kCpu; }
  bool has_cpu_feature(std::string_view feature) const;
  /// "sm_90a", "cpu", "cpu:x86-64-v3".
  std::string name() const;
  /// "compute_90a": the virtual architecture that PTX for this target names.
  std::string virtual_arch() const;
};

/// What a CUDA architecture can do, as far as codegen asks. Source: PTX ISA 9.0 and what ptxas 13.0
/// accepts; sm_60 to sm_72 from the CUDA C++ Programming Guide 12.9, "Compute Capabilities".
struct CudaFacts {
  int sm;
  std::string_view chips;     ///< well-known cards
  std::string_view suffixes;  ///< which of "a", "f" exist for it
  bool fast_f16;              ///< f16 arithmetic at full rate (not on sm_61: 1/64)
  bool dp4a;                  ///< 4-way int8 dot product
  bool bf16_cvt;              ///< cvt.rn.bf16.f32
  bool fp8_cvt;               ///< cvt between f16x2 and e4m3x2, e5m2x2
  bool mx_cvt_with_a;         ///< cvt of e2m1, e2m3, e3m2 and ue8m0, only with the "a" suffix
  std::string_view mma;       ///< tensor-core shapes, in words
  int smem_per_cta_bytes;     ///< dynamic shared memory a CTA can opt in to
  std::string_view min_ptx;   ///< lowest PTX version that knows the target
};

std::span<const CudaFacts> all_cuda_facts();
/// Errors: InternalError unless the target is a CUDA target of the table.
const CudaFacts& get_cuda_facts(const Target& target);

/// Makes sm_<number><suffix>. Errors: SpecError for an unknown number, or a suffix it doesn't have.
Target make_cuda_target(int sm, std::string_view suffix = "");
/// The target to compile for when running on a device of compute capability `sm`: with the suffix
/// that unlocks all of its instructions.
Target make_native_cuda_target(int sm);
Target make_cpu_target(std::string_view level, std::vector<std::string> features);

/// Parses "sm_86", "sm_90a", "cpu", "cpu:native", "cpu:x86-64-v3". `host_features` are what "cpu"
/// means. Errors: SpecError with the known targets.
Target parse_target(std::string_view name, std::span<const std::string> host_features);

/// Features (LLVM's names) of the levels x86-64, x86-64-v2, -v3, -v4; empty for an unknown level.
/// Source: x86-64 psABI 1.0, table 3.1.
std::vector<std::string> cpu_level_features(std::string_view level);
/// Features codegen may ask about, in LLVM's names: what host detection has to look for.
std::span<const std::string_view> known_cpu_features();

}  // namespace ktjit
