// The CUDA model of one CTA. A thread runs until it ends or waits for others; when no thread can go on
// and some have not ended, what they wait for will never come, and that is reported.
#include "runtime/simulator_cta.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <unordered_map>

#include "core/error.h"

namespace ktjit::runtime::simulator {
namespace {

constexpr std::uint32_t kWarpThreads = 32;
constexpr std::uint32_t kBarriers = 16;  // of one CTA (PTX ISA, bar)
constexpr std::uint32_t kAllLanes = 0xffffffffu;

enum class State { kReady, kAtBarrier, kAtWarpOp, kAtPhase, kEnded };

/// cp.async, issued and not yet done.
struct PendingCopy {
  std::uint64_t to = 0;
  std::uint64_t from = 0;
  std::uint64_t bytes_to_write = 0;
  std::uint64_t bytes_to_read = 0;
};

struct Thread {
  ThreadView view{};
  Fiber fiber;
  CtaRunner::Cta* cta = nullptr;
  std::uint32_t index = 0;
  State state = State::kReady;
  Site site = 0;  ///< where it waits
  // At a barrier.
  std::uint32_t barrier = 0;
  std::uint32_t result = 0;
  // At a barrier in shared memory.
  std::uint64_t phase_barrier = 0;
  std::uint64_t parity = 0;
  // At an operation of its warp.
  WarpOp op = WarpOp::kSync;
  std::uint32_t mask = 0;
  const Instruction* instruction = nullptr;
  const std::uint64_t* in = nullptr;
  std::uint64_t* out = nullptr;

  std::vector<PendingCopy> copies;              ///< not yet in a group
  std::deque<std::vector<PendingCopy>> groups;  ///< oldest first
};

struct Barrier {
  std::uint32_t arrived = 0;
  std::uint64_t meeting = 0;
  std::uint32_t true_predicates = 0;
  std::uint32_t first_thread = 0;
};

/// An mbarrier object, which shared memory only holds the place of.
struct PhaseBarrier {
  std::uint64_t arrivals = 0;  ///< of a phase
  std::uint64_t missing = 0;   ///< of this one
  std::uint64_t phase = 0;
  std::int64_t missing_bytes = 0;  ///< of copies; below 0 if they ended before they were expected
};

int line_of(Site site) { return static_cast<int>(site & 0xffffffffu); }

std::string place_of(Site site) {
  const auto outer = static_cast<int>(site >> 32);
  return outer == 0 ? fmt::format("line {}", line_of(site))
                    : fmt::format("line {} (called from line {})", line_of(site), outer);
}

std::string count_bytes(std::uint64_t bytes) {
  return fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s");
}

std::string_view verb_of(std::uint64_t flags) {
  if ((flags & kAtomic) != 0) return "updates";
  return (flags & kWrite) != 0 ? "writes" : "reads";
}

std::string_view name_of(WarpOp op) {
  switch (op) {
    case WarpOp::kSync:
      return "__syncwarp";
    case WarpOp::kShuffleUp:
      return "__shfl_up_sync";
    case WarpOp::kShuffleDown:
      return "__shfl_down_sync";
    case WarpOp::kShuffleXor:
      return "__shfl_xor_sync";
    case WarpOp::kShuffleIndex:
      return "__shfl_sync";
    case WarpOp::kVoteAll:
      return "__all_sync";
    case WarpOp::kVoteAny:
      return "__any_sync";
    case WarpOp::kVoteUniform:
      return "__uni_sync";
    case WarpOp::kVoteBallot:
      return "__ballot_sync";
    case WarpOp::kReduceMax:
      return "__reduce_max_sync";
    case WarpOp::kInstruction:
      return "instruction";
  }
  return "warp operation";
}

std::string_view name_of(const Thread& thread) {
  return thread.op == WarpOp::kInstruction ? std::string_view(thread.instruction->opcode)
                                           : name_of(thread.op);
}

/// "12 bytes past the end of", "8 bytes before the begin of", "4 of them past the end of".
std::string distance_to(const MemoryRange& range, std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t end = range.begin + range.bytes;
  if (address >= end) return fmt::format("{} past the end of", count_bytes(address - end));
  if (address < range.begin)
    return fmt::format("{} before the begin of", count_bytes(range.begin - address));
  return fmt::format("{} of them past the end of", address + bytes - end);
}

const PtxInstruction& model_of(const Instruction& instruction) {
  return *static_cast<const PtxInstruction*>(instruction.model);
}

}  // namespace

class CtaRunner::Cta {
 public:
  std::optional<Fault> run(const Launch& launch, std::uint32_t block_x, std::uint32_t block_y) {
    begin(launch, block_x, block_y);
    while (!ready_.empty() && !fault_) {
      for (std::uint32_t index : ready_) {
        resume(*threads_[index]);
        if (fault_) break;
      }
      ready_.swap(next_);
      next_.clear();
    }
    if (!fault_ && ended_ < launch.threads) report_stuck();
    if (fault_) {
      for (std::uint32_t i = 0; i < launch.threads; ++i)
        if (threads_[i]->state != State::kEnded) threads_[i]->fiber.abandon();
    }
    return std::move(fault_);
  }

  // Called from simulated code -------------------------------------------------------------------

