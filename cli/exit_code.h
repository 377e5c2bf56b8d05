// What the program's exit status means, and which error leads to which: scripts rely on both.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "core/error.h"

namespace ktjit::cli {

enum ExitCode : int {
  kDone = 0,
  kFailed = 1,   ///< a check failed, nothing was checked, does not fit, output can't be written
  kUsage = 2,    ///< the command line
  kInput = 3,    ///< a file that was read
  kMachine = 4,  ///< a device or a compiler is missing, or refused; a kernel in sealed mode
  kOurs = 5,     ///< a compile error, a lost worker, a broken promise
  kInterrupted = 130,
  kBrokenPipe = 141,  ///< as if SIGPIPE had ended the program
};

/// The command line is wrong; `hint` says what may have been meant, and may be empty.
class UsageError : public Error {
 public:
  explicit UsageError(std::string_view problem, std::string_view hint = {});
};

/// The exit code of an error that ends the program.
int exit_code_of(const std::exception& error);

/// The paragraph of every verb's help: codes 0, 2 and 5 mean the same everywhere.
std::string exit_code_help(std::string_view done, std::string_view failed = {},
                           std::string_view input = {}, std::string_view machine = {});

}  // namespace ktjit::cli
