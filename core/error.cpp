// Wording of the errors; see error.h for who acts on which.
#include "core/error.h"

#include <fmt/format.h>

namespace ktjit {

SpecError::SpecError(std::string_view field, std::string_view given, std::string_view allowed)
    : Error(fmt::format("{} is {}, allowed: {}", field, given, allowed)), field_(field) {}

InputError::InputError(std::string_view where, std::string_view problem)
    : Error(fmt::format("{}: {}", where, problem)), where_(where) {}

ToolchainError::ToolchainError(std::string_view missing, std::string_view looked_in,
                               std::string_view cure)
    : Error(fmt::format("{} (looked in: {}); {}", missing, looked_in, cure)) {}

CompileError::CompileError(std::string_view kernel, std::string_view compiler,
                           std::string_view options, std::string_view source_path,
                           std::string_view log)
    : Error(fmt::format("{} failed to compile {}\n  options: {}\n  source:  {}\n{}", compiler,
                        kernel, options, source_path.empty() ? "(could not be saved)" : source_path,
                        log)),
      log_(log) {}

DriverError::DriverError(std::string_view call, int code, std::string_view code_name,
                         std::string_view device, std::string_view doing)
    : Error(fmt::format("{} failed with {} ({}) on {} while {}", call, code_name, code, device,
                        doing)),
      code_(code) {}

InternalError::InternalError(std::string_view condition, const std::source_location& where)
    : Error(fmt::format("internal error: {} does not hold in {} ({}:{})", condition,
                        where.function_name(), where.file_name(), where.line())) {}

namespace detail {
void fail_check(const char* condition, const std::source_location& where) {
  throw InternalError(condition, where);
}
}  // namespace detail

}  // namespace ktjit
