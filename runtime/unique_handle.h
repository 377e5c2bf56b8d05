// One move-only owner for every driver, NVRTC and library handle.
#pragma once

#include <utility>

namespace ktjit::runtime {

/// Owns `handle` and calls `release(handle)`, which must not throw, unless the handle is null.
template <class Handle, class Release>
class UniqueHandle {
 public:
  UniqueHandle() = default;
  explicit UniqueHandle(Handle handle) : handle_(handle) {}
  UniqueHandle(Handle handle, Release release) : handle_(handle), release_(std::move(release)) {}
  UniqueHandle(UniqueHandle&& other) noexcept
      : handle_(std::exchange(other.handle_, Handle{})), release_(other.release_) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, Handle{});
      release_ = other.release_;
    }
    return *this;
  }
  ~UniqueHandle() { reset(); }

  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != Handle{}; }
  void reset() noexcept {
    if (handle_ != Handle{}) release_(std::exchange(handle_, Handle{}));
  }

 private:
  Handle handle_{};
  [[no_unique_address]] Release release_{};
};

}  // namespace ktjit::runtime
