// Instructions that move memory, described for the device that does it. PTX ISA 9.0, "ld", "st",
// "ldmatrix", "cp.async", "cvta", "griddepcontrol".
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "runtime/ptx_tables.h"

namespace ktjit::runtime {
namespace ptx {
namespace {

using Action = PtxMemoryAction;
using Space = PtxStateSpace;

/// The table, whose names are put together from their parts.
class MemoryTable {
 public:
  MemoryTable() {
    add_loads_and_stores();
    add_load_matrix();
    add_async_copies();
    add("griddepcontrol.wait", "", "", {.action = Action::kNoEffect}).min_sm = 90;
    add("griddepcontrol.launch_dependents", "", "", {.action = Action::kNoEffect}).min_sm = 90;
    add("cvta.to.shared.u64", "l", "l",
        {.action = Action::kToSharedAddress, .space = Space::kGeneric});
    add_barriers();
    add_warpgroup_products();
  }
  std::span<const PtxInstruction> rows() const { return rows_; }

 private:
  PtxInstruction& add(std::string opcode, std::string results, std::string operands,
                      PtxMemory memory) {
    const auto keep = [&](std::string text) -> std::string_view {
      return texts_.emplace_back(std::move(text));
    };
    return rows_.emplace_back(PtxInstruction{.opcode = keep(std::move(opcode)),
                                             .result_registers = keep(std::move(results)),
                                             .operand_registers = keep(std::move(operands)),
                                             .kind = PtxInstruction::Kind::kMemory,
                                             .memory = memory});
  }

  /// One, two or four registers at once, at most 16 bytes. .nc: memory that nobody writes while the
  /// kernel runs. .cs, .cg, .L1::no_allocate: hints to the caches.
  void add_loads_and_stores() {
    struct Type {
      std::string name;
      char letter;
      int bytes;
    };
    const Type types[] = {
        {".b16", 'h', 2}, {".b32", 'r', 4}, {".u32", 'r', 4}, {".f32", 'f', 4}, {".b64", 'l', 8}};
    struct Place {
      std::string name;
      Space space;
      std::string address;
    };
    const Place load_places[] = {{"ld.global", Space::kGlobal, "l"},
                                 {"ld.global.nc", Space::kGlobal, "l"},
                                 {"ld.global.cs", Space::kGlobal, "l"},
                                 {"ld.global.cg", Space::kGlobal, "l"},
                                 {"ld.global.L1::no_allocate", Space::kGlobal, "l"},
                                 {"ld.global.nc.L1::no_allocate", Space::kGlobal, "l"},
                                 {"ld.shared", Space::kShared, "r"}};
    const Place store_places[] = {{"st.global", Space::kGlobal, "l"},
                                  {"st.global.cs", Space::kGlobal, "l"},
                                  {"st.global.cg", Space::kGlobal, "l"},
                                  {"st.shared", Space::kShared, "r"}};
    for (const Type& type : types) {
      for (int count : {1, 2, 4}) {
        if (type.bytes * count > 16) continue;
        const std::string suffix = (count == 1 ? "" : count == 2 ? ".v2" : ".v4") + type.name;
        const std::string registers(static_cast<std::size_t>(count), type.letter);
        const auto moves = [&](Action action, Space space) {
          return PtxMemory{.action = action,
                           .space = space,
                           .bytes_per_register = type.bytes,
                           .registers = count};
        };
        for (const Place& place : load_places) {
          const bool needs_sm_70 = place.name.find("L1::") != std::string::npos;
          add(place.name + suffix, registers, place.address, moves(Action::kLoad, place.space))
              .min_sm = needs_sm_70 ? 70 : 60;
        }
        for (const Place& place : store_places)
          add(place.name + suffix, "", place.address + registers,
              moves(Action::kStore, place.space));
      }  // count: of registers
    }
  }

  /// A row of 16 bytes from each of the lanes 0 to 7, 15 or 31.
  void add_load_matrix() {
    for (int count : {1, 2, 4}) {
      for (bool transposed : {false, true}) {
        add("ldmatrix.sync.aligned.m8n8.x" + std::to_string(count) + (transposed ? ".trans" : "") +
                ".shared.b16",
            std::string(static_cast<std::size_t>(count), 'r'), "r",
            {.action = Action::kLoadMatrix,
             .space = Space::kShared,
             .bytes_per_register = 4,
             .registers = count,
             .transposed = transposed})
            .min_sm = 75;
      }
    }
  }

