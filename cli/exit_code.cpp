#include "cli/exit_code.h"

#include <fmt/format.h>

#include "core/interrupted_error.h"
#include "core/kernel_error.h"
#include "core/missing_kernel_error.h"
#include "model/output_file.h"

namespace ktjit::cli {

UsageError::UsageError(std::string_view problem, std::string_view hint)
    : Error(fmt::format("{}{}{}", problem, hint.empty() ? "" : "; ", hint)) {}

int exit_code_of(const std::exception& error) {
  const auto is = [&error]<class Type>(const Type*) {
    return dynamic_cast<const Type*>(&error) != nullptr;
  };
  if (is(static_cast<const UsageError*>(nullptr))) return kUsage;
  if (is(static_cast<const SpecError*>(nullptr))) return kUsage;
  if (is(static_cast<const InputError*>(nullptr))) return kInput;
  if (is(static_cast<const ToolchainError*>(nullptr))) return kMachine;
  if (is(static_cast<const DriverError*>(nullptr))) return kMachine;
  if (is(static_cast<const MissingKernelError*>(nullptr))) return kMachine;
  if (is(static_cast<const InterruptedError*>(nullptr))) return kInterrupted;
  if (is(static_cast<const KernelError*>(nullptr))) return kFailed;
  if (is(static_cast<const model::OutputError*>(nullptr))) return kFailed;
  return kOurs;
}

std::string exit_code_help(std::string_view done, std::string_view failed, std::string_view input,
                           std::string_view machine) {
  std::string text = fmt::format("  0  {}\n", done);
  text += fmt::format("  1  {}the output can't be written\n",
                      failed.empty() ? "" : fmt::format("{}, or ", failed));
  text += "  2  the command line is wrong\n";
  if (!input.empty()) text += fmt::format("  3  {}\n", input);
  if (!machine.empty()) text += fmt::format("  4  {}\n", machine);
  return text + "  5  an error of ours, such as a kernel that fails to compile\n";
}

}  // namespace ktjit::cli