  void check(Thread& thread, std::uint64_t address, std::uint64_t bytes, std::uint64_t meta,
             std::uint64_t object, Site site) {
    if (bytes == 0) return;
    const auto number = static_cast<std::uint32_t>(object);
    const auto kind = static_cast<ObjectKind>(object >> 32);
    const std::uint64_t alignment = meta & 0xffffffffu;
    const std::uint64_t flags = meta >> 32;
    bool in_shared = kind == ObjectKind::kShared;
    switch (kind) {
      case ObjectKind::kParameter:
        if (!launch_->parameters[number].holds(address, bytes))
          report_outside_parameter(thread, number, address, bytes, flags, site);
        break;
      case ObjectKind::kShared:
        if (!shared_variable(number).holds(address, bytes)) {
          const MemoryRange range = shared_variable(number);
          stop(thread, site,
               fmt::format("{} {}, {} shared variable {} ({})", verb_of(flags), count_bytes(bytes),
                           distance_to(range, address, bytes), launch_->module->shared[number].name,
                           count_bytes(range.bytes)));
        }
        break;
      case ObjectKind::kGlobal: {
        const GlobalVariable& variable = launch_->module->globals[number];
        check_global(thread, variable, address, bytes, flags, site);
        break;
      }
      case ObjectKind::kUnknown:
        in_shared = shared_range().holds(address, bytes);
        if (!in_shared) check_unknown(thread, address, bytes, flags, site);
        break;
    }
    if ((address & (alignment - 1)) != 0) {
      stop(thread, site,
           fmt::format("{} {} at {:#x}, an address that is not aligned to {}{}", verb_of(flags),
                       count_bytes(bytes), address, count_bytes(alignment),
                       kind == ObjectKind::kParameter
                           ? fmt::format(" (byte {} of argument {})",
                                         address - launch_->parameters[number].begin, number)
                       : in_shared ? fmt::format(" (byte {} of shared memory)",
                                                 address - shared_range().begin)
                                   : ""));
    }
    if (in_shared) touch_shared(thread, address, bytes, flags, site);
  }

  [[noreturn]] void report_local(Thread& thread, std::int64_t offset, std::uint64_t size,
                                 std::uint64_t bytes, std::uint64_t meta, Site site) {
    const auto address = static_cast<std::uint64_t>(offset) + (std::uint64_t{1} << 62);
    stop(thread, site,
         fmt::format("{} {}, {} a local variable ({})", verb_of(meta >> 32), count_bytes(bytes),
                     distance_to({std::uint64_t{1} << 62, size}, address, bytes),
                     count_bytes(size)));
  }

  std::uint32_t wait_at_barrier(Thread& thread, std::uint32_t number, BarrierOp op, bool predicate,
                                std::uint64_t meeting, Site site) {
    if (number >= kBarriers)
      stop(thread, site, fmt::format("barrier {}, of {}", number, kBarriers));
    Barrier& barrier = barriers_[number];
    if (barrier.arrived == 0) {
      barrier = {0, meeting, 0, thread.index};
    } else if (barrier.meeting != meeting) {
      const Thread& other = *threads_[barrier.first_thread];
      stop(thread, site,
           fmt::format("divergent barrier: waits here for the block, but thread {} waits at the "
                       "barrier in {}",
                       thread_name(other), place_of(other.site)));
    }
    ++barrier.arrived;
    barrier.true_predicates += predicate ? 1 : 0;
    thread.site = site;
    thread.barrier = number;
    if (barrier.arrived < launch_->threads) {
      thread.state = State::kAtBarrier;
      thread.fiber.suspend();
      return thread.result;
    }
    std::uint32_t result = barrier.true_predicates;
    if (op == BarrierOp::kAnd) result = barrier.true_predicates == launch_->threads ? 1 : 0;
    if (op == BarrierOp::kOr) result = barrier.true_predicates > 0 ? 1 : 0;
    for (std::uint32_t i = 0; i < launch_->threads; ++i) {
      Thread& other = *threads_[i];
      if (other.state != State::kAtBarrier || other.barrier != number) continue;
      other.result = result;
      make_ready(other);
    }
    barrier.arrived = 0;
    return result;
  }

  void wait_for_warp(Thread& thread, WarpOp op, std::uint32_t mask, const Instruction* instruction,
                     const std::uint64_t* in, std::uint64_t* out, Site site) {
    thread.op = op;
    thread.mask = mask;
    thread.instruction = instruction;
    thread.in = in;
    thread.out = out;
    thread.site = site;
    if ((mask >> thread.view.lane & 1) == 0) {
      stop(thread, site,
           fmt::format("{} with mask {:#010x}, which has not this thread's lane {}",
                       name_of(thread), mask, thread.view.lane));
    }
    thread.state = State::kAtWarpOp;
    for (std::uint32_t lane = 0; lane < kWarpThreads; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      const Thread* other = lane_of(thread, lane);
      if (other == nullptr || !meets(thread, *other)) {
        thread.fiber.suspend();
        return;
      }
    }
    thread.state = State::kReady;
    execute(thread);
    for (std::uint32_t lane = 0; lane < kWarpThreads; ++lane) {
      if ((mask >> lane & 1) == 0 || lane == thread.view.lane) continue;
      make_ready(*lane_of(thread, lane));
    }
  }

