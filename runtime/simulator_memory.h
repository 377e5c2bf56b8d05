// The simulator's device memory: which addresses are buffers, and which were.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

namespace ktjit::runtime::simulator {

struct MemoryRange {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;

  bool holds(std::uint64_t address, std::uint64_t count) const {
    return address - begin <= bytes && count <= bytes - (address - begin);
  }
};

/// Threads: all members may be called from several threads.
class Memory {
 public:
  /// Host memory, aligned to 256 bytes and registered with its exact size.
  /// Errors: DriverError if memory is short.
  std::uint64_t allocate(std::uint64_t bytes);
  void free(std::uint64_t begin);

  /// All buffers, by address.
  std::vector<MemoryRange> live() const;
  /// The buffer that a pointer is into.
  std::optional<MemoryRange> find(std::uint64_t address) const;
  /// A freed buffer at whose place no other is, among the last ones freed.
  std::optional<MemoryRange> find_freed(std::uint64_t address) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> live_;  ///< begin, bytes
  std::deque<MemoryRange> freed_;                ///< newest last
};

}  // namespace ktjit::runtime::simulator
