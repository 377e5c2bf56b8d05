// Starts a program without a shell and collects what it says.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <sys/types.h>
#include <vector>

namespace ktjit::test {

struct ProcessResult {
  int exit_code = -1;  ///< 128 + the signal, if one ended it
  std::string out;
  std::string err;
};

/// Runs `command`, whose first item is the program's path, with standard input empty.
///
/// `environment` is all of it. `when_started` gets the process id of the running child.
/// Errors: InternalError if it can't be started; a child that outlives `timeout` is killed.
ProcessResult run_process(const std::vector<std::string>& command,
                          const std::map<std::string, std::string>& environment,
                          const std::function<void(pid_t)>& when_started = {},
                          std::chrono::seconds timeout = std::chrono::seconds(300));

/// This process's own environment.
std::map<std::string, std::string> current_environment();

}  // namespace ktjit::test
