// Starting, asking and ending a worker process.
#include "jit/worker_process.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

#include "core/error.h"

namespace ktjit {
namespace {

using runtime::UniqueFd;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kStartTimeout{30};  // it takes 10 ms; a loaded disk may need longer
// A worker whose socket is closed ends at once; past this it is ended by force.
constexpr std::chrono::seconds kEndTimeout{2};

/// Not one of 0, 1, 2, which an application may have closed and the child is given anew.
UniqueFd above_standard(UniqueFd fd) {
  constexpr int kFirst = 3;
  if (!fd || fd.get() >= kFirst) return fd;
  return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirst));
}

class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&value_); }
  ~SpawnActions() { posix_spawn_file_actions_destroy(&value_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  posix_spawn_file_actions_t* get() { return &value_; }

 private:
  posix_spawn_file_actions_t value_;
};

class SpawnAttributes {
 public:
  SpawnAttributes() { posix_spawnattr_init(&value_); }
  ~SpawnAttributes() { posix_spawnattr_destroy(&value_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  posix_spawnattr_t* get() { return &value_; }

 private:
  posix_spawnattr_t value_;
};

[[noreturn]] void fail_to_start(const std::filesystem::path& program, std::string_view reason) {
  throw ToolchainError(fmt::format("the compiler worker ktjit-llvm does not start: {}", reason),
                       program.string(), "install ktjit again, or pass the path of its worker");
}

}  // namespace

WorkerProcess::WorkerProcess(const std::filesystem::path& program) : owner_(getpid()) {
  start(program);
  try {
    greet(program);
  } catch (...) {
    end();
    throw;
  }
}

WorkerProcess::~WorkerProcess() {
  if (is_ours()) end();
}

bool WorkerProcess::is_ours() const { return owner_ == getpid(); }

bool WorkerProcess::is_usable() const {
  pollfd entry{socket_.get(), POLLIN | POLLRDHUP, 0};  // a worker in order has nothing to say now
  return running_ && is_ours() && poll(&entry, 1, 0) == 0;
}

void WorkerProcess::start(const std::filesystem::path& program) {
  std::array<int, 2> pair{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    fail_to_start(program, std::strerror(errno));
  socket_ = UniqueFd(pair[0]);
  const UniqueFd child_socket = above_standard(UniqueFd(pair[1]));
  chatter_ = above_standard(UniqueFd(memfd_create("ktjit-llvm-stderr", MFD_CLOEXEC)));
  if (!child_socket || !chatter_) fail_to_start(program, std::strerror(errno));
  fcntl(chatter_.get(), F_SETFL, O_APPEND);

  SpawnActions actions;
  posix_spawn_file_actions_adddup2(actions.get(), child_socket.get(), STDIN_FILENO);
  posix_spawn_file_actions_addopen(actions.get(), STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(actions.get(), chatter_.get(), STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(actions.get(), STDERR_FILENO + 1);

  SpawnAttributes attributes;
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(attributes.get(), &none);
  posix_spawnattr_setsigdefault(attributes.get(), &all);
  posix_spawnattr_setpgroup(attributes.get(), 0);
  posix_spawnattr_setflags(attributes.get(),
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::string name = "ktjit-llvm";
  std::string option = "--serve";
  std::array<char*, 3> arguments = {name.data(), option.data(), nullptr};
  std::array<char*, 1> environment = {nullptr};
  const int code = posix_spawn(&pid_, program.c_str(), actions.get(), attributes.get(),
                               arguments.data(), environment.data());
  if (code != 0) fail_to_start(program, std::strerror(code));
  running_ = true;
}

void WorkerProcess::greet(const std::filesystem::path& program) {
  worker::Frame frame;
  const auto status = worker::read_frame(socket_.get(), frame, steady_clock::now() + kStartTimeout);
  if (status == worker::FrameStatus::kTimedOut) fail_to_start(program, "no answer");
  if (status == worker::FrameStatus::kClosed)
    fail_to_start(program, fmt::format("{} {}", end(), take_chatter()));
  const auto hello = status == worker::FrameStatus::kOk && frame.type == worker::MessageType::kHello
                         ? worker::decode_hello(frame.payload)
                         : std::nullopt;
  if (!hello) fail_to_start(program, "it is some other program");
  if (hello->protocol_version != worker::kProtocolVersion) {
    fail_to_start(program, fmt::format("it speaks protocol version {}, this library version {}",
                                       hello->protocol_version, worker::kProtocolVersion));
  }
  llvm_version_ = hello->llvm_version;
}

WorkerProcess::Answer WorkerProcess::ask(const worker::Request& request,
                                         std::chrono::milliseconds timeout,
                                         const std::stop_token& stop) {
  Answer answer;
  const auto deadline = steady_clock::now() + timeout;
  worker::Frame frame;
  auto status = worker::FrameStatus::kClosed;
  {
    // Wakes the read below, and the worker ends when it sees the hang-up. No kill from here: this
    // may run on another thread, when the process id is no longer the worker's.
    const std::stop_callback hang_up(stop, [this] { ::shutdown(socket_.get(), SHUT_RDWR); });
    status = worker::write_frame(
        socket_.get(), {worker::MessageType::kRequest, worker::encode(request)}, deadline);
    if (status == worker::FrameStatus::kOk)
      status = worker::read_frame(socket_.get(), frame, deadline);
  }
  if (status == worker::FrameStatus::kOk && frame.type == worker::MessageType::kResponse)
    answer.response = worker::decode_response(frame.payload);
  if (answer.response && answer.response->id != request.id) answer.response.reset();

  if (!answer.response) {
    if (status == worker::FrameStatus::kTimedOut) {
      kill(pid_, SIGKILL);
      end();
      answer.loss =
          fmt::format("the worker gave no answer within {} ms and was ended", timeout.count());
    } else {
      if (status != worker::FrameStatus::kClosed || stop.stop_requested()) kill(pid_, SIGKILL);
      const std::string how = end();
      answer.loss = status == worker::FrameStatus::kClosed
                        ? how
                        : "the worker's answer was damaged, and it was ended";
    }
  }
  answer.chatter = take_chatter();
  return answer;
}

std::string WorkerProcess::end() {
  socket_.reset();
  if (!running_) return "the worker is not running";
  int status = 0;
  pid_t reaped = 0;
  const auto give_up = steady_clock::now() + kEndTimeout;
  while ((reaped = waitpid(pid_, &status, WNOHANG)) == 0) {
    if (steady_clock::now() > give_up) kill(pid_, SIGKILL);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  running_ = false;
  if (reaped < 0) return "the worker ended";  // the application ignores SIGCHLD
  if (WIFSIGNALED(status)) {
    return fmt::format("the worker died by signal {} ({})", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
  }
  return fmt::format("the worker ended with status {}", WEXITSTATUS(status));
}

std::string WorkerProcess::take_chatter() {
  struct stat status{};
  std::string text;
  if (fstat(chatter_.get(), &status) != 0 || status.st_size == 0) return text;
  text.resize(static_cast<std::size_t>(status.st_size));
  const ssize_t got = pread(chatter_.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (ftruncate(chatter_.get(), 0) != 0) text += "\n(the log could not be emptied)";
  return text;
}

}  // namespace ktjit
