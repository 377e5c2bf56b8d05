// Processes that start at one moment, and a file in which they count what they did.
#pragma once

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <functional>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "core/error.h"
#include "tests/cache/cache_fixture.h"

namespace ktjit::cache::test {

/// Children of this process. Each waits at a barrier until `start`. Those that nobody waited for are
/// killed at the end.
class Fleet {
 public:
  Fleet() {
    if (::pipe(gate_) != 0) throw Error("no pipe");
  }
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;
  ~Fleet() {
    start();
    for (const pid_t child : children_) {
      if (child <= 0) continue;
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    ::close(gate_[0]);
  }

  /// A child that does `work` after the start; it succeeds if that returns true.
  std::size_t add(const std::function<bool()>& work) {
    const pid_t child = ::fork();
    if (child < 0) throw Error("no process");
    if (child == 0) {
      ::close(gate_[1]);
      char byte;
      while (::read(gate_[0], &byte, 1) == -1 && errno == EINTR) {
      }
      bool done = false;
      try {
        done = work();
      } catch (...) {
      }
      ::_exit(done ? 0 : 1);
    }
    children_.push_back(child);
    return children_.size() - 1;
  }

  /// Opens the barrier: all children read the end of the pipe.
  void start() {
    if (gate_[1] >= 0) ::close(gate_[1]);
    gate_[1] = -1;
  }

  void kill(std::size_t child) { ::kill(children_[child], SIGKILL); }

  /// Waits for the child; true if it succeeded.
  bool succeeded(std::size_t child) {
    int status = 0;
    const pid_t ended = ::waitpid(children_[child], &status, 0);
    children_[child] = -1;
    return ended > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  std::size_t count_succeeded() {
    std::size_t count = 0;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      if (children_[i] > 0 && succeeded(i)) ++count;
    }
    return count;
  }

 private:
  int gate_[2] = {-1, -1};
  std::vector<pid_t> children_;
};

/// One character for each event, of any process: appended, so that no two overwrite each other.
class Tally {
 public:
  explicit Tally(std::filesystem::path path) : path_(std::move(path)) {}

  void add(char event) const {
    const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0 || ::write(file, &event, 1) != 1) throw Error("no tally");
    ::close(file);
  }
  std::string events() const { return read_file(path_); }
  std::size_t count(char event) const {
    const std::string all = events();
    return static_cast<std::size_t>(std::count(all.begin(), all.end(), event));
  }
  /// Returns when there are this many events, or throws after a minute.
  void wait_for(std::size_t events_wanted) const {
    for (int tries = 0; events().size() < events_wanted; ++tries) {
      if (tries > 60000) throw Error("an event did not come");
      ::usleep(1000);
    }
  }

 private:
  std::filesystem::path path_;
};

}  // namespace ktjit::cache::test
