#include "tests/gpu/ptx_kernels.h"

#include <fmt/format.h>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace ktjit::test {
namespace {

using runtime::PtxInstruction;
using runtime::PtxMemoryAction;
using runtime::PtxStateSpace;

/// The C++ type of a register. An 8-bit one travels in 16.
std::string_view type_of(char letter) {
  switch (letter) {
    case 'b':
    case 'h':
      return "unsigned short";
    case 'r':
      return "unsigned";
    case 'f':
      return "float";
    case 'l':
      return "unsigned long long";
  }
  throw std::logic_error(fmt::format("no type for a register of kind '{}'", letter));
}

char constraint_of(char letter) { return letter == 'b' ? 'h' : letter; }

std::string join(const std::vector<std::string>& parts) {
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string group(const std::vector<std::string>& parts) {
  return fmt::format("{{{}}}", fmt::join(parts, ", "));
}

/// One asm statement. Its results are in d0, d1, ..., its operands in a0, a1, ..., all but
/// immediates, for which the value is given.
class Statement {
 public:
  Statement(const PtxInstruction& entry, int immediate) : entry_(entry) {
    for (char letter : entry.result_registers) {
      names_of_results_.push_back(
          add_register(letter, outputs_, '=', 'd', names_of_results_.size()));
    }
    for (char letter : entry.operand_registers) {
      const std::size_t index = names_of_operands_.size();
      names_of_operands_.push_back(letter == 'n' ? std::to_string(immediate)
                                                 : add_register(letter, inputs_, 0, 'a', index));
    }
    // 8-bit results leave through 16-bit registers, after the instruction.
    for (std::size_t i = 0; i < entry.result_registers.size(); ++i)
      if (entry.result_registers[i] == 'b') after_ += fmt::format("cvt.u16.u8 %{}, d{}; ", i, i);
  }

  std::string text(const std::string& operands) const {
    std::string body = fmt::format("{}{} {};{}", before_, entry_.opcode, operands,
                                   after_.empty() ? "" : " " + after_);
    if (!declarations_.empty()) body = fmt::format("{{ {}{} }}", declarations_, body);
    return fmt::format("asm volatile(\"{}\"\n      : {}\n      : {}\n      : \"memory\");", body,
                       join(outputs_), join(inputs_));
  }

  const std::vector<std::string>& results() const { return names_of_results_; }
  const std::vector<std::string>& operands() const { return names_of_operands_; }

 private:
  /// Returns what the text calls the register.
  std::string add_register(char letter, std::vector<std::string>& list, char modifier, char prefix,
                           std::size_t index) {
    const std::string position = fmt::format("%{}", outputs_.size() + inputs_.size());
    list.push_back(fmt::format("\"{}{}\"({}{})", modifier == 0 ? "" : std::string(1, modifier),
                               constraint_of(letter), prefix, index));
    if (letter != 'b') return position;
    const std::string name = fmt::format("{}{}", prefix, index);
    declarations_ += fmt::format(".reg .b8 {}; ", name);
    if (prefix == 'a') before_ += fmt::format("cvt.u8.u16 {}, {}; ", name, position);
    return name;
  }

  const PtxInstruction& entry_;
  std::vector<std::string> outputs_, inputs_, names_of_results_, names_of_operands_;
  std::string declarations_, before_, after_;
};

/// "{d0, d1}, {a0, a1}, ..." as the instruction's syntax wants it.
std::string register_syntax(const PtxInstruction& entry, const Statement& statement) {
  const std::vector<std::string>& operands = statement.operands();
  std::vector<std::string> parts;
  if (entry.kind == PtxInstruction::Kind::kWarp) {  // mma: d, a, b, c
    const bool has_16_rows = entry.opcode.find(".m16n8") != std::string_view::npos;
    const auto sums = statement.results().size();
    const std::size_t b = (operands.size() - sums) / (has_16_rows ? 3 : 2);
    const std::size_t a = operands.size() - sums - b;
    const auto at = [&](std::size_t index) {
      return operands.begin() + static_cast<std::ptrdiff_t>(index);
    };
    parts = {group(statement.results()), group({at(0), at(a)}), group({at(a), at(a + b)}),
             group({at(a + b), operands.end()})};
  } else {
    const bool is_move = entry.opcode.starts_with("mov.");
    const auto& results = statement.results();
    parts.push_back(results.size() > 1 ? group(results) : join(results));
    parts.push_back(is_move && operands.size() > 1 ? group(operands) : join(operands));
  }
  return join(parts);
}

constexpr std::string_view kSharedAddress = R"cuda(
__device__ __forceinline__ unsigned shared_address(const void* at) {
  unsigned address;
  asm volatile("{ .reg .b64 wide; cvta.to.shared.u64 wide, %1; cvt.u32.u64 %0, wide; }"
               : "=r"(address)
               : "l"(at));
  return address;
}
)cuda";

constexpr std::string_view kMemoryHead = R"cuda(
extern "C" __global__ void run_instruction(const unsigned char* in,
                                           const unsigned long long* parameter,
                                           unsigned char* out) {
  const unsigned long long i = blockIdx.x * 128ull + threadIdx.x;
  unsigned char* to = out + 16 * i;
)cuda";

constexpr std::string_view kFrom = "  const unsigned char* from = in + 16 * i;\n";

constexpr std::string_view kTile = R"cuda(
  __shared__ __align__(16) unsigned char tile[128 * 16];
  unsigned char* mine = tile + 16 * threadIdx.x;
)cuda";

