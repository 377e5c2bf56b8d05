// Checks an ELF image and hands it to the dynamic loader.
#include "runtime/shared_object.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/error.h"

namespace ktjit::runtime {
namespace {

constexpr const char* kDevice = "cpu";

/// Whether [offset, offset + size) lies in a file of `file_bytes`.
bool lies_within(std::uint64_t offset, std::uint64_t size, std::uint64_t file_bytes) {
  return offset <= file_bytes && size <= file_bytes - offset;
}

[[noreturn]] void fail(std::string_view call, int code, std::string_view reason,
                       const std::string& name) {
  throw DriverError(call, code, reason, kDevice, fmt::format("loading kernel {}", name));
}

[[noreturn]] void fail_with_errno(std::string_view call, const std::string& name) {
  const int code = errno;
  fail(call, code, std::strerror(code), name);
}

UniqueFd make_memory_file(const std::string& name) {
#ifdef MFD_EXEC  // Linux 6.3; older kernels answer EINVAL and make it executable anyway
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_EXEC);
  if (fd >= 0 || errno != EINVAL) return UniqueFd(fd);
#endif
  return UniqueFd(memfd_create(name.c_str(), MFD_CLOEXEC));
}

void write_all(const UniqueFd& file, std::span<const std::byte> bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t written = write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) fail_with_errno("write", name);
    if (written > 0) bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

/// A file that is removed by the destructor; loaded code stays.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_((std::filesystem::temp_directory_path() / "ktjit-XXXXXX").string()),
        file_(mkstemp(path_.data())) {
    if (!file_) fail_with_errno("mkstemp", name);
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }
  const UniqueFd& file() const { return file_; }

 private:
  std::string path_;
  UniqueFd file_;
};

void* open_library(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

}  // namespace

std::optional<std::string> find_elf_problem(std::span<const std::byte> bytes) {
  Elf64_Ehdr header{};
  if (bytes.size() < sizeof header)
    return fmt::format("{} bytes are too few for an ELF file", bytes.size());
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return "not an ELF file";
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
    return "not a 64-bit little-endian ELF file";
  if (header.e_machine != EM_X86_64)
    return fmt::format("ELF machine {}, expected {} (x86-64)", header.e_machine, EM_X86_64);
  if (header.e_type != ET_DYN)
    return fmt::format("ELF type {}, expected {} (shared object)", header.e_type, ET_DYN);
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
      !lies_within(header.e_phoff, std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr),
                   bytes.size())) {
    return "the ELF file's program headers are cut off";
  }
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    std::memcpy(&segment, bytes.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (!lies_within(segment.p_offset, segment.p_filesz, bytes.size()))
      return fmt::format("segment {} of the ELF file is cut off", i);
  }
  return std::nullopt;
}

SharedObject::SharedObject(std::span<const std::byte> bytes, const std::string& name)
    : name_(name) {
  if (const auto problem = find_elf_problem(bytes)) fail("ELF check", ENOEXEC, *problem, name);
  file_ = make_memory_file(name.substr(0, 200));
  if (file_) {
    write_all(file_, bytes, name);
    handle_ = open_library(fmt::format("/proc/self/fd/{}", file_.get()));
  }
  if (handle_ == nullptr) {
    const char* first_error = file_ ? dlerror() : "memory files are refused";
    const std::string reason = first_error == nullptr ? "" : first_error;
    const TemporaryFile temporary(name);
    write_all(temporary.file(), bytes, name);
    handle_ = open_library(temporary.path());
    if (handle_ == nullptr) {
      const char* error = dlerror();
      fail("dlopen", ENOEXEC, fmt::format("{}; {}", reason, error == nullptr ? "" : error), name);
    }
  }
}

SharedObject::~SharedObject() { dlclose(handle_); }

void* SharedObject::get_symbol(const std::string& symbol) const {
  void* address = dlsym(handle_, symbol.c_str());
  if (address == nullptr) fail("dlsym", ENOENT, fmt::format("no symbol '{}'", symbol), name_);
  return address;
}

void* SharedObject::find_symbol(const std::string& symbol) const noexcept {
  return dlsym(handle_, symbol.c_str());
}

}  // namespace ktjit::runtime
