// The rules in one place, so that plan, load and doctor agree.
#include "runtime/cuda_compatibility.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit::runtime {
namespace {

// Integrated chips; cubins are not exchanged between them and others of the same major version.
// Source: Programming Guide, "Binary Compatibility"; 88 isn't documented, so it is taken for one.
constexpr std::array kTegra = {53, 62, 72, 87, 88, 101, 110};

bool is_tegra(int sm) { return std::find(kTegra.begin(), kTegra.end(), sm) != kTegra.end(); }

bool same_major_not_above(int sm, int device_sm) {
  return sm / 10 == device_sm / 10 && sm <= device_sm;
}

bool runs(int device_sm, const Target& target, ArtifactKind kind) {
  if (target.suffix == "a") return target.sm == device_sm;
  if (target.suffix == "f") return same_major_not_above(target.sm, device_sm);
  if (kind == ArtifactKind::kPtx) return target.sm <= device_sm;
  if (is_tegra(target.sm) || is_tegra(device_sm)) return target.sm == device_sm;
  return same_major_not_above(target.sm, device_sm);
}

std::string_view rule(const Target& target, ArtifactKind kind) {
  if (target.suffix == "a") return "code with suffix a runs on exactly its own chip";
  if (target.suffix == "f") {
    return "code with suffix f runs on its own chip and later ones of the same major version";
  }
  if (kind == ArtifactKind::kPtx) return "PTX runs on its own version and later ones";
  return "a cubin runs on its own version and later ones of the same major version";
}

}  // namespace

bool cuda_code_runs_on(int device_sm, const Target& target, ArtifactKind kind,
                       std::string* reason) {
  const bool gpu_code = kind == ArtifactKind::kCubin || kind == ArtifactKind::kPtx;
  if (target.is_cuda() && gpu_code && runs(device_sm, target, kind)) return true;
  if (reason != nullptr) {
    const std::string what = fmt::format("{} for {}", artifact_kind_name(kind), target.name());
    *reason = target.is_cuda() && gpu_code
                  ? fmt::format("{} doesn't run on compute capability {}.{}: {}", what,
                                device_sm / 10, device_sm % 10, rule(target, kind))
                  : fmt::format("{} is not code for a GPU", what);
  }
  return false;
}

Target best_cuda_target(int device_sm) {
  const CudaFacts* best = nullptr;
  for (const CudaFacts& facts : all_cuda_facts()) {
    if (facts.sm == device_sm) return make_native_cuda_target(device_sm);
    if (facts.sm < device_sm && (best == nullptr || facts.sm > best->sm)) best = &facts;
  }
  if (best == nullptr) {
    throw ToolchainError(
        fmt::format("the GPU has compute capability {}.{}, older than {}.{}", device_sm / 10,
                    device_sm % 10, all_cuda_facts().front().sm / 10,
                    all_cuda_facts().front().sm % 10),
        "the GPU driver", "use --device cpu");
  }
  return make_cuda_target(best->sm);
}

}  // namespace ktjit::runtime
