// What PTX instructions compute, in plain C++: the simulator device executes inline assembly with
// these, one instruction at a time. Definitions: PTX ISA 9.0. tests/gpu/ptx_conformance_test.cpp
// compares each with a real GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/target.h"

namespace ktjit::runtime {

/// What an instruction of Kind::kMemory does. The device checks the addresses and moves the bytes.
enum class PtxMemoryAction {
  kNone,
  kLoad,           ///< results: the registers. Operands: address
  kStore,          ///< operands: address, then the registers
  kLoadMatrix,     ///< ldmatrix: results: one register a matrix. Operands: address of one row
  kCopyAsync,      ///< cp.async: operands: destination in shared memory, source in global memory,
                   ///< bytes to write, and, in the form with four, bytes to read (the rest is 0)
  kCommitCopies,   ///< cp.async.commit_group
  kWaitForCopies,  ///< cp.async.wait_group: all but the newest (operand 0) groups are done
  kWaitForAll,     ///< cp.async.wait_all
  kNoEffect,       ///< nothing to do where launches follow one another, and writes are seen at once
  kInitBarrier,    ///< mbarrier.init: operands: address, arrivals of a phase
  kArrive,         ///< mbarrier.arrive: operands: address. Result: the phase's state
  kArriveAfterCopies,  ///< cp.async.mbarrier.arrive.noinc: as kArrive, when the thread's copies have ended
  kExpectBytes,  ///< mbarrier.arrive.expect_tx: operands: address, bytes that the phase waits for. As kArrive
  kCopyBox,  ///< cp.async.bulk.tensor.2d: operands: destination in shared memory, tensor map, its column (bytes),
             ///< its row, barrier that counts the bytes
  kWaitForPhase,      ///< mbarrier.try_wait.parity: operands: address, parity. Result: always true
  kWarpgroupProduct,  ///< wgmma: see warpgroup_product
  kToSharedAddress    ///< cvta.to.shared: operand 0 is a generic address of shared memory
};

enum class PtxStateSpace { kNone, kGlobal, kShared, kGeneric };

/// What wgmma multiplies.
enum class PtxElement { kF16, kBf16, kE4m3 };

/// REQUIRES of the program: an address is aligned to the bytes that one thread moves there:
/// bytes_per_register * registers; 16 for a row of ldmatrix; the bytes to write for cp.async.
struct PtxMemory {
  PtxMemoryAction action = PtxMemoryAction::kNone;
  PtxStateSpace space = PtxStateSpace::kNone;  ///< of operand 0's address
  int bytes_per_register = 0;
  int registers = 0;           ///< kLoad, kStore: values moved; kLoadMatrix: matrices of 8 x 8 b16
  bool transposed = false;     ///< kLoadMatrix: see ldmatrix_register
  bool only_16_bytes = false;  ///< kCopyAsync: .cg; the others also copy 4 or 8 bytes
  int cols = 0;                ///< kWarpgroupProduct: of b and d
  PtxElement element = PtxElement::kF16;  ///< kWarpgroupProduct: of a and b
};

/// How a 64-bit slot holds a number. All but kBits also say which bit patterns are NaNs.
enum class PtxType { kBits, kF16, kBf16, kF32, kF16x2, kBf16x2 };

/// One PTX instruction as inline assembly names it, with all its modifiers: "prmt.b32",
/// "cvt.rn.satfinite.e4m3x2.f32", "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32".
///
/// Each register is a slot of 64 bits: its raw bits in the low ones, the rest zero, in results too.
/// A group {a, b} is one slot per register, and an immediate is a slot as well. Operands are in the
/// order of the text, without the results; an address [a] is the slot of a.
///
/// Threads: the functions are pure. They rely on the default floating-point environment: to nearest
/// even, subnormals kept.
struct PtxInstruction {
  enum class Kind {
    kThread,  ///< each lane on its own: run
    kWarp,    ///< all 32 lanes at once: run_warp
    kMemory   ///< described by `memory`
  };