/// Copies `bytes` bytes one by one.
std::string copy_bytes_text(std::string_view to, std::string_view from, int bytes) {
  return fmt::format("  for (int k = 0; k < {}; ++k) {}[k] = {}[k];\n", bytes, to, from);
}

const std::string kOwnAddress = "  const unsigned at = shared_address(mine);\n";
const std::string kBarrier = "  __syncthreads();\n";

/// A load or store of one thread, from `in` or to `out`, or by way of shared memory.
std::string move_text(const PtxInstruction& entry) {
  const bool loads = entry.memory.action == PtxMemoryAction::kLoad;
  const bool shared = entry.memory.space == PtxStateSpace::kShared;
  const char letter = loads ? entry.result_registers[0] : entry.operand_registers[1];
  const std::string_view type = type_of(letter);
  const int bytes = entry.memory.registers * entry.memory.bytes_per_register;

  std::string text;
  if (shared) {
    text += loads ? copy_bytes_text("mine", "from", 16) : "";
    text += kBarrier + kOwnAddress;
  }
  std::vector<std::string> registers, list;
  for (int i = 0; i < entry.memory.registers; ++i) {
    const std::string name = fmt::format("x{}", i);
    text += loads ? fmt::format("  {} {};\n", type, name)
                  : fmt::format("  const {0} {1} = ((const {0}*)from)[{2}];\n", type, name, i);
    registers.push_back(fmt::format("%{}", loads ? i : i + 1));
    list.push_back(fmt::format("\"{}{}\"({})", loads ? "=" : "", letter, name));
  }
  const std::string address = shared ? "\"r\"(at)" : loads ? "\"l\"(from)" : "\"l\"(to)";
  const std::string values = registers.size() > 1 ? group(registers) : registers.front();
  if (loads) {
    text += fmt::format("  asm volatile(\"{} {}, [%{}];\" : {} : {} : \"memory\");\n", entry.opcode,
                        values, registers.size(), join(list), address);
    for (int i = 0; i < entry.memory.registers; ++i)
      text += fmt::format("  (({}*)to)[{}] = x{};\n", type, i, i);
  } else {
    text += fmt::format("  asm volatile(\"{} [%0], {};\" : : {}, {} : \"memory\");\n", entry.opcode,
                        values, address, join(list));
    if (shared) text += kBarrier + copy_bytes_text("to", "mine", bytes);
  }
  return text;
}

std::string load_matrix_text(const PtxInstruction& entry) {
  std::string text = copy_bytes_text("mine", "from", 16) + kBarrier;
  text += "  const unsigned row = (threadIdx.x & ~31u) + (unsigned)parameter[i];\n";
  text += "  const unsigned at = shared_address(tile + 16 * row);\n";
  const Statement statement(entry, 0);
  for (int i = 0; i < entry.results; ++i) text += fmt::format("  unsigned d{};\n", i);
  text += "  const unsigned a0 = at;\n  ";
  text +=
      statement.text(fmt::format("{}, [{}]", group(statement.results()), statement.operands()[0]));
  for (int i = 0; i < entry.results; ++i)
    text += fmt::format("\n  ((unsigned*)to)[{}] = d{};", i, i);
  return text + "\n";
}

std::string async_copy(std::string_view opcode, int offset, int bytes, bool says_how_many) {
  return fmt::format(
      "  asm volatile(\"{} [%0], [%1], {}{};\" : : \"r\"(at + {}), \"l\"(from + {}){} : "
      "\"memory\");\n",
      opcode, bytes, says_how_many ? ", %2" : "", offset, offset,
      says_how_many ? ", \"r\"((unsigned)parameter[i])" : "");
}

std::string plain_statement(std::string_view instruction) {
  return fmt::format("  asm volatile(\"{};\" : : : \"memory\");\n", instruction);
}

std::string async_copy_text(const PtxInstruction& entry, int copy_bytes) {
  return kOwnAddress + async_copy(entry.opcode, 0, copy_bytes, entry.operands == 4) +
         plain_statement("cp.async.wait_all") + copy_bytes_text("to", "mine", copy_bytes);
}

