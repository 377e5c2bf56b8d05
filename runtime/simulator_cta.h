// Runs one CTA of a simulated kernel: its threads as fibres, its shared memory, where they meet, and
// the checks that simulated code asks for.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/fiber.h"
#include "runtime/ptx_instructions.h"
#include "runtime/simulator_abi.h"
#include "runtime/simulator_memory.h"

namespace ktjit::runtime::simulator {

/// A tensor map of this device.
struct TensorMap {
  std::uint64_t address = 0;  ///< of the matrix
  std::uint64_t rows = 0;
  std::uint64_t row_bytes = 0;
  std::uint32_t box_rows = 0;
};

/// One launch, the same for all of its CTAs.
struct Launch {
  KernelEntry entry = nullptr;
  const Module* module = nullptr;
  const Memory* memory = nullptr;
  std::vector<std::uint64_t> arguments;
  std::vector<MemoryRange> parameters;  ///< the buffer each argument points into; empty for others
  std::vector<MemoryRange> buffers;     ///< all, by address
  std::vector<TensorMap> tensor_maps;   ///< whose addresses are arguments
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t threads = 1;
  std::uint32_t dynamic_shared_bytes = 0;
};

/// What a kernel did wrong, and where.
struct Fault {
  std::uint32_t block[3] = {};
  std::uint32_t thread[3] = {};
  Site site = 0;
  std::string problem;
};

/// What simulated code calls; every member stops the thread at a fault.
const Services& services();

/// Sets how an object's instructions are executed.
/// Returns the instructions that are not modelled, with why; empty: all are.
std::vector<std::string> bind_instructions(const Module& module);

/// Threads: one host thread at a time. May be used for one CTA after another.
class CtaRunner {
 public:
  CtaRunner();
  ~CtaRunner();
  CtaRunner(const CtaRunner&) = delete;
  CtaRunner& operator=(const CtaRunner&) = delete;

  /// Runs a CTA to its end, or to the first fault.
  std::optional<Fault> run(const Launch& launch, std::uint32_t block_x, std::uint32_t block_y);

  class Cta;

 private:
  std::unique_ptr<Cta> cta_;
};

}  // namespace ktjit::runtime::simulator