  std::string_view opcode;
  /// A letter for each slot, as constraints of inline assembly: h 16 bits, r 32, f f32, l 64, n
  /// immediate; b is an 8-bit register and p a predicate, which have no constraint and are declared in the text.
  std::string_view result_registers = {};
  std::string_view operand_registers = {};
  int results = static_cast<int>(result_registers.size());
  int operands = static_cast<int>(operand_registers.size());
  Kind kind = Kind::kThread;
  PtxType result_type = PtxType::kBits;   ///< of every result
  PtxType operand_type = PtxType::kBits;  ///< of the operands, where all have one
  /// Whether PTX leaves open which NaN a result is. The model gives the canonical one (all bits but
  /// the sign set), and any NaN is as good.
  bool any_nan = false;

  /// kThread. `results` and `operands` don't overlap.
  void (*run)(std::uint64_t* results, const std::uint64_t* operands) = nullptr;
  /// kWarp: results[lane][i], operands[lane][i].
  void (*run_warp)(std::uint64_t* const results[32],
                   const std::uint64_t* const operands[32]) = nullptr;
  PtxMemory memory = {};
  int min_sm = 60;            ///< the first target that has it, of those ktjit knows
  bool needs_suffix = false;  ///< only targets with the suffix "a" or "f" have it
  int last_sm = 1000;         ///< the last target that has it
  /// Why no H200 proves the model ("sm_100a and sm_120a only"); empty: the conformance test does.
  std::string_view unproved = {};
  /// Why a kernel of this one instruction can't prove it ("several threads meet there"): the kernels that use it do, on
  /// GPUs. Empty: the conformance test does.
  std::string_view proved_in_kernels = {};
  /// Products of floats, whose order of additions is open: a GPU's results differ from the model's
  /// by at most this times the sum of the magnitudes of all addends (c and the products). 0: not at
  /// all.
  double sum_error = 0;

  bool exists_on(const Target& target) const {
    return target.is_cuda() && target.sm >= min_sm && target.sm <= last_sm &&
           (!needs_suffix || !target.suffix.empty());
  }
};

std::span<const PtxInstruction> all_ptx_instructions();

/// The instruction of that name, or nothing. Where a name has several forms (mov, cp.async), the
/// first.
const PtxInstruction* find_ptx_instruction(std::string_view opcode);
/// The form with so many result and operand slots, or nothing.
const PtxInstruction* find_ptx_instruction(std::string_view opcode, int results, int operands);

/// What one lane gets of one 8 x 8 matrix of b16: elements 2 (lane % 4) and the next of row lane /
/// 4, the first in the low half; of that column, if transposed. `rows` are the 8 rows of 16 bytes
/// whose addresses lanes 8 m .. 8 m + 7 gave for matrix m.
std::uint32_t ldmatrix_register(const std::byte* const rows[8], int lane, bool transposed);

/// Where wgmma finds a half of the 32 bytes that one takes of a row of b^T in shared memory: 16 bytes at the offset that
/// this gives. `descriptor`: K-major, 128-byte swizzle (PTX ISA, "Matrix descriptor").
std::uint64_t matrix_place(std::uint64_t descriptor, int row, int half);
/// Whether the descriptor is of that kind.
bool is_simulated_descriptor(std::uint64_t descriptor);

/// One warp's part of wgmma with a in registers: d += a b for its 16 rows, `cols` columns of b and d, 32 bytes of a row of
/// a. Operands of a lane: d, 4 registers of a, the descriptor of b, scale-d (0: d = a b), and two or three immediates.
/// `shared`: where offsets count from. Sums as of mma (runtime/ptx_mma.cpp).
void warpgroup_product(const PtxMemory& memory, std::uint64_t* const results[32],
                       const std::uint64_t* const operands[32], const std::byte* shared);

}  // namespace ktjit::runtime