/// Two groups of 8 bytes; the first is read while the second may still be under way.
std::string async_groups_text() {
  const std::string_view copy = "cp.async.ca.shared.global";
  return "  const unsigned at = shared_address(mine);\n" + async_copy(copy, 0, 8, false) +
         plain_statement("cp.async.commit_group") + async_copy(copy, 8, 8, false) +
         plain_statement("cp.async.commit_group") + plain_statement("cp.async.wait_group 1") +
         copy_bytes_text("to", "mine", 8) + plain_statement("cp.async.wait_group 0") +
         copy_bytes_text("to", "mine", 16);
}

constexpr std::string_view kSharedDistanceText = R"cuda(
  unsigned long long first, own;
  asm volatile("cvta.to.shared.u64 %0, %1;" : "=l"(first) : "l"(tile));
  asm volatile("cvta.to.shared.u64 %0, %1;" : "=l"(own) : "l"(mine));
  *(unsigned long long*)to = own - first;
)cuda";

}  // namespace

std::string make_register_kernel(const PtxInstruction& entry) {
  std::string text = R"cuda(
extern "C" __global__ void run_instruction(const unsigned long long* operands,
                                           unsigned long long* results, unsigned long long n) {
  const unsigned long long i = blockIdx.x * 128ull + threadIdx.x;
  if (i >= n) return;
)cuda";
  int immediate_at = -1;
  for (int j = 0; j < entry.operands; ++j) {
    const char letter = entry.operand_registers[static_cast<std::size_t>(j)];
    if (letter == 'n')
      immediate_at = j;
    else if (letter == 'f')
      text += fmt::format("  const float a{} = __uint_as_float((unsigned)operands[{} * n + i]);\n",
                          j, j);
    else
      text += fmt::format("  const {0} a{1} = ({0})operands[{1} * n + i];\n", type_of(letter), j);
  }
  for (int j = 0; j < entry.results; ++j)
    text +=
        fmt::format("  {} d{};\n", type_of(entry.result_registers[static_cast<std::size_t>(j)]), j);

  if (immediate_at < 0) {
    const Statement statement(entry, 0);
    text += "  " + statement.text(register_syntax(entry, statement)) + "\n";
  } else {  // an immediate of 8 bits: one statement for each value
    text += fmt::format("  switch (operands[{} * n + i]) {{\n", immediate_at);
    for (int value = 0; value < 256; ++value) {
      const Statement statement(entry, value);
      text += fmt::format("    case {}: {} break;\n", value,
                          statement.text(register_syntax(entry, statement)));
    }
    text += "    default: return;\n  }\n";
  }
  for (int j = 0; j < entry.results; ++j) {
    const bool is_float = entry.result_registers[static_cast<std::size_t>(j)] == 'f';
    text += fmt::format("  results[{} * n + i] = {};\n", j,
                        is_float ? fmt::format("__float_as_uint(d{})", j) : fmt::format("d{}", j));
  }
  return text + "}\n";
}

std::string make_memory_kernel(const PtxInstruction& entry, int copy_bytes) {
  std::string text;
  switch (entry.memory.action) {
    case PtxMemoryAction::kLoad:
    case PtxMemoryAction::kStore:
      text += move_text(entry);
      break;
    case PtxMemoryAction::kLoadMatrix:
      text += load_matrix_text(entry);
      break;
    case PtxMemoryAction::kCopyAsync:
      text += async_copy_text(entry, copy_bytes);
      break;
    case PtxMemoryAction::kCommitCopies:
    case PtxMemoryAction::kWaitForCopies:
      text += async_groups_text();
      break;
    case PtxMemoryAction::kWaitForAll:
      text += kOwnAddress + async_copy("cp.async.ca.shared.global", 0, 16, false) +
              plain_statement("cp.async.wait_all") + copy_bytes_text("to", "mine", 16);
      break;
    case PtxMemoryAction::kNoEffect:  // between load and store, which it must not disturb
      text += copy_bytes_text("mine", "from", 16) + plain_statement(entry.opcode) +
              copy_bytes_text("to", "mine", 16);
      break;
    case PtxMemoryAction::kToSharedAddress:
      text += kSharedDistanceText;
      break;
    case PtxMemoryAction::kInitBarrier:
    case PtxMemoryAction::kArrive:
    case PtxMemoryAction::kArriveAfterCopies:
    case PtxMemoryAction::kExpectBytes:
    case PtxMemoryAction::kCopyBox:
    case PtxMemoryAction::kWaitForPhase:
    case PtxMemoryAction::kWarpgroupProduct:
    case PtxMemoryAction::kNone:
      throw std::logic_error(fmt::format("{} doesn't move memory", entry.opcode));
  }
  const auto uses = [&](std::string_view name) { return text.find(name) != std::string::npos; };
  return fmt::format("{}{}{}{}{}}}\n", uses("shared_address(") ? kSharedAddress : "", kMemoryHead,
                     uses("from") ? kFrom : "", uses("mine") ? kTile : "", text);
}

}  // namespace ktjit::test
