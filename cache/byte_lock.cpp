#include "cache/byte_lock.h"

#include <algorithm>
#include <mutex>
#include <pthread.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace ktjit::cache {
namespace {

constexpr int kUnusedDigestBits = 3;  // 61 bits, so that twice the number is an offset in a file

// Descriptors with locks of this process. A forked child closes its copies at once: else a lock
// would outlive the parent for as long as the child runs. Never destroyed, since caches may be
// destroyed after any static.
struct OpenLocks {
  std::mutex mutex;
  std::vector<int> descriptors;
};

OpenLocks& open_locks() {
  static OpenLocks& locks = *[] {
    auto* made = new OpenLocks;
    ::pthread_atfork([] { open_locks().mutex.lock(); }, [] { open_locks().mutex.unlock(); },
                     [] {
                       for (const int descriptor : open_locks().descriptors) ::close(descriptor);
                       open_locks().descriptors.clear();
                       open_locks().mutex.unlock();
                     });
    return made;
  }();
  return locks;
}

void add_open_lock(int descriptor) {
  OpenLocks& locks = open_locks();
  const std::lock_guard guard(locks.mutex);
  locks.descriptors.push_back(descriptor);
}

void remove_open_lock(int descriptor) {
  OpenLocks& locks = open_locks();
  const std::lock_guard guard(locks.mutex);
  std::erase(locks.descriptors, descriptor);
}

}  // namespace

std::uint64_t make_lock_byte(const Digest& artifact) {
  return (artifact.high >> kUnusedDigestBits) * 2;
}

std::uint64_t use_lock_byte(const Digest& artifact) { return make_lock_byte(artifact) + 1; }

LockHandle::LockHandle(FileSystem& files, FileHandle file)
    : files_(&files), file_(std::move(file)), process_(::getpid()) {
  add_open_lock(file_.descriptor());
}

LockHandle::LockHandle(LockHandle&& other) noexcept = default;

LockHandle& LockHandle::operator=(LockHandle&& other) noexcept {
  std::swap(files_, other.files_);
  std::swap(file_, other.file_);
  std::swap(process_, other.process_);
  return *this;
}

LockHandle::~LockHandle() {
  if (file_.descriptor() < 0) return;
  if (is_of_this_process()) {
    remove_open_lock(file_.descriptor());
  } else {
    file_.release();  // closed by the fork; the number may be another file by now
  }
}

bool LockHandle::is_of_this_process() const { return process_ == ::getpid(); }

bool LockHandle::try_lock(std::uint64_t byte, LockKind kind) {
  return files_->try_lock(file_, byte, 1, kind);
}

void LockHandle::unlock(std::uint64_t byte) { files_->unlock(file_, byte, 1); }

void HeldLock::release() noexcept {
  if (!handle_) return;
  try {
    // Closing would do, unless a child that is between fork and exec has a copy.
    if (handle_->is_of_this_process()) handle_->unlock(byte_);
  } catch (const FileError&) {
    // Then closing has to do.
  }
  handle_.reset();
}

}  // namespace ktjit::cache
