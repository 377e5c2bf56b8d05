// What a simulator object and the simulator device agree on. The worker makes IR that reads and calls
// these structs by field number, so their order and types are its ABI; kVersion is raised with every
// change. An object exports its kernels, each as KernelEntry, and one Module under kModuleSymbol.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ktjit::runtime::simulator {

inline constexpr std::uint32_t kVersion = 2;
inline constexpr const char* kModuleSymbol = "ktjit_simulator_module";

/// What one thread of a CTA sees of itself. Field numbers are the worker's.
struct ThreadView {
  std::uint32_t tid[3];
  std::uint32_t ctaid[3];
  std::uint32_t ntid[3];
  std::uint32_t nctaid[3];
  std::uint32_t lane;
  std::uint32_t warp;
  std::byte* shared;  ///< the CTA's shared memory: static variables, then the dynamic part
  void* thread;       ///< the device's own
};

/// Arguments as 8-byte values, in the order of the kernel's parameters; of a struct by value its address.
using KernelEntry = void (*)(const ThreadView* view, const std::uint64_t* arguments);

/// Where in the text: the line in the low half, and the kernel's line that called the function it is
/// in, or 0, in the high half.
using Site = std::uint64_t;

/// What a pointer was made from, as far as the text tells: kind in the high half, number in the low.
enum class ObjectKind : std::uint32_t {
  kUnknown = 0,
  kParameter = 1,  ///< number of the kernel's parameter
  kShared = 2,     ///< number in Module::shared
  kGlobal = 3,     ///< number in Module::globals
};

enum AccessFlags : std::uint32_t { kRead = 1, kWrite = 2, kAtomic = 4 };

enum class WarpOp : std::uint32_t {
  kSync,       ///< __syncwarp
  kShuffleUp,  ///< in: value, lane operand, clamp operand; out: value, predicate
  kShuffleDown,
  kShuffleXor,
  kShuffleIndex,
  kVoteAll,  ///< in: predicate; out: result
  kVoteAny,
  kVoteUniform,
  kVoteBallot,
  kReduceMax,    ///< in: unsigned value; out: the largest
  kInstruction,  ///< a PTX instruction of the whole warp
};

/// How threads meet at a barrier: only wait, or also combine a predicate.
enum class BarrierOp : std::uint32_t { kSync, kPopc, kAnd, kOr };

struct Instruction;

/// What simulated code calls. All of them may switch to another thread of the CTA, and return only if
/// the thread may go on. `meta` holds the alignment that the access requires in its low half, AccessFlags
/// in its high half.
struct Services {
  void (*check)(const ThreadView*, std::uint64_t address, std::uint64_t bytes, std::uint64_t meta,
                std::uint64_t object, Site);
  /// An access at `offset` bytes from a local variable of `size` bytes that lies outside of it.
  void (*local_fault)(const ThreadView*, std::int64_t offset, std::uint64_t size,
                      std::uint64_t bytes, std::uint64_t meta, Site);
  /// `meeting`: a number for this call in the text: threads at different ones don't meet.
  std::uint32_t (*barrier)(const ThreadView*, std::uint32_t barrier, std::uint32_t op,
                           std::uint32_t predicate, std::uint64_t meeting, Site);
  void (*warp)(const ThreadView*, std::uint32_t op, std::uint32_t mask, const std::uint64_t* in,
               std::uint64_t* out, Site);
  void (*trap)(const ThreadView*, Site);
  float (*fma_f32)(float, float, float);
  double (*fma_f64)(double, double, double);
};

/// A PTX instruction that the text has in inline assembly, or an intrinsic of LLVM's by its name.
/// Operands and results are 64-bit slots of raw bits, one per register.
struct Instruction {
  const char* opcode;
  std::uint32_t results;
  std::uint32_t operands;
  Site site;  ///< where the text has it first
  /// Set by the device when it loads the object.
  void (*call)(const ThreadView*, const Instruction*, std::uint64_t* results,
               const std::uint64_t* operands, Site);
  const void* model;
};

struct SharedVariable {
  const char* name;
  std::uint64_t offset;  ///< in bytes, from ThreadView::shared
  std::uint64_t size;    ///< in bytes; 0: all that is dynamic
};

struct GlobalVariable {
  const char* name;
  void* address;
  std::uint64_t size;
  std::uint32_t writable;
  std::uint32_t reserved;
};

struct Kernel {
  const char* name;
  std::uint32_t parameters;
  std::uint32_t reserved;
  const std::uint8_t* is_pointer;  ///< one for each parameter
};

struct Module {
  std::uint32_t version;
  std::uint32_t static_shared_bytes;  ///< also where the dynamic part begins
  std::uint32_t instruction_count;
  std::uint32_t shared_count;
  std::uint32_t global_count;
  std::uint32_t kernel_count;
  Instruction* const* instructions;
  const SharedVariable* shared;
  const GlobalVariable* globals;
  const Kernel* kernels;
  const Services* services;  ///< set by the device
};

}  // namespace ktjit::runtime::simulator
