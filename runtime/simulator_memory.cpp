// A list of buffers, in host memory.
#include "runtime/simulator_memory.h"

#include <algorithm>
#include <cstring>
#include <stdlib.h>

#include "core/error.h"

namespace ktjit::runtime::simulator {
namespace {

constexpr std::size_t kAlignment = 256;
// Between two buffers, so that a step too far doesn't land in the next one.
constexpr std::size_t kGapBytes = 4096;
constexpr std::size_t kFreedKept = 1024;

}  // namespace

std::uint64_t Memory::allocate(std::uint64_t bytes) {
  void* data = nullptr;
  const int code = posix_memalign(&data, kAlignment, bytes + kGapBytes);
  if (code != 0)
    throw DriverError("posix_memalign", code, std::strerror(code), "sim",
                      "allocating " + std::to_string(bytes) + " bytes");
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const std::scoped_lock lock(mutex_);
  live_[begin] = bytes;
  return begin;
}

void Memory::free(std::uint64_t begin) {
  {
    const std::scoped_lock lock(mutex_);
    const auto found = live_.find(begin);
    KTJIT_CHECK(found != live_.end());
    freed_.push_back({begin, found->second});
    if (freed_.size() > kFreedKept) freed_.pop_front();
    live_.erase(found);
  }
  ::free(reinterpret_cast<void*>(begin));
}

std::vector<MemoryRange> Memory::live() const {
  const std::scoped_lock lock(mutex_);
  std::vector<MemoryRange> ranges;
  for (const auto& [begin, bytes] : live_) ranges.push_back({begin, bytes});
  return ranges;
}

std::optional<MemoryRange> Memory::find(std::uint64_t address) const {
  const std::scoped_lock lock(mutex_);
  auto after = live_.upper_bound(address);
  if (after == live_.begin()) return std::nullopt;
  const auto& [begin, bytes] = *std::prev(after);
  if (address - begin >= std::max<std::uint64_t>(bytes, 1)) return std::nullopt;
  return MemoryRange{begin, bytes};
}

std::optional<MemoryRange> Memory::find_freed(std::uint64_t address) const {
  if (find(address)) return std::nullopt;
  const std::scoped_lock lock(mutex_);
  const auto found = std::find_if(freed_.rbegin(), freed_.rend(), [&](const MemoryRange& range) {
    return address >= range.begin &&
           address - range.begin < std::max<std::uint64_t>(range.bytes, 1);
  });
  return found == freed_.rend() ? std::nullopt : std::optional(*found);
}

}  // namespace ktjit::runtime::simulator
