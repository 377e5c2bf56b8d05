#include "cache/use_locks.h"

namespace ktjit::cache {

// True with `handle_` open and all of `bytes_` locked by it.
bool UseLocks::open() {
  if (handle_ && handle_->is_of_this_process()) return true;
  handle_.reset();
  const auto folder = root_.open();
  if (!folder) return false;
  const auto layout = root_.open_layout(*folder);
  if (!layout) return false;
  auto file = root_.try_open_lock_file(*layout);
  if (!file) return false;
  handle_.emplace(root_.files(), std::move(*file));
  for (const std::uint64_t byte : bytes_) handle_->try_lock(byte, LockKind::kShared);
  return true;
}

void UseLocks::add(const Digest& artifact) {
  const std::uint64_t byte = use_lock_byte(artifact);
  const std::lock_guard guard(mutex_);
  const bool is_held = bytes_.contains(byte) && handle_ && handle_->is_of_this_process();
  if (is_held || !open()) return;
  if (handle_->try_lock(byte, LockKind::kShared)) bytes_.insert(byte);
}

bool UseLocks::release() noexcept {
  const std::lock_guard guard(mutex_);
  const bool had_some = !bytes_.empty();
  handle_.reset();  // no other process has a descriptor of it: LockHandle sees to that
  bytes_.clear();
  return had_some;
}

}  // namespace ktjit::cache
