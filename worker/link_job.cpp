// lld reads from a named file and writes to a named file or to standard output. Here both are
// memory files: the input is named through /proc, and the output replaces our standard output,
// because lld makes a temporary file beside a named output and renames it, which /proc refuses.
#include "worker/link_job.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <lld/Common/Driver.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/raw_ostream.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

LLD_HAS_DRIVER(elf)

namespace ktjit::worker {
namespace {

/// A file without a name that vanishes with its object.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : fd_(memfd_create(name, MFD_CLOEXEC)) {}
  ~MemoryFile() {
    if (fd_ >= 0) close(fd_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int fd() const { return fd_; }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

  bool write_all(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno != EINTR) return false;
      if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return fd_ >= 0;
  }

  bool read_all(std::string& bytes) const {
    struct stat status{};
    if (fstat(fd_, &status) != 0) return false;
    bytes.resize(static_cast<std::size_t>(status.st_size));
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t got =
          pread(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
      if (got == 0 || (got < 0 && errno != EINTR)) return false;
      if (got > 0) done += static_cast<std::size_t>(got);
    }
    return true;
  }

 private:
  int fd_;
};

/// One line for each symbol the object needs from elsewhere and may not; "" if there is none.
std::string forbidden_symbols(const Request& request, const std::string& object) {
  auto file =
      llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(object, request.file_name));
  if (!file) return "not an object file: " + llvm::toString(file.takeError()) + "\n";
  std::string lines;
  for (const llvm::object::SymbolRef& symbol : (*file)->symbols()) {
    auto flags = symbol.getFlags();
    auto name = symbol.getName();
    if (!flags || !name) {
      llvm::consumeError(flags.takeError());
      llvm::consumeError(name.takeError());
      continue;
    }
    const bool needed = (*flags & llvm::object::SymbolRef::SF_Undefined) && !name->empty();
    const auto& allowed = request.allowed_symbols;
    if (needed && std::find(allowed.begin(), allowed.end(), *name) == allowed.end()) {
      lines += "error: undefined symbol '" + name->str() +
               "': a kernel may call nothing outside its text\n";
    }
  }
  return lines;
}

}  // namespace

LinkResult run_linker(const Request& request, const std::string& object) {
  LinkResult result;
  result.job.log = forbidden_symbols(request, object);
  if (!result.job.log.empty()) return result;

  const MemoryFile input("ktjit-object");
  const MemoryFile output("ktjit-shared-object");
  if (!input.write_all(object) || dup2(output.fd(), STDOUT_FILENO) < 0) {
    result.job.log = std::string("error: no memory file for the linker: ") + std::strerror(errno);
    return result;
  }

  const std::string input_path = input.path();
  std::vector<const char*> arguments = {"ld.lld"};
  for (const std::string& argument : request.linker_arguments)
    arguments.push_back(argument.c_str());
  arguments.insert(arguments.end(), {"--threads=1", "-o", "-", input_path.c_str()});

  llvm::raw_string_ostream log(result.job.log);
  const lld::Result linked =
      lld::lldMain(arguments, llvm::nulls(), log, {{lld::Gnu, &lld::elf::link}});
  result.can_run_again = linked.canRunAgain;
  result.job.ok = linked.retCode == 0 && output.read_all(result.job.bytes);
  return result;
}

}  // namespace ktjit::worker
