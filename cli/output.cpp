#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <fmt/format.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include "model/output_file.h"

namespace ktjit::cli {
namespace {

[[noreturn]] void fail_output() {
  const int code = errno;
  if (code == EPIPE) throw BrokenPipe{};
  throw model::OutputError("standard output", fmt::format("cannot be written: {}",
                                                          std::generic_category().message(code)));
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_output();
}

void flush_output() {
  if (std::fflush(stdout) != 0) fail_output();
}

void print_to_stderr(std::string_view line) {
  const std::string_view erase = stderr_is_terminal() ? "\r\x1b[K" : "";
  const std::string text = std::string(erase).append(line) + "\n";
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

}  // namespace ktjit::cli