  void run_memory(Thread& thread, const Instruction& instruction, std::uint64_t* results,
                  const std::uint64_t* operands, Site site) {
    const PtxMemory& memory = model_of(instruction).memory;
    const auto bytes = static_cast<std::uint64_t>(memory.bytes_per_register);
    const auto registers = static_cast<std::uint64_t>(memory.registers);
    switch (memory.action) {
      case PtxMemoryAction::kNone:
        KTJIT_UNREACHABLE("an action of a memory instruction");
      case PtxMemoryAction::kLoad: {
        const std::uint64_t address = address_of(memory.space, operands[0]);
        check(thread, address, bytes * registers, kRead << 32 | bytes * registers, 0, site);
        for (std::uint64_t i = 0; i < registers; ++i) {
          results[i] = 0;
          std::memcpy(&results[i], reinterpret_cast<const void*>(address + i * bytes), bytes);
        }
        return;
      }
      case PtxMemoryAction::kStore: {
        const std::uint64_t address = address_of(memory.space, operands[0]);
        check(thread, address, bytes * registers, kWrite << 32 | bytes * registers, 0, site);
        for (std::uint64_t i = 0; i < registers; ++i)
          std::memcpy(reinterpret_cast<void*>(address + i * bytes), &operands[1 + i], bytes);
        return;
      }
      case PtxMemoryAction::kLoadMatrix: {
        constexpr std::uint64_t kRowBytes = 16, kRows = 8;
        if (thread.view.lane < kRows * registers) {
          check(thread, address_of(PtxStateSpace::kShared, operands[0]), kRowBytes,
                kRead << 32 | kRowBytes, 0, site);
        }
        wait_for_warp(thread, WarpOp::kInstruction, kAllLanes, &instruction, operands, results,
                      site);
        return;
      }
      case PtxMemoryAction::kCopyAsync:
        return begin_copy(thread, instruction, operands, site);
      case PtxMemoryAction::kCommitCopies:
        thread.groups.push_back(std::move(thread.copies));
        thread.copies.clear();
        return;
      case PtxMemoryAction::kWaitForCopies:
        while (thread.groups.size() > operands[0]) finish_oldest_group(thread, site);
        return;
      case PtxMemoryAction::kWaitForAll:
        thread.groups.push_back(std::move(thread.copies));
        thread.copies.clear();
        while (!thread.groups.empty()) finish_oldest_group(thread, site);
        return;
      case PtxMemoryAction::kNoEffect:
        return;
      case PtxMemoryAction::kInitBarrier: {
        const std::uint64_t address = address_of(PtxStateSpace::kShared, operands[0]);
        check(thread, address, kPhaseBarrierBytes, kWrite << 32 | kPhaseBarrierBytes, 0, site);
        if (operands[1] == 0)
          stop(thread, site, fmt::format("{} for 0 arrivals", instruction.opcode));
        phase_barriers_[address] = {.arrivals = operands[1], .missing = operands[1]};
        return;
      }
      case PtxMemoryAction::kArriveAfterCopies:
        thread.groups.push_back(std::move(thread.copies));
        thread.copies.clear();
        while (!thread.groups.empty()) finish_oldest_group(thread, site);
        arrive(find_phase_barrier(thread, instruction, operands[0], site), operands[0]);
        return;
      case PtxMemoryAction::kArrive: {
        PhaseBarrier& barrier = find_phase_barrier(thread, instruction, operands[0], site);
        results[0] = barrier.phase;
        arrive(barrier, operands[0]);
        return;
      }
      case PtxMemoryAction::kExpectBytes: {
        PhaseBarrier& barrier = find_phase_barrier(thread, instruction, operands[0], site);
        results[0] = barrier.phase;
        barrier.missing_bytes += static_cast<std::int64_t>(operands[1]);
        arrive(barrier, operands[0]);
        return;
      }
      case PtxMemoryAction::kCopyBox:
        copy_box(thread, instruction, operands, site);
        return;
      case PtxMemoryAction::kWaitForPhase: {
        const PhaseBarrier& barrier = find_phase_barrier(thread, instruction, operands[0], site);
        results[0] = 1;
        if (barrier.phase % 2 != operands[1] % 2) return;  // that phase has ended
        thread.phase_barrier = operands[0];
        thread.parity = operands[1] % 2;
        thread.site = site;
        thread.state = State::kAtPhase;
        thread.fiber.suspend();
        return;
      }
      case PtxMemoryAction::kWarpgroupProduct: {
        const auto cols = static_cast<std::size_t>(memory.cols);
        const std::uint64_t descriptor = operands[cols / 2 + 4];
        if (!is_simulated_descriptor(descriptor)) {
          stop(thread, site,
               fmt::format("{} with descriptor {:#x}: only K-major matrices with a 128-byte "
                           "swizzle are simulated",
                           instruction.opcode, descriptor));
        }
        if (thread.view.lane == 0) {
          for (int row = 0; row < memory.cols; ++row) {
            for (int half = 0; half < 2; ++half)
              check(thread, address_of(PtxStateSpace::kShared, matrix_place(descriptor, row, half)),
                    16, kRead << 32 | 16, 0, site);
          }
        }
        wait_for_warp(thread, WarpOp::kInstruction, kAllLanes, &instruction, operands, results,
                      site);
        return;
      }
      case PtxMemoryAction::kToSharedAddress:
        if (!shared_range().holds(operands[0], 0)) {
          stop(thread, site,
               fmt::format("{}: {:#x} is no address of shared memory", instruction.opcode,
                           operands[0]));
        }
        results[0] = operands[0] - shared_range().begin;
        return;
    }
  }

  /// Ends this thread and the CTA.
  [[noreturn]] void stop(Thread& thread, Site site, std::string problem) {
    record(thread, site, std::move(problem));
    thread.fiber.suspend();
    KTJIT_UNREACHABLE("a thread that is not resumed");
  }

 private:
  static constexpr std::uint64_t kRead = simulator::kRead;
  static constexpr std::uint64_t kWrite = simulator::kWrite;

