// One running ktjit-llvm: started, asked, ended. Which text to send is LlvmCompiler's business.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <sys/types.h>

#include "jit/worker_protocol.h"
#include "runtime/unique_fd.h"

namespace ktjit {

/// A child process, ended and reaped by the destructor.
///
/// Threads: one thread at a time.
class WorkerProcess {
 public:
  /// Starts `program` and waits for its hello. The child has its own process group, so that Ctrl-C
  /// is the application's to handle; it inherits no open file, no environment, and default signals.
  /// Errors: ToolchainError if it doesn't start or speaks another protocol version.
  explicit WorkerProcess(const std::filesystem::path& program);
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  /// Also after it has ended.
  pid_t pid() const { return pid_; }
  const std::string& llvm_version() const { return llvm_version_; }

  struct Answer {
    std::optional<worker::Response> response;  ///< nothing: the worker is lost, don't use it again
    std::string loss;     ///< without a response: "the worker died by signal 9 (Killed)"
    std::string chatter;  ///< what LLVM wrote to the standard error output meanwhile
  };

  /// Sends a request and waits for the answer. A request of `stop` ends the worker.
  Answer ask(const worker::Request& request, std::chrono::milliseconds timeout,
             const std::stop_token& stop = {});

  /// Whether it can be asked: it has not died meanwhile, and this process is the one that started
  /// it (a fork shares the socket and must not use it).
  bool is_usable() const;

 private:
  bool is_ours() const;
  void start(const std::filesystem::path& program);
  void greet(const std::filesystem::path& program);
  /// Reaps the child, ended by force if it lives on. In words, how it ended.
  std::string end();
  std::string take_chatter();

  pid_t owner_;
  pid_t pid_ = -1;
  bool running_ = false;
  runtime::UniqueFd socket_;
  runtime::UniqueFd chatter_;  ///< memory file that is the child's standard error output
  std::string llvm_version_;
};

}  // namespace ktjit
