// Whether a card can issue a kernel's instructions as fast as its memory delivers the weights, from machine code and
// data sheets: for cards that no one here has.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernel_spec.h"
#include "jit/compiler.h"
#include "jit/gpu_cards.h"
#include "jit/options.h"

namespace ktjit::test {

/// The part of the data sheet's bandwidth that kernels are to reach.
constexpr double kWantedBandwidth = 0.9;

/// The part of its issue slots, and of a pipe's, that a multiprocessor sustains while memory is busy too. H200: the
/// best matvec kernels sustained 65 to 72 % of all slots, or 65 to 75 % of the integer pipe's.
constexpr double kSustained = 0.70;

/// A kernel as machine code for one architecture.
struct GateKernel {
  std::string name;  ///< "q4_K", "q4_K prepared", "dequant q4_K"
  Target target;
  int registers = 0;
  int spill_bytes = 0;
  int warps = 0;                ///< resident on a multiprocessor
  double bytes_per_weight = 0;  ///< moved from and to memory
  int round_weights = 0;        ///< of a lane, in one round of the main loop
  double instructions = 0;      ///< a weight, in the main loop
  double all_instructions =
      0;  ///< a weight, with what is before and after the loop, each once a row or tile
  std::vector<std::pair<std::string, double>>
      clocks;  ///< a weight, by pipe: of a multiprocessor, 1 / lanes
  bool has_f16_arithmetic = false;
};

/// What the gate looks at on a target: matvec of every format that has one (one column, 4096 columns, f32
/// activations), of prepared weights too where the target has kernels for them, and dequant to f32.
std::vector<KernelSpec> gate_specs(const Target& target);

/// "q4_K", "q4_K prepared", "dequant q4_K".
std::string gate_name(const KernelSpec& spec);

/// Errors: as those of emit, compile and disassemble; InternalError if the code doesn't look as expected.
GateKernel inspect_kernel(const KernelSpec& spec, Compiler& compiler, const Options& options);

/// A kernel on a card.
struct GateVerdict {
  double issue = 0;  ///< share of all issue slots that the kernel needs at kWantedBandwidth
  double pipe = 0;   ///< of the pipe that is busy longest
  std::string pipe_name;
  double bandwidth =
      0;  ///< the part of the data sheet's that the kernel can reach: kWantedBandwidth or less

  int spill_bytes = 0;

  bool passes() const { return bandwidth >= kWantedBandwidth && spill_bytes == 0; }
};

GateVerdict judge(const GateKernel& kernel, const GpuCard& card);

/// P40, T4, A100 40GB, A10, RTX 3090, RTX 4090.
std::span<const std::string_view> gate_cards();

/// One row of docs/GATE.md: "| q4_K | ... | yes |"; "spills 8 bytes" or "59 %" if it doesn't pass.
std::string gate_row(const GateKernel& kernel, const GpuCard& card);

}  // namespace ktjit::test
