// Locks between threads and processes that share a root: one byte each of the file `v1/lock`
// (FORMAT.md), so there is nothing to clean up when a holder dies.
#pragma once

#include <cstdint>
#include <optional>
#include <sys/types.h>

#include "cache/digest.h"
#include "cache/file_system.h"

namespace ktjit::cache {

/// Held by who makes the entry: exclusive.
std::uint64_t make_lock_byte(const Digest& artifact);
/// Held by every process that has the entry loaded: shared. An evictor needs it exclusively.
std::uint64_t use_lock_byte(const Digest& artifact);
/// Held by the one process that evicts.
inline constexpr std::uint64_t kSweepLockByte = std::uint64_t{1} << 62;
/// Held by who rewrites the ledger.
inline constexpr std::uint64_t kLedgerLockByte = kSweepLockByte + 1;

/// The lock file, open and to be locked byte by byte. The locks end with this value, or with the
/// process. A forked child has none of them: its copy of the descriptor is closed by the fork.
///
/// Errors:  FileError.
/// Threads: one at a time.
class LockHandle {
 public:
  LockHandle(FileSystem& files, FileHandle file);
  LockHandle(LockHandle&& other) noexcept;
  LockHandle& operator=(LockHandle&& other) noexcept;
  ~LockHandle();

  /// False if somebody else's lock is in the way.
  bool try_lock(std::uint64_t byte, LockKind kind);
  void unlock(std::uint64_t byte);

  /// False in a forked child: make another one.
  bool is_of_this_process() const;

  const FileHandle& file() const { return file_; }

 private:
  FileSystem* files_;
  FileHandle file_;
  pid_t process_;
};

/// One exclusive lock, released at the end of its life. Empty: no lock.
class HeldLock {
 public:
  HeldLock() = default;
  /// Takes over what `handle.try_lock(byte, kExclusive)` got.
  HeldLock(LockHandle handle, std::uint64_t byte) : handle_(std::move(handle)), byte_(byte) {}
  HeldLock(HeldLock&&) noexcept = default;
  HeldLock& operator=(HeldLock&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(byte_, other.byte_);
    return *this;
  }
  ~HeldLock() { release(); }

  explicit operator bool() const { return handle_.has_value(); }
  /// For further bytes of the same file. REQUIRES: not empty.
  LockHandle& handle() { return *handle_; }
  void release() noexcept;

 private:
  std::optional<LockHandle> handle_;
  std::uint64_t byte_ = 0;
};

}  // namespace ktjit::cache
