#include "tests/toolchain/sass_profile.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace ktjit::test {
namespace {

std::string_view opcode_of(std::string_view instruction) {
  return instruction.substr(0, instruction.find_first_of(". "));
}

bool has_modifier(std::string_view instruction, std::string_view modifier) {
  const std::string_view name = instruction.substr(0, instruction.find(' '));
  for (auto at = name.find(modifier); at != std::string_view::npos;
       at = name.find(modifier, at + 1)) {
    const auto end = at + modifier.size();
    if (end == name.size() || name[end] == '.') return true;
  }
  return false;
}

template <std::size_t N>
bool is_one_of(std::string_view opcode, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), opcode) != names.end();
}

bool is_global_load(std::string_view opcode) { return opcode == "LDG" || opcode == "LDGSTS"; }

int bytes_of_access(std::string_view instruction) {
  if (has_modifier(instruction, ".128")) return 16;
  if (has_modifier(instruction, ".64")) return 8;
  if (has_modifier(instruction, ".U16") || has_modifier(instruction, ".S16")) return 2;
  if (has_modifier(instruction, ".U8") || has_modifier(instruction, ".S8")) return 1;
  return 4;
}

bool is_tensor(std::string_view opcode) { return opcode.ends_with("MMA"); }

constexpr std::array<std::string_view, 8> kF16 = {"HADD2",  "HMUL2",  "HFMA2",     "HSET2",
                                                  "HSETP2", "HMNMX2", "HADD2_32I", "HFMA2_MMA"};

/// Instructions of a warp that all tensor cores of a multiprocessor take in a clock, times 32.
double tensor_lanes(std::string_view instruction, int sm) {
  const bool is_integer = instruction.starts_with("IMMA");
  const auto times = [](double warps_a_clock) { return 32 * warps_a_clock; };
  // Multiply-adds a clock: T4 1024 s8, 512 f16; A100 2048, 1024; A10 and RTX 4090 1024, 256 (f32 sums).
  if (sm == 75) return times(is_integer ? 1024.0 / (8 * 8 * 16) : 512.0 / (16 * 8 * 8));
  if (sm == 80) return times(is_integer ? 2048.0 / (16 * 8 * 32) : 1024.0 / (16 * 8 * 16));
  return times(is_integer ? 1024.0 / (16 * 8 * 32) : 256.0 / (16 * 8 * 16));
}

}  // namespace

std::vector<SassLoop> all_loops(const std::vector<SassLine>& lines) {
  std::map<std::string, std::size_t, std::less<>> label_at;
  std::vector<SassLoop> loops;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].label.empty()) {
      label_at[lines[i].label] = i;
      continue;
    }
    const std::string_view instruction = lines[i].instruction;
    if (opcode_of(instruction) != "BRA") continue;
    const auto open = instruction.find("`(");
    if (open == std::string_view::npos) continue;
    const auto close = instruction.find(')', open);
    const auto label = label_at.find(instruction.substr(open + 2, close - open - 2));
    if (label == label_at.end() || label->second + 1 == i) continue;  // forward, or the trap
    // Branches to one label from several places: the last is the loop's end.
    if (!loops.empty() && loops.back().begin == label->second)
      loops.back().end = i + 1;
    else
      loops.push_back({label->second, i + 1});
  }
  return loops;
}

const SassLoop* find_main_loop(const std::vector<SassLine>& lines,
                               const std::vector<SassLoop>& loops) {
  const SassLoop* best = nullptr;
  std::pair<bool, int> best_work;
  for (const SassLoop& loop : loops) {
    const bool is_innermost = std::none_of(
        loops.begin(), loops.end(), [&](const SassLoop& other) { return loop.holds(other); });
    if (!is_innermost) continue;
    bool has_products = false;
    int bytes = 0;
    for (std::size_t i = loop.begin; i < loop.end; ++i) {
      const std::string_view opcode = opcode_of(lines[i].instruction);
      has_products |= is_tensor(opcode) || opcode == "IDP";
      if (is_global_load(opcode)) bytes += bytes_of_access(lines[i].instruction);
    }
    const std::pair<bool, int> work = {has_products, bytes};
    if (bytes > 0 && (best == nullptr || work > best_work)) {
      best = &loop;
      best_work = work;
    }
  }
  return best;
}

const SassLoop* find_unrolled_loop(const std::vector<SassLine>& lines,
                                   const std::vector<SassLoop>& loops) {
  const SassLoop* best = nullptr;
  std::pair<std::ptrdiff_t, std::ptrdiff_t> best_work;  // products, less length
  for (const SassLoop& loop : loops) {
    const auto begin = lines.begin() + static_cast<std::ptrdiff_t>(loop.begin);
    const auto end = lines.begin() + static_cast<std::ptrdiff_t>(loop.end);
    const auto products = std::count_if(begin, end, [](const SassLine& line) {
      return is_tensor(opcode_of(line.instruction)) ||
             line.instruction.find("IDP.4A") != std::string::npos;
    });
    const std::pair<std::ptrdiff_t, std::ptrdiff_t> work = {products, begin - end};
    if (products == 0 || (best != nullptr && work <= best_work)) continue;
    best = &loop;
    best_work = work;
  }
  return best;
}

