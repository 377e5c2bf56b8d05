#include "jit/disassembler.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include "core/error.h"
#include "model/output_file.h"

extern char** environ;  // handed on to nvdisasm unread

namespace ktjit {
namespace {

/// A file that lives as long as this object.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::span<const std::byte> bytes) {
    path_ = (std::filesystem::temp_directory_path() / "ktjit-XXXXXX").string();
    const int fd = ::mkstemp(path_.data());
    if (fd < 0) throw model::OutputError(path_, "cannot be made");
    const bool written = write_all(fd, bytes);
    ::close(fd);
    if (written) return;
    ::unlink(path_.c_str());
    throw model::OutputError(path_, "cannot be written");
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  static bool write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return true;
  }

  std::string path_;
};

/// What to start: a path, or a bare name that is looked for on the PATH.
std::vector<std::filesystem::path> candidates(const Options& options) {
  if (!options.disassembler.empty()) return {options.disassembler};
  std::vector<std::filesystem::path> programs = {"nvdisasm"};
  if (!options.python_environment.empty()) {
    programs.push_back(options.python_environment / "bin/nvdisasm");
    std::vector<std::filesystem::path> found;
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(options.python_environment / "lib", error)) {
      if (!entry.path().filename().string().starts_with("python3")) continue;
      found.push_back(entry.path() / "site-packages/triton/backends/nvidia/bin/nvdisasm");
    }
    std::sort(found.begin(), found.end());
    programs.insert(programs.end(), found.begin(), found.end());
  }
  const std::filesystem::path usual = "/usr/local/cuda";
  if (!options.cuda_home.empty()) programs.push_back(options.cuda_home / "bin/nvdisasm");
  if (options.cuda_home != usual) programs.push_back(usual / "bin/nvdisasm");
  return programs;
}

struct Outcome {
  int start_error = 0;  ///< errno if the program could not be started
  int status = 0;       ///< as waitpid gives it
  std::string text;     ///< what it wrote to standard output
  std::string chatter;  ///< and to standard error: warnings, or why it failed
};

std::string read_to_end(int fd) {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

Outcome run_program(const std::string& program, std::string option, std::string path = "") {
  Outcome outcome;
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    outcome.start_error = errno;
    return outcome;
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  const int chatter = ::memfd_create("chatter", MFD_CLOEXEC);
  posix_spawn_file_actions_adddup2(&actions, chatter, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

  std::string name = program;
  const std::array<char*, 4> arguments = {name.data(), option.data(),
                                          path.empty() ? nullptr : path.data(), nullptr};
  pid_t pid = -1;
  outcome.start_error =
      ::posix_spawnp(&pid, program.c_str(), &actions, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  ::close(ends[1]);
  if (outcome.start_error == 0) {
    outcome.text = read_to_end(ends[0]);
    while (::waitpid(pid, &outcome.status, 0) < 0 && errno == EINTR) {
    }
  }
  ::close(ends[0]);
  if (chatter >= 0) {
    ::lseek(chatter, 0, SEEK_SET);
    outcome.chatter = read_to_end(chatter);
    ::close(chatter);
  }
  return outcome;
}

}  // namespace

std::string find_disassembler(const Options& options) {
  std::string looked_in;
  for (const std::filesystem::path& program : candidates(options)) {
    if (run_program(program.string(), "--version").start_error == 0) return program.string();
    const std::string place = program.has_parent_path() ? program.string() : "the PATH";
    looked_in += fmt::format("{}{}", looked_in.empty() ? "" : ", ", place);
  }
  throw ToolchainError("nvdisasm, which prints machine code, was not found", looked_in,
                       "install the CUDA toolkit or Triton's Python wheel, or set KTJIT_NVDISASM");
}

std::string disassemble(const Options& options, std::span<const std::byte> cubin) {
  const TemporaryFile file(cubin);
  std::string refused_by, why;
  for (const std::filesystem::path& program : candidates(options)) {
    // The option leaves out the sections that hold no code.
    const Outcome outcome = run_program(program.string(), "--print-code", file.path());
    if (outcome.start_error != 0) continue;
    if (WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0) return outcome.text;
    if (refused_by.empty()) {  // another version may know the architecture
      refused_by = program.string();
      why = outcome.chatter;
    }
  }
  if (refused_by.empty()) find_disassembler(options);  // throws: there is none
  throw ToolchainError(fmt::format("nvdisasm refused the code: {}", why), refused_by,
                       "take one at least as new as the compiler, and for GPUs below sm_75 one of "
                       "CUDA 12 (KTJIT_NVDISASM names it)");
}

}  // namespace ktjit
