// The errors ktjit throws, one type per party that has to act. Messages are lower case, without a
// full stop, and name the value and what was expected.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace ktjit {

/// Base of everything ktjit throws.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller asked for something that is not allowed or not served.
class SpecError : public Error {
 public:
  SpecError(std::string_view field, std::string_view given, std::string_view allowed);

  const std::string& field() const { return field_; }

 private:
  std::string field_;
};

/// A file is damaged, odd or not what it was said to be. Its owner has to act.
class InputError : public Error {
 public:
  /// `where` is the file, or "file: tensor 'name'"; `problem` has the value and the expectation.
  InputError(std::string_view where, std::string_view problem);

  const std::string& where() const { return where_; }

 private:
  std::string where_;
};

/// A compiler, a library or a device is missing on this machine, or too old for the work.
class ToolchainError : public Error {
 public:
  /// `missing` is what was looked for, `looked_in` where, `cure` what to install or set.
  ToolchainError(std::string_view missing, std::string_view looked_in, std::string_view cure);
};

/// A compiler refused text that we emitted, or died on it: our fault.
class CompileError : public Error {
 public:
  /// `source_path` is where the text was saved ("" if it could not be), `log` the compiler's own
  /// words.
  CompileError(std::string_view kernel, std::string_view compiler, std::string_view options,
               std::string_view source_path, std::string_view log);

  const std::string& log() const { return log_; }

 private:
  std::string log_;
};

/// A call into the GPU driver (or the CPU's loader) failed.
class DriverError : public Error {
 public:
  DriverError(std::string_view call, int code, std::string_view code_name, std::string_view device,
              std::string_view doing);

  int code() const { return code_; }

 private:
  int code_;
};

/// A condition that our own code guarantees does not hold.
class InternalError : public Error {
 public:
  InternalError(std::string_view condition, const std::source_location& where);
};

namespace detail {
[[noreturn]] void fail_check(const char* condition,
                             const std::source_location& where = std::source_location::current());
}  // namespace detail

/// Throws InternalError, with file and line, unless `condition` holds.
#define KTJIT_CHECK(condition)                                 \
  do {                                                         \
    if (!(condition)) ::ktjit::detail::fail_check(#condition); \
  } while (false)

/// Throws InternalError: `expected` names what the value should have been, "a known op".
#define KTJIT_UNREACHABLE(expected) ::ktjit::detail::fail_check(expected)

}  // namespace ktjit
