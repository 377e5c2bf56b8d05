#include "tests/toolchain/issue_gate.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/format.h>

#include "codegen/cuda_float_matvec.h"
#include "codegen/emitter.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/disassembler.h"
#include "tests/support/kernel_cases.h"
#include "tests/toolchain/sass_profile.h"

namespace ktjit::test {
namespace {

constexpr std::int64_t kCols = 4096;
constexpr int kWarpThreads = 32;

/// What limits the warps on a multiprocessor. Source: CUDA C++ Programming Guide, compute capabilities.
struct Residency {
  int sm;
  int warps;
  int ctas;
  int smem_bytes;           ///< of a multiprocessor
  int reserved_smem_bytes;  ///< of each CTA, for the system
};
constexpr std::array kResidencies = {
    Residency{61, 64, 32, 98304, 0},     Residency{75, 32, 16, 65536, 0},
    Residency{80, 64, 32, 167936, 1024}, Residency{86, 48, 16, 102400, 1024},
    Residency{89, 48, 24, 102400, 1024}, Residency{90, 64, 32, 233472, 1024}};

int resident_warps(int sm, int threads, int registers, int smem_bytes) {
  const auto limits = std::find_if(kResidencies.begin(), kResidencies.end(),
                                   [&](const Residency& one) { return one.sm == sm; });
  KTJIT_CHECK(limits != kResidencies.end());
  constexpr int kRegisters = 65536, kRegisterUnit = 256;  // allocated for a warp at a time
  const int warps = (threads + kWarpThreads - 1) / kWarpThreads;
  const int warp_registers =
      (registers * kWarpThreads + kRegisterUnit - 1) / kRegisterUnit * kRegisterUnit;
  int ctas = std::min(limits->ctas, limits->warps / warps);
  ctas = std::min(ctas, kRegisters / warp_registers / warps);
  const int cta_smem = smem_bytes + limits->reserved_smem_bytes;
  if (cta_smem > 0) ctas = std::min(ctas, limits->smem_bytes / cta_smem);
  return ctas * warps;
}

/// The value of an int constant of the emitted text, or of "#pragma unroll ".
int number_after(std::string_view text, std::string_view before) {
  const auto at = text.find(before);
  if (at == std::string_view::npos) KTJIT_UNREACHABLE("a kernel with that constant");
  int number = 0;
  const char* begin = text.data() + at + before.size();
  const auto [rest, error] = std::from_chars(begin, text.data() + text.size(), number);
  KTJIT_CHECK(error == std::errc());
  return number;
}

/// How a kernel's weights are shared out, as its text says.
struct WorkShare {
  int round_weights =
      0;  ///< of a lane in one round of the main loop; of the whole thread without a loop
  double rounds = 1;  ///< of a lane, in a row or tile of rows
  int unrolled = 1;   ///< units of prepared weights in one round
};

WorkShare share_of(const KernelSpec& spec, const codegen::EmittedKernel& kernel) {
  const std::string_view text = kernel.source;
  if (spec.op == Op::kDequant)
    return {number_after(text, "kRun = ") * number_after(text, "kRuns = "), 1};
  if (spec.layout.kind == LayoutKind::kPrepared) {
    const int steps = number_after(text, "kSteps = ");
    const auto unrolled_at = text.find("for (int i = 0; i < kSteps; ++i)");
    KTJIT_CHECK(unrolled_at != std::string_view::npos);
    const int unrolled =
        number_after(text.substr(text.rfind("#pragma unroll ", unrolled_at)), "#pragma unroll ");
    return {unrolled * kUnitRows * kUnitCols / kWarpThreads, static_cast<double>(steps) / unrolled,
            unrolled};
  }
  if (codegen::takes_float_matvec(spec)) {
    const int warps = static_cast<int>(kernel.launch.threads) / kWarpThreads;
    const int unit_cols = number_after(text, "kUnitCols = ");
    return {kUnitRows * unit_cols / kWarpThreads,
            std::max(1.0, static_cast<double>(kCols) / unit_cols / warps)};
  }
  const auto loop_at = text.find("\n  for (int col = lane * kRun");
  KTJIT_CHECK(loop_at != std::string_view::npos);
  constexpr std::string_view kUnroll = "#pragma unroll ";
  const int unroll = number_after(text.substr(text.rfind(kUnroll, loop_at)), kUnroll);
  const int run = number_after(text, "kRun = ");
  return {run * number_after(text, "kRowsPerWarp = ") * unroll,
          static_cast<double>(kCols) / (kWarpThreads * run * unroll)};
}

double bytes_per_weight(const KernelSpec& spec) {
  const double w =
      spec.layout.kind == LayoutKind::kPrepared
          ? static_cast<double>(prepared_bytes(spec.weight, kUnitRows, kCols)) / (kUnitRows * kCols)
          : static_cast<double>(row_bytes(get_format(spec.weight), kCols)) / kCols;
  return spec.op == Op::kDequant ? w + get_format(spec.y_format).block_bytes : w;
}

/// Past the last EXIT lies nothing that runs.
std::size_t code_end(const std::vector<SassLine>& lines) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].instruction.starts_with("EXIT")) end = i + 1;
  }
  return end;
}

}  // namespace

std::vector<KernelSpec> gate_specs(const Target& target) {
  std::vector<KernelSpec> specs;
  const auto add_served = [&](const KernelSpec& spec) {
    try {
      codegen::emit(spec);
      specs.push_back(spec);
    } catch (const SpecError&) {  // no kernel serves it
    }
  };
  for (FormatId format : product_formats()) {
    KernelSpec spec = make_spec(Op::kMatvec, get_format(format).name, kCols, target);
    add_served(spec);
    if (serves_prepared(format, target)) {
      spec.layout.kind = LayoutKind::kPrepared;
      add_served(spec);
    }
  }
  for (FormatId format : served_formats())
    add_served(make_spec(Op::kDequant, get_format(format).name, kCols, target));
  return specs;
}

