// Where a kernel spends its instructions: the loops of a listing, what they load, and which of a multiprocessor's
// pipes their instructions go to.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/toolchain/sass_count.h"

namespace ktjit::test {

/// Lines [begin, end) from a label to the branch back to it, that branch included.
struct SassLoop {
  std::size_t begin = 0;
  std::size_t end = 0;

  bool holds(const SassLoop& other) const {
    return begin <= other.begin && other.end <= end && !(*this == other);
  }
  bool operator==(const SassLoop&) const = default;
};

/// All loops, in the order of their ends; the trap behind a function's end is none.
std::vector<SassLoop> all_loops(const std::vector<SassLine>& lines);

/// The loop in which a product does its work: of those that hold no other, with tensor-core or dot-product
/// instructions if any has them, the one that loads most bytes from global memory. Nothing if no loop loads any.
const SassLoop* find_main_loop(const std::vector<SassLine>& lines,
                               const std::vector<SassLoop>& loops);

/// The shortest of the loops with the most tensor-core and 4-way dot-product instructions: where a product does its work if
/// that was unrolled. Nothing if no loop has any.
const SassLoop* find_unrolled_loop(const std::vector<SassLine>& lines,
                                   const std::vector<SassLoop>& loops);

/// Units of a multiprocessor that take instructions at their own rate.
enum class SassPipe {
  kFma,         ///< f32, f16 arithmetic, and integer multiplication from sm_70 on
  kAlu,         ///< integers, logic, bytes, comparisons
  kConversion,  ///< to and from floats, and functions like rcp
  kMemory,      ///< loads, stores, shuffles
  kTensor,
  kOther,  ///< branches, barriers, uniform registers: an issue slot and no more
};
std::string_view pipe_name(SassPipe pipe);

/// Lanes a clock that a multiprocessor's pipe serves: a warp's instruction takes 32 / rate clocks.
struct SassCost {
  SassPipe pipe = SassPipe::kOther;
  double lanes_per_clock = 128;
};

/// For sm_61 to sm_90. Source: the throughput table of the CUDA C++ Programming Guide; tensor cores by data sheets,
/// with GeForce's halved f16 rate for sm_86 and sm_89. Where these leave a choice the slower rate is taken: from
/// sm_70 on 16 lanes for conversions and 64 for all of integers, on sm_61 64 for what isn't addition or logic.
SassCost cost_of(std::string_view instruction, int sm);

/// What lines cost each lane, once through.
struct SassProfile {
  int instructions = 0;               ///< all that take an issue slot
  int loaded_bytes = 0;               ///< from global memory
  int f16_arithmetic = 0;             ///< of f16 or f16x2, conversions left out
  std::map<SassPipe, double> clocks;  ///< of a multiprocessor, for a lane: 1 / rate each

  /// The pipe that is busy longest.
  SassPipe busiest() const;
};

SassProfile profile(const std::vector<SassLine>& lines, std::size_t begin, std::size_t end, int sm);

}  // namespace ktjit::test
