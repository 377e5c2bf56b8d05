// A shared object loaded from memory: the CPU's counterpart of a GPU module.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "runtime/unique_fd.h"

namespace ktjit::runtime {

/// Why `bytes` are no whole shared object for this machine; nothing if they are. The dynamic loader
/// trusts its input: a short file would end the process.
std::optional<std::string> find_elf_problem(std::span<const std::byte> bytes);

/// Loaded code, unloaded by the destructor.
class SharedObject {
 public:
  /// Writes the bytes to a memory file and loads that, so that neither an unwritable nor a `noexec`
  /// folder matters. Where memory files are forbidden, a private file in the folder for temporary
  /// files takes its place. `name` is for messages and debuggers.
  /// Errors: DriverError if the bytes are no shared object for this machine, or the loader refuses.
  SharedObject(std::span<const std::byte> bytes, const std::string& name);
  ~SharedObject();
  SharedObject(const SharedObject&) = delete;
  SharedObject& operator=(const SharedObject&) = delete;

  /// Errors: DriverError if there is no such symbol.
  void* get_symbol(const std::string& symbol) const;
  /// Null if there is no such symbol.
  void* find_symbol(const std::string& symbol) const noexcept;

 private:
  std::string name_;
  /// Kept open while loaded: the loader knows libraries by path, and "/proc/self/fd/7" must not
  /// come to mean another one.
  UniqueFd file_;
  void* handle_ = nullptr;
};

}  // namespace ktjit::runtime