std::string gate_name(const KernelSpec& spec) {
  const std::string_view format = get_format(spec.weight).name;
  if (spec.op == Op::kDequant) return fmt::format("dequant {}", format);
  return spec.layout.kind == LayoutKind::kPrepared ? fmt::format("{} prepared", format)
                                                   : std::string(format);
}

GateKernel inspect_kernel(const KernelSpec& spec, Compiler& compiler, const Options& options) {
  const codegen::EmittedKernel emitted = codegen::emit(spec);
  const Artifact cubin =
      compiler.compile({emitted.source, emitted.entry_name, spec.target, ArtifactKind::kCubin});
  const std::vector<SassLine> lines = parse_sass(disassemble(options, cubin.bytes));
  const std::size_t end = code_end(lines);
  KTJIT_CHECK(end > 0);
  const WorkShare share = share_of(spec, emitted);
  const int sm = spec.target.sm;
  const SassProfile all = profile(lines, 0, end, sm);

  GateKernel kernel;
  kernel.name = gate_name(spec);
  kernel.target = spec.target;
  // The compiler's log says both; a kernel without them was not compiled as we think.
  KTJIT_CHECK(cubin.resources.registers && cubin.resources.spill_bytes);
  kernel.registers = *cubin.resources.registers;
  kernel.spill_bytes = *cubin.resources.spill_bytes;
  kernel.warps = resident_warps(
      sm, static_cast<int>(emitted.launch.threads), kernel.registers,
      static_cast<int>(emitted.launch.smem_bytes) + cubin.resources.static_smem_bytes.value_or(0));
  kernel.bytes_per_weight = bytes_per_weight(spec);
  kernel.round_weights = share.round_weights;
  kernel.has_f16_arithmetic = all.f16_arithmetic > 0;

  const std::vector<SassLoop> loops = all_loops(lines);
  const SassLoop* loop = spec.op == Op::kDequant ? nullptr : find_main_loop(lines, loops);
  // The other one is that of a single unit, for rare x.
  if (share.unrolled > 1) loop = find_unrolled_loop(lines, loops);
  KTJIT_CHECK((loop == nullptr) == (spec.op == Op::kDequant));
  SassProfile main = loop == nullptr ? all : profile(lines, loop->begin, loop->end, sm);
  const double weights = share.round_weights;
  if (loop != nullptr) {
    // A lane that has this many weights of a round loads, with the warp, at least their bytes.
    KTJIT_CHECK(main.loaded_bytes >= weights * bytes_per_weight(spec) * 0.99 - 1);
    // Around the loop: the next one that holds it (tiles of rows), or the whole kernel (a few rows).
    SassLoop around{0, end};
    for (const SassLoop& other : loops) {
      if (other.holds(*loop) && around.holds(other)) around = other;
    }
    const int ends = profile(lines, around.begin, around.end, sm).instructions - main.instructions;
    kernel.all_instructions = (main.instructions + ends / share.rounds) / weights;
  }
  kernel.instructions = main.instructions / weights;
  if (loop == nullptr) kernel.all_instructions = kernel.instructions;
  for (const auto& [pipe, clocks] : main.clocks) {
    if (pipe != SassPipe::kOther) kernel.clocks.emplace_back(pipe_name(pipe), clocks / weights);
  }
  return kernel;
}

GateVerdict judge(const GateKernel& kernel, const GpuCard& card) {
  // Clocks of a multiprocessor while the memory moves one weight.
  const double clocks = kernel.bytes_per_weight * card.sms * card.boost_mhz * 1e6 /
                        (kWantedBandwidth * card.bandwidth_gbps * 1e9);
  constexpr double kIssueLanes = 128;
  GateVerdict verdict;
  verdict.spill_bytes = kernel.spill_bytes;
  verdict.issue = kernel.instructions / kIssueLanes / clocks;
  for (const auto& [name, pipe_clocks] : kernel.clocks) {
    if (pipe_clocks / clocks <= verdict.pipe) continue;
    verdict.pipe = pipe_clocks / clocks;
    verdict.pipe_name = name;
  }
  verdict.bandwidth =
      kWantedBandwidth * std::min(1.0, kSustained / std::max(verdict.issue, verdict.pipe));
  return verdict;
}

std::span<const std::string_view> gate_cards() {
  static constexpr std::array<std::string_view, 6> kCards = {"P40", "T4",       "A100 40GB",
                                                             "A10", "RTX 3090", "RTX 4090"};
  return kCards;
}

std::string gate_row(const GateKernel& kernel, const GpuCard& card) {
  const GateVerdict verdict = judge(kernel, card);
  const std::string passes = verdict.spill_bytes != 0
                                 ? fmt::format("spills {} bytes", verdict.spill_bytes)
                             : verdict.passes() ? "yes"
                                                : fmt::format("{:.0f} %", 100 * verdict.bandwidth);
  return fmt::format("| {} | {} | {} | {:.2f} | {:.2f} | {:.0f} | {:.0f} {} | {} |", kernel.name,
                     kernel.registers, kernel.warps, kernel.instructions, kernel.all_instructions,
                     100 * verdict.issue, 100 * verdict.pipe, verdict.pipe_name, passes);
}

}  // namespace ktjit::test
