// Clang's arguments, by target.
#include "jit/clang_options.h"

#include <algorithm>
#include <fmt/format.h>
#include <initializer_list>
#include <utility>

#include "core/error.h"

namespace ktjit {
namespace {

using Arguments = std::vector<std::string>;

void append(Arguments& arguments, std::initializer_list<const char*> more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
}

const char* emit_option(ArtifactKind kind) {
  switch (kind) {
    case ArtifactKind::kSharedObject:
      return "-emit-obj";
    case ArtifactKind::kAssembly:
    case ArtifactKind::kPtx:
      return "-S";
    case ArtifactKind::kLlvmIr:
      return "-emit-llvm";
    case ArtifactKind::kSimulatorObject:
      return "-emit-llvm";  // the worker goes on from there
    case ArtifactKind::kCubin:
      break;
  }
  KTJIT_UNREACHABLE("a kind that LLVM makes");
}

Arguments common_arguments(ArtifactKind kind, Quality quality = Quality::kFull) {
  Arguments arguments = {emit_option(kind)};
  for (std::string& argument : optimisation(quality)) arguments.push_back(std::move(argument));
  append(arguments, {
                        "-std=c++20", "-ffreestanding", "-fno-rtti", "-fno-threadsafe-statics",
                        "-fgnuc-version=4.2.1",  // for __GNUC__, as Clang's driver sets it
                        "-nostdsysteminc",
                        "-Qn",  // no compiler version in the output
                        "-disable-llvm-verifier", "-Wall", "-Wextra",
                        "-Wno-psabi",        // only the entry is called from outside
                        "-Wno-pass-failed",  // a loop of one round can't be unrolled by two
                    });
  // Names of values and blocks are for readers; without them the optimiser is a little faster.
  if (kind == ArtifactKind::kSharedObject || kind == ArtifactKind::kPtx)
    arguments.push_back("-discard-value-names");
  return arguments;
}

Arguments cpu_arguments(const Target& target, ArtifactKind kind, Quality quality) {
  Arguments arguments = common_arguments(kind, quality);
  append(arguments, {"-x", "c++", "-triple", "x86_64-unknown-linux-gnu",  //
                     "-mrelocation-model", "pic", "-pic-level", "2",      //
                     "-fvisibility=hidden",                               //
                     "-ffp-contract=off",  // decodes are exact, and one text is one result
                     "-target-cpu", "x86-64", "-tune-cpu", "generic"});
  for (const std::string& feature : target.cpu_features)
    arguments.insert(arguments.end(), {"-target-feature", "+" + feature});
  return arguments;
}

/// The PTX ISA version to write, as LLVM's feature: the lowest that has what the target's kernels
/// use, because an older driver refuses a newer version. Source: PTX ISA 9.0, "Target ISA Notes".
std::string_view ptx_feature(const Target& target) {
  if (target.sm >= 89) return "+ptx81";  // cvt from e4m3x2 on sm_89; sm_90a itself
  if (target.sm >= 80) return "+ptx74";  // sm_87 itself, cache hints of ld.global
  return "+ptx65";  // abs and set of f16x2; sm_75's mma.m16n8k8 and ldmatrix; shfl.sync
}

/// The target for the front end: the text's choices are made, so where LLVM 19 doesn't know the chip,
/// the last one before it serves the simulator as well.
std::string front_end_cpu(const Target& target) {
  if (target.sm > 90) return "sm_90a";
  return target.sm == 88 ? "sm_87" : target.name();
}

/// The front end of PTX, without LLVM's passes and with lines for reports.
Arguments simulator_arguments(const Target& target) {
  Arguments arguments = common_arguments(ArtifactKind::kSimulatorObject);
  append(arguments, {"-x", "cuda", "-fcuda-is-device", "-triple", "nvptx64-nvidia-cuda",  //
                     "-disable-llvm-passes", "-relaxed-aliasing",
                     "-debug-info-kind=line-tables-only", "-dwarf-version=5",  //
                     "-ffp-contract=off",  // one text is one result
                     "-fdenormal-fp-math-f32=ieee"});
  arguments.insert(arguments.end(), {"-target-cpu", front_end_cpu(target), "-target-feature",
                                     std::string(ptx_feature(target))});
  return arguments;
}

Arguments cuda_arguments(const Target& target, ArtifactKind kind) {
  Arguments arguments = common_arguments(kind);
  append(arguments, {"-x", "cuda", "-fcuda-is-device", "-triple", "nvptx64-nvidia-cuda",  //
                     "-ffp-contract=fast",             // as NVRTC's default
                     "-fdenormal-fp-math-f32=ieee"});  // decodes rely on subnormals
  arguments.insert(arguments.end(), {"-target-cpu", target.name(), "-target-feature",
                                     std::string(ptx_feature(target))});
  return arguments;
}

}  // namespace

std::vector<std::string> optimisation(Quality quality) {
  if (quality == Quality::kQuick) return {"-O1"};
  return {"-O3", "-vectorize-loops", "-vectorize-slp"};
}

std::vector<std::string> clang_arguments(const Target& target, ArtifactKind kind, Quality quality) {
  if (kind == ArtifactKind::kSimulatorObject) return simulator_arguments(target);
  return target.is_cuda() ? cuda_arguments(target, kind) : cpu_arguments(target, kind, quality);
}

std::vector<std::string> linker_arguments() {
  return {"-shared",         "--hash-style=gnu", "-z",         "now",
          "--build-id=none", "--gc-sections",    "--strip-all"};
}

std::vector<std::string> allowed_symbols() {
  return {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memmove", "memset"};
}

}  // namespace ktjit