  void begin(const Launch& launch, std::uint32_t block_x, std::uint32_t block_y) {
    launch_ = &launch;
    fault_.reset();
    last_buffer_ = {};
    ended_ = 0;
    ready_.clear();
    next_.clear();
    barriers_.fill({});
    phase_barriers_.clear();
    // Contents that no one wrote differ from what anyone would expect there.
    shared_bytes_ = launch.module->static_shared_bytes + launch.dynamic_shared_bytes;
    if (shared_storage_.size() < shared_bytes_ + kSharedAlignment)
      shared_storage_.resize(shared_bytes_ + kSharedAlignment);
    std::fill_n(shared(), shared_bytes_, std::byte{0xa5});
    written_.assign(shared_bytes_, 0);
    while (threads_.size() < launch.threads) {
      threads_.push_back(std::make_unique<Thread>());
      threads_.back()->index = static_cast<std::uint32_t>(threads_.size() - 1);
      threads_.back()->cta = this;
    }
    for (std::uint32_t i = 0; i < launch.threads; ++i) {
      Thread& thread = *threads_[i];
      thread.view = {{i, 0, 0},
                     {block_x, block_y, 0},
                     {launch.threads, 1, 1},
                     {launch.grid[0], launch.grid[1], launch.grid[2]},
                     i % kWarpThreads,
                     i / kWarpThreads,
                     shared(),
                     &thread};
      thread.state = State::kReady;
      thread.copies.clear();
      thread.groups.clear();
      thread.fiber.start(&Cta::enter, &thread);
      ready_.push_back(i);
    }
  }

  static void enter(void* argument) {
    Thread& thread = *static_cast<Thread*>(argument);
    const Launch& launch = *thread.cta->launch_;
    launch.entry(&thread.view, launch.arguments.data());
  }

  void resume(Thread& thread) {
    if (!thread.fiber.resume()) return;
    thread.state = State::kEnded;
    ++ended_;
  }

  void make_ready(Thread& thread) {
    thread.state = State::kReady;
    next_.push_back(thread.index);
  }

  void record(const Thread& thread, Site site, std::string problem) {
    Fault fault;
    std::copy_n(thread.view.ctaid, 3, fault.block);
    std::copy_n(thread.view.tid, 3, fault.thread);
    fault.site = site;
    const auto outer = static_cast<int>(site >> 32);
    fault.problem =
        outer == 0 ? std::move(problem) : fmt::format("{}; called from line {}", problem, outer);
    fault_ = std::move(fault);
  }

  // Memory ---------------------------------------------------------------------------------------

  static constexpr std::size_t kSharedAlignment = 1024;

