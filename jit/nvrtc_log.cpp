// The log has a few lines for each kernel, alike from 11.8 to 13.5:
//   ptxas info    : Compiling entry function 'k' for 'sm_86'
//   ptxas info    : Function properties for k
//   ptxas         .     160 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
//   ptxas info    : Used 48 registers, used 1 barriers, 160 bytes cumulative stack size, 256 bytes
//   smem
// with further "Function properties" in between for functions that were not inlined.
#include "jit/nvrtc_log.h"

#include <charconv>
#include <optional>

namespace ktjit {
namespace {

// Takes the first line off `text`, without its end.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

// The number in front of `unit`: 160 for "bytes stack frame" in "160 bytes stack frame".
std::optional<int> number_before(std::string_view line, std::string_view unit) {
  const std::size_t at = line.find(unit);
  if (at == std::string_view::npos || at < 2 || line[at - 1] != ' ') return std::nullopt;
  const std::size_t end = at - 1;
  const std::size_t begin = line.find_last_not_of("0123456789", end - 1) + 1;
  int number = 0;
  const auto [rest, error] = std::from_chars(line.data() + begin, line.data() + end, number);
  if (error != std::errc() || rest != line.data() + end) return std::nullopt;
  return number;
}

bool is_statistics(std::string_view line) {
  return line.starts_with("ptxas info") || line.starts_with("ptxas         .");
}

// NVRTC 12.9 says so for sm_60 to sm_72, and has no option to stop it: about its successors, not
// about the text.
bool is_deprecation(std::string_view line) {
  return line.starts_with("nvrtc: warning: Architectures prior to");
}

}  // namespace

KernelResources parse_ptxas_statistics(std::string_view log, std::string_view entry_name) {
  KernelResources resources;
  const std::string start = "Compiling entry function '" + std::string(entry_name) + "'";
  bool in_kernel = false;
  while (!log.empty()) {
    const std::string_view line = take_line(log);
    if (line.find("Compiling entry function") != std::string_view::npos) {
      in_kernel = line.find(start) != std::string_view::npos;
    }
    if (!in_kernel || !is_statistics(line)) continue;
    if (const auto frame = number_before(line, "bytes stack frame")) {
      const int spills = number_before(line, "bytes spill stores").value_or(0) +
                         number_before(line, "bytes spill loads").value_or(0);
      resources.stack_bytes = resources.stack_bytes.value_or(0) + *frame;
      resources.spill_bytes = resources.spill_bytes.value_or(0) + spills;
    }
    if (const auto registers = number_before(line, "registers")) {
      resources.registers = registers;
      resources.static_smem_bytes = number_before(line, "bytes smem").value_or(0);
      if (const auto stack = number_before(line, "bytes cumulative stack size")) {
        resources.stack_bytes = stack;
      }
    }
  }
  return resources;
}

std::string warnings_in(std::string_view log) {
  std::string warnings;
  while (!log.empty()) {
    const std::string_view line = take_line(log);
    const bool blank = line.find_first_not_of(" \t\r") == std::string_view::npos;
    if (blank || is_statistics(line) || is_deprecation(line)) continue;
    warnings.append(line).push_back('\n');
  }
  return warnings;
}

}  // namespace ktjit