std::string_view pipe_name(SassPipe pipe) {
  switch (pipe) {
    case SassPipe::kFma:
      return "fma";
    case SassPipe::kAlu:
      return "alu";
    case SassPipe::kConversion:
      return "conversion";
    case SassPipe::kMemory:
      return "memory";
    case SassPipe::kTensor:
      return "tensor";
    case SassPipe::kOther:
      return "other";
  }
  KTJIT_UNREACHABLE("a known pipe");
}

SassCost cost_of(std::string_view instruction, int sm) {
  constexpr std::array<std::string_view, 13> kMemory = {"LDG", "LDGSTS", "LDS",  "LDSM", "LDL",
                                                        "LDC", "STG",    "STS",  "STL",  "ST",
                                                        "LD",  "SHFL",   "ATOMS"};
  constexpr std::array<std::string_view, 10> kConversion = {"I2F",  "F2F",  "F2I",  "I2I", "MUFU",
                                                            "FRND", "I2IP", "POPC", "FLO", "BREV"};
  constexpr std::array<std::string_view, 14> kFma = {
      "FADD", "FMUL",  "FFMA",  "FADD32I", "FMUL32I", "FFMA32I", "IMAD",
      "IMUL", "HADD2", "HMUL2", "HFMA2",   "FSWZADD", "XMAD",    "HFMA2_MMA"};
  constexpr std::array<std::string_view, 20> kOther = {
      "BRA", "EXIT", "BAR", "BSYNC", "BSSY", "WARPSYNC", "NOP",  "SSY",       "SYNC",   "DEPBAR",
      "RET", "CALL", "PBK", "BRK",   "VOTE", "S2R",      "CS2R", "LDGDEPBAR", "MEMBAR", "YIELD"};
  // Pascal: integers that its f32 cores add and combine; shifts, comparisons and the rest have half of them.
  constexpr std::array<std::string_view, 10> kPascalFull = {
      "IADD", "IADD3", "IADD32I", "LOP", "LOP3", "LOP32I", "MOV", "MOV32I", "XMAD", "IDP"};

  const std::string_view opcode = opcode_of(instruction);
  const bool is_pascal = sm < 70;
  const bool has_many_f32 = sm >= 86 || is_pascal;  // 128 f32 lanes, else 64
  if (is_tensor(opcode) && opcode != "HFMA2_MMA")
    return {SassPipe::kTensor, tensor_lanes(instruction, sm)};
  if (is_one_of(opcode, kMemory)) return {SassPipe::kMemory, 32};
  if (is_one_of(opcode, kConversion)) return {SassPipe::kConversion, is_pascal ? 32.0 : 16.0};
  if (is_one_of(opcode, kOther) || opcode.starts_with("U")) return {SassPipe::kOther, 128};
  if (is_pascal) {
    if (is_one_of(opcode, kF16)) return {SassPipe::kFma, 2};
    const bool is_full = is_one_of(opcode, kPascalFull) || is_one_of(opcode, kFma);
    return is_full ? SassCost{SassPipe::kFma, 128} : SassCost{SassPipe::kAlu, 64};
  }
  if (is_one_of(opcode, kFma) || is_one_of(opcode, kF16)) {
    const bool is_f32 = opcode.starts_with("F");
    return {SassPipe::kFma, is_f32 && has_many_f32 ? 128.0 : 64.0};
  }
  return {SassPipe::kAlu, 64};
}

SassPipe SassProfile::busiest() const {
  SassPipe best = SassPipe::kOther;
  double most = 0;
  for (const auto& [pipe, time] : clocks) {
    if (pipe == SassPipe::kOther || time <= most) continue;
    best = pipe;
    most = time;
  }
  return best;
}

SassProfile profile(const std::vector<SassLine>& lines, std::size_t begin, std::size_t end,
                    int sm) {
  SassProfile result;
  for (std::size_t i = begin; i < end; ++i) {
    const std::string_view instruction = lines[i].instruction;
    const std::string_view opcode = opcode_of(instruction);
    if (opcode.empty() || opcode == "NOP") continue;
    const SassCost cost = cost_of(instruction, sm);
    result.instructions += 1;
    result.clocks[cost.pipe] += 1 / cost.lanes_per_clock;
    if (is_global_load(opcode)) result.loaded_bytes += bytes_of_access(instruction);
    if (is_one_of(opcode, kF16)) result.f16_arithmetic += 1;
  }
  return result;
}

}  // namespace ktjit::test