  void add_async_copies() {
    for (const std::string cache : {"ca", "cg"}) {
      for (const std::string prefetch : {"", ".L2::64B", ".L2::128B", ".L2::256B"}) {
        for (const std::string bytes : {"n", "nr"}) {
          add("cp.async." + cache + ".shared.global" + prefetch, "", "rl" + bytes,
              {.action = Action::kCopyAsync,
               .space = Space::kShared,
               .only_16_bytes = cache == "cg"})
              .min_sm = 80;
        }
      }
    }
    add("cp.async.commit_group", "", "", {.action = Action::kCommitCopies}).min_sm = 80;
    add("cp.async.wait_group", "", "n", {.action = Action::kWaitForCopies}).min_sm = 80;
    add("cp.async.wait_all", "", "", {.action = Action::kWaitForAll}).min_sm = 80;
  }

  void add_barriers() {
    constexpr std::string_view kMeeting = "several threads meet there";
    const auto add_barrier = [&](std::string opcode, std::string results, std::string operands,
                                 Action action, int min_sm) {
      PtxInstruction& row = add(std::move(opcode), std::move(results), std::move(operands),
                                {.action = action, .space = Space::kShared});
      row.min_sm = min_sm;
      row.proved_in_kernels = kMeeting;
    };
    add_barrier("mbarrier.init.shared::cta.b64", "", "rr", Action::kInitBarrier, 80);
    add_barrier("mbarrier.arrive.shared::cta.b64", "l", "r", Action::kArrive, 80);
    add_barrier("mbarrier.try_wait.parity.shared::cta.b64", "p", "rr", Action::kWaitForPhase, 90);
    add_barrier("cp.async.mbarrier.arrive.noinc.shared::cta.b64", "", "r",
                Action::kArriveAfterCopies, 80);
    add_barrier("mbarrier.arrive.expect_tx.shared::cta.b64", "l", "rr", Action::kExpectBytes, 90);
    add_barrier("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes", "",
                "rlrrr", Action::kCopyBox, 90);
    add("fence.proxy.async.shared::cta", "", "", {.action = Action::kNoEffect}).min_sm = 90;
  }

  void add_warpgroup_products() {
    const auto add_hopper = [&](std::string opcode, std::string results, std::string operands,
                                PtxMemory memory) {
      PtxInstruction& row = add(std::move(opcode), std::move(results), std::move(operands), memory);
      row.min_sm = row.last_sm = 90;
      row.needs_suffix = true;
      row.proved_in_kernels = "a warpgroup executes it";
    };
    for (const std::string change : {"inc", "dec"})
      add_hopper("setmaxnreg." + change + ".sync.aligned.u32", "", "n",
                 {.action = Action::kNoEffect});
    for (const std::string name : {"fence", "commit_group"})
      add_hopper("wgmma." + name + ".sync.aligned", "", "", {.action = Action::kNoEffect});
    add_hopper("wgmma.wait_group.sync.aligned", "", "n", {.action = Action::kNoEffect});
    struct Type {
      PtxElement element;
      std::string shape, name, immediates;
    };
    const Type types[] = {{PtxElement::kF16, "k16", "f16.f16", "nnn"},
                          {PtxElement::kBf16, "k16", "bf16.bf16", "nnn"},
                          {PtxElement::kE4m3, "k32", "e4m3.e4m3", "nn"}};
    for (int cols = 8; cols <= 256; cols += 8) {
      for (const Type& type : types) {
        const std::string sums(static_cast<std::size_t>(cols) / 2, 'f');
        add_hopper("wgmma.mma_async.sync.aligned.m64n" + std::to_string(cols) + type.shape +
                       ".f32." + type.name,
                   sums, sums + "rrrrlp" + type.immediates,
                   {.action = Action::kWarpgroupProduct,
                    .space = Space::kShared,
                    .cols = cols,
                    .element = type.element});
      }
    }
  }

  std::deque<std::string> texts_;  // a deque: the rows point into it
  std::vector<PtxInstruction> rows_;
};

}  // namespace

std::span<const PtxInstruction> memory_instructions() {
  static const MemoryTable table;
  return table.rows();
}

}  // namespace ptx

std::uint32_t ldmatrix_register(const std::byte* const rows[8], int lane, bool transposed) {
  std::uint32_t pair = 0;
  for (int i = 0; i < 2; ++i) {
    const int major = lane / 4, minor = 2 * (lane % 4) + i;
    const int row = transposed ? minor : major, col = transposed ? major : minor;
    std::uint16_t element;
    std::memcpy(&element, rows[row] + 2 * col, sizeof element);
    pair |= static_cast<std::uint32_t>(element) << (16 * i);
  }
  return pair;
}

}  // namespace ktjit::runtime