  std::byte* shared() {
    const auto begin = reinterpret_cast<std::uintptr_t>(shared_storage_.data());
    return shared_storage_.data() +
           ((begin + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment - begin);
  }
  MemoryRange shared_range() { return {reinterpret_cast<std::uintptr_t>(shared()), shared_bytes_}; }
  MemoryRange shared_variable(std::uint32_t number) {
    const SharedVariable& variable = launch_->module->shared[number];
    return {shared_range().begin + variable.offset,
            variable.size == 0 ? shared_bytes_ - variable.offset : variable.size};
  }

  std::uint64_t address_of(PtxStateSpace space, std::uint64_t operand) {
    return space == PtxStateSpace::kShared ? shared_range().begin + operand : operand;
  }

  void touch_shared(Thread& thread, std::uint64_t address, std::uint64_t bytes, std::uint64_t flags,
                    Site site) {
    const std::uint64_t offset = address - shared_range().begin;
    std::uint8_t* written = written_.data() + offset;
    if ((flags & kRead) != 0) {
      if (const void* hole = std::memchr(written, 0, bytes)) {
        const auto at =
            static_cast<std::uint64_t>(static_cast<const std::uint8_t*>(hole) - written_.data());
        stop(thread, site,
             fmt::format("reads {} of shared memory{} that no thread has written: byte {} of {}",
                         count_bytes(bytes), place_in_shared(offset), at,
                         count_bytes(shared_bytes_)));
      }
    }
    if ((flags & kWrite) != 0) std::memset(written, 1, bytes);
  }

  std::string place_in_shared(std::uint64_t offset) {
    for (std::uint32_t i = 0; i < launch_->module->shared_count; ++i) {
      const MemoryRange range = shared_variable(i);
      if (range.holds(shared_range().begin + offset, 1))
        return fmt::format(" (byte {} of {})", shared_range().begin + offset - range.begin,
                           launch_->module->shared[i].name);
    }
    return "";
  }

  [[noreturn]] void report_outside_parameter(Thread& thread, std::uint32_t number,
                                             std::uint64_t address, std::uint64_t bytes,
                                             std::uint64_t flags, Site site) {
    const MemoryRange& range = launch_->parameters[number];
    const std::string what =
        fmt::format("{} {} at {:#x}", verb_of(flags), count_bytes(bytes), address);
    if (range.begin != 0) {
      stop(thread, site,
           fmt::format("{}, {} argument {}, a buffer of {}{}", what,
                       distance_to(range, address, bytes), number, count_bytes(range.bytes),
                       other_buffer(address)));
    }
    const std::uint64_t argument = launch_->arguments[number];
    if (const auto freed = launch_->memory->find_freed(argument)) {
      stop(thread, site,
           fmt::format("{}, through argument {}, a buffer of {} that has been freed", what, number,
                       count_bytes(freed->bytes)));
    }
    stop(thread, site,
         fmt::format("{}, through argument {}, which is {:#x} and no buffer", what, number,
                     argument));
  }

  /// "; that is inside another buffer, of 12 bytes"
  std::string other_buffer(std::uint64_t address) const {
    const auto other = launch_->memory->find(address);
    return other ? fmt::format("; that is inside another buffer, of {}", count_bytes(other->bytes))
                 : "";
  }

  void check_global(Thread& thread, const GlobalVariable& variable, std::uint64_t address,
                    std::uint64_t bytes, std::uint64_t flags, Site site) {
    const MemoryRange range{reinterpret_cast<std::uintptr_t>(variable.address), variable.size};
    if (!range.holds(address, bytes)) {
      stop(
          thread, site,
          fmt::format("{} {}, {} variable {} ({})", verb_of(flags), count_bytes(bytes),
                      distance_to(range, address, bytes), variable.name, count_bytes(range.bytes)));
    }
    if ((flags & kWrite) != 0 && variable.writable == 0) {
      stop(thread, site,
           fmt::format("{} {} of the constant {}", verb_of(flags), count_bytes(bytes),
                       variable.name));
    }
  }

  /// A pointer that the text doesn't say the origin of: into any buffer, variable or own stack.
  void check_unknown(Thread& thread, std::uint64_t address, std::uint64_t bytes,
                     std::uint64_t flags, Site site) {
    if (last_buffer_.holds(address, bytes)) return;
    const auto after = std::upper_bound(
        launch_->buffers.begin(), launch_->buffers.end(), address,
        [](std::uint64_t value, const MemoryRange& range) { return value < range.begin; });
    if (after != launch_->buffers.begin() && std::prev(after)->holds(address, bytes)) {
      last_buffer_ = *std::prev(after);
      return;
    }
    const MemoryRange stack{reinterpret_cast<std::uintptr_t>(thread.fiber.stack_begin()),
                            Fiber::kStackBytes};
    if (stack.holds(address, bytes)) return;
    for (std::uint32_t i = 0; i < launch_->module->global_count; ++i) {
      const GlobalVariable& variable = launch_->module->globals[i];
      const MemoryRange range{reinterpret_cast<std::uintptr_t>(variable.address), variable.size};
      if (range.holds(address, bytes))
        return check_global(thread, variable, address, bytes, flags, site);
    }
    report_nowhere(thread, address, bytes, flags, site);
  }

  [[noreturn]] void report_nowhere(Thread& thread, std::uint64_t address, std::uint64_t bytes,
                                   std::uint64_t flags, Site site) {
    const std::string what =
        fmt::format("{} {} at {:#x}", verb_of(flags), count_bytes(bytes), address);
    if (const auto freed = launch_->memory->find_freed(address)) {
      stop(thread, site,
           fmt::format("{}, in a buffer of {} that has been freed", what,
                       count_bytes(freed->bytes)));
    }
    std::vector<MemoryRange> near = launch_->buffers;
    if (shared_bytes_ > 0) near.push_back(shared_range());
    if (near.empty()) stop(thread, site, what + ", where no buffer is");
    const auto distance = [&](const MemoryRange& range) {
      return address < range.begin ? range.begin - address : address - range.begin;
    };
    const auto nearest = std::min_element(
        near.begin(), near.end(),
        [&](const MemoryRange& a, const MemoryRange& b) { return distance(a) < distance(b); });
    const bool is_shared = nearest->begin == shared_range().begin;
    const auto argument =
        std::find_if(launch_->parameters.begin(), launch_->parameters.end(),
                     [&](const MemoryRange& range) { return range.begin == nearest->begin; });
    const std::string name =
        is_shared ? "the block's shared memory"
        : argument == launch_->parameters.end()
            ? "the nearest buffer"
            : fmt::format("argument {}", argument - launch_->parameters.begin());
    stop(thread, site,
         fmt::format("{}, {} {} ({})", what, distance_to(*nearest, address, bytes), name,
                     count_bytes(nearest->bytes)));
  }

  static constexpr std::uint64_t kPhaseBarrierBytes = 8;

  PhaseBarrier& find_phase_barrier(Thread& thread, const Instruction& instruction,
                                   std::uint64_t operand, Site site) {
    const auto found = phase_barriers_.find(address_of(PtxStateSpace::kShared, operand));
    if (found == phase_barriers_.end()) {
      stop(thread, site,
           fmt::format("{} at byte {} of shared memory, where no thread has made a barrier",
                       instruction.opcode, operand));
    }
    return found->second;
  }

  void arrive(PhaseBarrier& barrier, std::uint64_t operand) {
    --barrier.missing;
    end_phase_if_complete(barrier, operand);
  }

  void end_phase_if_complete(PhaseBarrier& barrier, std::uint64_t operand) {
    if (barrier.missing > 0 || barrier.missing_bytes != 0) return;
    const std::uint64_t ended = barrier.phase % 2;
    ++barrier.phase;
    barrier.missing = barrier.arrivals;
    for (std::uint32_t i = 0; i < launch_->threads; ++i) {
      Thread& thread = *threads_[i];
      if (thread.state == State::kAtPhase && thread.phase_barrier == operand &&
          thread.parity == ended)
        make_ready(thread);
    }
  }

  /// At once, as if the copy had ended when it was begun. The box's rows of 128 bytes lie one after another, their 16-byte
  /// places exchanged as matrix_place has them.
  void copy_box(Thread& thread, const Instruction& instruction, const std::uint64_t* operands,
                Site site) {
    constexpr std::uint64_t kBoxBytes = 128, kPlace = 16, kAlignment = 1024;
    const auto map = std::ranges::find_if(launch_->tensor_maps, [&](const TensorMap& known) {
      return reinterpret_cast<std::uint64_t>(&known) == operands[1];
    });
    if (map == launch_->tensor_maps.end())
      stop(thread, site, fmt::format("{} of what is no tensor map", instruction.opcode));
    PhaseBarrier& barrier = find_phase_barrier(thread, instruction, operands[4], site);
    const std::uint64_t to = address_of(PtxStateSpace::kShared, operands[0]);
    const std::uint64_t bytes = kBoxBytes * map->box_rows;
    if (operands[0] % kAlignment != 0)
      stop(thread, site,
           fmt::format("{} to byte {} of shared memory, expected a multiple of {}",
                       instruction.opcode, operands[0], kAlignment));
    check(thread, to, bytes, kWrite << 32 | kPlace, 0, site);
    const auto column = static_cast<std::int32_t>(operands[2]),
               first_row = static_cast<std::int32_t>(operands[3]);
    for (std::uint64_t i = 0; i < bytes / kPlace; ++i) {
      const std::int64_t row = first_row + static_cast<std::int64_t>(i * kPlace / kBoxBytes);
      const std::int64_t at = column + static_cast<std::int64_t>(i * kPlace % kBoxBytes);
      const std::uint64_t place = i * kPlace;
      auto* const target = reinterpret_cast<std::byte*>(to + (place ^ (place >> 3 & 0x70)));
      const bool is_inside = row >= 0 && row < static_cast<std::int64_t>(map->rows) && at >= 0 &&
                             at < static_cast<std::int64_t>(map->row_bytes);
      if (!is_inside) {
        std::memset(target, 0, kPlace);
        continue;
      }
      const std::uint64_t from = map->address + static_cast<std::uint64_t>(row) * map->row_bytes +
                                 static_cast<std::uint64_t>(at);
      check(thread, from, kPlace, kRead << 32 | kPlace, 0, site);
      std::memcpy(target, reinterpret_cast<const void*>(from), kPlace);
    }
    touch_shared(thread, to, bytes, kWrite, site);
    barrier.missing_bytes -= static_cast<std::int64_t>(bytes);
    end_phase_if_complete(barrier, operands[4]);
  }

  void begin_copy(Thread& thread, const Instruction& instruction, const std::uint64_t* operands,
                  Site site) {
    PendingCopy copy;
    copy.to = address_of(PtxStateSpace::kShared, operands[0]);
    copy.from = operands[1];
    copy.bytes_to_write = operands[2];
    copy.bytes_to_read = instruction.operands > 3 ? operands[3] : copy.bytes_to_write;
    const bool size_is_right =
        copy.bytes_to_write == 16 || (!model_of(instruction).memory.only_16_bytes &&
                                      (copy.bytes_to_write == 4 || copy.bytes_to_write == 8));
    if (!size_is_right || copy.bytes_to_read > copy.bytes_to_write) {
      stop(thread, site,
           fmt::format("{} reads {} and writes {}", instruction.opcode,
                       count_bytes(copy.bytes_to_read), count_bytes(copy.bytes_to_write)));
    }
    check(thread, copy.from, copy.bytes_to_read, kRead << 32 | copy.bytes_to_write, 0, site);
    check(thread, copy.to, copy.bytes_to_write, kWrite << 32 | copy.bytes_to_write, 0, site);
    if (!shared_range().holds(copy.to, copy.bytes_to_write))
      stop(thread, site, fmt::format("{} to what is not shared memory", instruction.opcode));
    // Until it is waited for, what lies there is not written.
    std::memset(written_.data() + (copy.to - shared_range().begin), 0, copy.bytes_to_write);
    thread.copies.push_back(copy);
  }

  void finish_oldest_group(Thread& thread, Site site) {
    for (const PendingCopy& copy : thread.groups.front()) {
      auto* to = reinterpret_cast<std::byte*>(copy.to);
      std::memcpy(to, reinterpret_cast<const void*>(copy.from), copy.bytes_to_read);
      std::memset(to + copy.bytes_to_read, 0, copy.bytes_to_write - copy.bytes_to_read);
      touch_shared(thread, copy.to, copy.bytes_to_write, kWrite, site);
    }
    thread.groups.pop_front();
  }

  // Warps ----------------------------------------------------------------------------------------

  Thread* lane_of(const Thread& thread, std::uint32_t lane) {
    const std::uint32_t index = thread.view.warp * kWarpThreads + lane;
    return index < launch_->threads ? threads_[index].get() : nullptr;
  }

  static bool meets(const Thread& a, const Thread& b) {
    const bool same = b.state == State::kAtWarpOp && a.op == b.op && a.mask == b.mask &&
                      a.instruction == b.instruction;
    // PTX's .aligned: all threads execute the same instruction of the text.
    return same && (a.op != WarpOp::kInstruction || a.site == b.site);
  }

  void execute(Thread& last) {
    switch (last.op) {
      case WarpOp::kSync:
        return;
      case WarpOp::kShuffleUp:
      case WarpOp::kShuffleDown:
      case WarpOp::kShuffleXor:
      case WarpOp::kShuffleIndex:
        return shuffle(last);
      case WarpOp::kVoteAll:
      case WarpOp::kVoteAny:
      case WarpOp::kVoteUniform:
      case WarpOp::kVoteBallot:
        return vote(last);
      case WarpOp::kReduceMax:
        return reduce_max(last);
      case WarpOp::kInstruction:
        return run_warp_instruction(last);
    }
  }

  void vote(Thread& last) {
    std::uint32_t ballot = 0;
    for_each_lane(last, [&](Thread& thread) {
      if (thread.in[0] != 0) ballot |= 1u << thread.view.lane;
    });
    std::uint64_t result = ballot;
    if (last.op == WarpOp::kVoteAll) result = ballot == last.mask ? 1 : 0;
    if (last.op == WarpOp::kVoteAny) result = ballot != 0 ? 1 : 0;
    if (last.op == WarpOp::kVoteUniform) result = ballot == 0 || ballot == last.mask ? 1 : 0;
    for_each_lane(last, [&](Thread& thread) { thread.out[0] = result; });
  }

  void reduce_max(Thread& last) {
    std::uint64_t largest = 0;
    for_each_lane(last, [&](Thread& thread) {
      largest = std::max<std::uint64_t>(largest, static_cast<std::uint32_t>(thread.in[0]));
    });
    for_each_lane(last, [&](Thread& thread) { thread.out[0] = largest; });
  }

  /// PTX ISA, shfl.sync, "Semantics".
  void shuffle(Thread& last) {
    std::array<std::uint64_t, kWarpThreads> values{};
    for_each_lane(last, [&](Thread& thread) { values[thread.view.lane] = thread.in[0]; });
    for_each_lane(last, [&](Thread& thread) {
      const auto lane = static_cast<std::int64_t>(thread.view.lane);
      const auto b = static_cast<std::int64_t>(thread.in[1] & 0x1f);
      const auto clamp = static_cast<std::int64_t>(thread.in[2] & 0x1f);
      const auto segments = static_cast<std::int64_t>(thread.in[2] >> 8 & 0x1f);
      const std::int64_t first = lane & segments;
      const std::int64_t bound = first | (clamp & ~segments);
      std::int64_t from = 0;
      bool in_range = false;
      if (thread.op == WarpOp::kShuffleUp) {
        from = lane - b;
        in_range = from >= bound;
      } else {
        if (thread.op == WarpOp::kShuffleDown) from = lane + b;
        if (thread.op == WarpOp::kShuffleXor) from = lane ^ b;
        if (thread.op == WarpOp::kShuffleIndex) from = first | (b & ~segments);
        in_range = from <= bound;
      }
      if (!in_range) from = lane;
      if ((thread.mask >> from & 1) == 0 && !fault_) {
        record(thread, thread.site,
               fmt::format("{} reads lane {}, which is not in the mask {:#010x}",
                           name_of(thread.op), from, thread.mask));
      }
      thread.out[0] = values[static_cast<std::size_t>(from)];
      thread.out[1] = in_range ? 1 : 0;
    });
    if (fault_) last.fiber.suspend();
  }

  void run_warp_instruction(Thread& last) {
    std::array<std::uint64_t*, kWarpThreads> results{};
    std::array<const std::uint64_t*, kWarpThreads> operands{};
    for_each_lane(last, [&](Thread& thread) {
      results[thread.view.lane] = thread.out;
      operands[thread.view.lane] = thread.in;
    });
    const PtxInstruction& model = model_of(*last.instruction);
    if (model.kind == PtxInstruction::Kind::kWarp) {
      model.run_warp(results.data(), operands.data());
      return;
    }
    if (model.memory.action == PtxMemoryAction::kWarpgroupProduct) {
      const std::size_t at = static_cast<std::size_t>(model.memory.cols) / 2 + 4;
      for (const std::uint64_t* own : operands) {
        if (own[at] == operands[0][at]) continue;
        record(last, last.site,
               fmt::format("{} whose lanes have different descriptors", model.opcode));
        last.fiber.suspend();
      }
      warpgroup_product(model.memory, results.data(), operands.data(), shared());
      return;
    }
    constexpr int kRows = 8;
    for (int matrix = 0; matrix < model.memory.registers; ++matrix) {
      std::array<const std::byte*, kRows> rows{};
      for (int row = 0; row < kRows; ++row) {
        rows[static_cast<std::size_t>(row)] = reinterpret_cast<const std::byte*>(address_of(
            PtxStateSpace::kShared, operands[static_cast<std::size_t>(matrix * kRows + row)][0]));
      }
      for (std::uint32_t lane = 0; lane < kWarpThreads; ++lane)
        results[lane][matrix] =
            ldmatrix_register(rows.data(), static_cast<int>(lane), model.memory.transposed);
    }
  }

  template <typename Work>
  void for_each_lane(Thread& last, const Work& work) {
    for (std::uint32_t lane = 0; lane < kWarpThreads; ++lane)
      if ((last.mask >> lane & 1) != 0) work(*lane_of(last, lane));
  }

  // Threads that wait in vain ---------------------------------------------------------------------

  std::string thread_name(const Thread& thread) const {
    return fmt::format("({}, {}, {})", thread.view.tid[0], thread.view.tid[1], thread.view.tid[2]);
  }

  std::string doing(const Thread& thread) const {
    switch (thread.state) {
      case State::kEnded:
        return "has ended";
      case State::kAtBarrier:
        return "waits at the barrier in " + place_of(thread.site);
      case State::kAtWarpOp:
        return fmt::format("waits at {} in {}", name_of(thread), place_of(thread.site));
      case State::kAtPhase:
        return fmt::format("waits for phase {} of the barrier at byte {} of shared memory in {}",
                           thread.parity, thread.phase_barrier, place_of(thread.site));
      case State::kReady:
        break;
    }
    return "runs";
  }

  /// Names the first thread that waits for its warp in vain, else the first at a barrier, or at one in shared memory.
  void report_stuck() {
    const Thread* first = nullptr;
    for (std::uint32_t i = 0; i < launch_->threads; ++i) {
      const Thread& thread = *threads_[i];
      if (thread.state == State::kAtWarpOp) return report_missing_lanes(thread);
      if (thread.state == State::kAtBarrier && first == nullptr) first = &thread;
    }
    if (first == nullptr) return report_missing_arrivals();
    std::uint32_t missing = 0;
    const Thread* example = nullptr;
    for (std::uint32_t i = 0; i < launch_->threads; ++i) {
      const Thread& thread = *threads_[i];
      if (thread.state == State::kAtBarrier && thread.barrier == first->barrier) continue;
      if (example == nullptr) example = &thread;
      ++missing;
    }
    record(*first, first->site,
           fmt::format("barrier not reached by all: {} of {} threads of the block are missing; "
                       "thread {} {}",
                       missing, launch_->threads, thread_name(*example), doing(*example)));
  }

  void report_missing_arrivals() {
    for (std::uint32_t i = 0; i < launch_->threads; ++i) {
      const Thread& thread = *threads_[i];
      if (thread.state != State::kAtPhase) continue;
      const PhaseBarrier& barrier =
          phase_barriers_.at(address_of(PtxStateSpace::kShared, thread.phase_barrier));
      record(thread, thread.site,
             fmt::format("{}, which never ends: {} of {} arrivals and {} bytes are missing",
                         doing(thread), barrier.missing, barrier.arrivals, barrier.missing_bytes));
      return;
    }
    KTJIT_UNREACHABLE("a thread that waits");
  }

  void report_missing_lanes(const Thread& thread) {
    std::uint32_t missing = 0;
    std::uint32_t first = kWarpThreads;
    for (std::uint32_t lane = 0; lane < kWarpThreads; ++lane) {
      if ((thread.mask >> lane & 1) == 0) continue;
      const Thread* other = lane_of(thread, lane);
      if (other != nullptr && meets(thread, *other)) continue;
      missing |= 1u << lane;
      first = std::min(first, lane);
    }
    const Thread* example = lane_of(thread, first);
    record(thread, thread.site,
           fmt::format("{} is not reached by all lanes of its mask {:#010x}: lanes {:#010x} never "
                       "arrive; lane {} {}",
                       name_of(thread), thread.mask, missing, first,
                       example == nullptr ? "is not in the block" : doing(*example)));
  }

  const Launch* launch_ = nullptr;
  std::optional<Fault> fault_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::uint32_t> ready_;  ///< threads of this round
  std::vector<std::uint32_t> next_;   ///< of the next one
  std::uint32_t ended_ = 0;
  std::array<Barrier, kBarriers> barriers_{};
  std::unordered_map<std::uint64_t, PhaseBarrier> phase_barriers_;  ///< by address
  std::vector<std::byte> shared_storage_;
  std::uint64_t shared_bytes_ = 0;
  std::vector<std::uint8_t> written_;  ///< one for each byte of shared memory
  MemoryRange last_buffer_;            ///< that an unknown pointer was into
};

namespace {

Thread& thread_of(const ThreadView* view) { return *static_cast<Thread*>(view->thread); }

void check(const ThreadView* view, std::uint64_t address, std::uint64_t bytes, std::uint64_t meta,
           std::uint64_t object, Site site) {
  Thread& thread = thread_of(view);
  thread.cta->check(thread, address, bytes, meta, object, site);
}

void local_fault(const ThreadView* view, std::int64_t offset, std::uint64_t size,
                 std::uint64_t bytes, std::uint64_t meta, Site site) {
  Thread& thread = thread_of(view);
  thread.cta->report_local(thread, offset, size, bytes, meta, site);
}

std::uint32_t barrier(const ThreadView* view, std::uint32_t number, std::uint32_t op,
                      std::uint32_t predicate, std::uint64_t meeting, Site site) {
  Thread& thread = thread_of(view);
  return thread.cta->wait_at_barrier(thread, number, static_cast<BarrierOp>(op), predicate != 0,
                                     meeting, site);
}

void warp(const ThreadView* view, std::uint32_t op, std::uint32_t mask, const std::uint64_t* in,
          std::uint64_t* out, Site site) {
  Thread& thread = thread_of(view);
  thread.cta->wait_for_warp(thread, static_cast<WarpOp>(op), mask, nullptr, in, out, site);
}

void trap(const ThreadView* view, Site site) {
  Thread& thread = thread_of(view);
  thread.cta->stop(thread, site, "the kernel stops itself by __trap");
}

float fma_f32(float a, float b, float c) { return std::fma(a, b, c); }
double fma_f64(double a, double b, double c) { return std::fma(a, b, c); }

void call_of_thread(const ThreadView*, const Instruction* instruction, std::uint64_t* results,
                    const std::uint64_t* operands, Site) {
  model_of(*instruction).run(results, operands);
}

void call_of_warp(const ThreadView* view, const Instruction* instruction, std::uint64_t* results,
                  const std::uint64_t* operands, Site site) {
  Thread& thread = thread_of(view);
  thread.cta->wait_for_warp(thread, WarpOp::kInstruction, kAllLanes, instruction, operands, results,
                            site);
}

void call_of_memory(const ThreadView* view, const Instruction* instruction, std::uint64_t* results,
                    const std::uint64_t* operands, Site site) {
  Thread& thread = thread_of(view);
  thread.cta->run_memory(thread, *instruction, results, operands, site);
}

}  // namespace

const Services& services() {
  static constexpr Services kServices = {check, local_fault, barrier, warp, trap, fma_f32, fma_f64};
  return kServices;
}

std::vector<std::string> bind_instructions(const Module& module) {
  std::vector<std::string> missing;
  for (std::uint32_t i = 0; i < module.instruction_count; ++i) {
    Instruction& instruction = *module.instructions[i];
    const auto results = static_cast<int>(instruction.results);
    const auto operands = static_cast<int>(instruction.operands);
    const PtxInstruction* model = find_ptx_instruction(instruction.opcode, results, operands);
    if (model == nullptr) {
      const PtxInstruction* other = find_ptx_instruction(instruction.opcode);
      missing.push_back(
          other == nullptr
              ? fmt::format("{} ({})", instruction.opcode, place_of(instruction.site))
              : fmt::format("{} with {} results and {} operands, where {} and {} are expected ({})",
                            instruction.opcode, results, operands, other->results, other->operands,
                            place_of(instruction.site)));
      continue;
    }
    instruction.model = model;
    switch (model->kind) {
      case PtxInstruction::Kind::kThread:
        instruction.call = call_of_thread;
        break;
      case PtxInstruction::Kind::kWarp:
        instruction.call = call_of_warp;
        break;
      case PtxInstruction::Kind::kMemory:
        instruction.call = call_of_memory;
        break;
    }
  }
  return missing;
}

CtaRunner::CtaRunner() : cta_(std::make_unique<Cta>()) {}
CtaRunner::~CtaRunner() = default;

std::optional<Fault> CtaRunner::run(const Launch& launch, std::uint32_t block_x,
                                    std::uint32_t block_y) {
  return cta_->run(launch, block_x, block_y);
}

}  // namespace ktjit::runtime::simulator
