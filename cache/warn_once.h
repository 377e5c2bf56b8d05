// Trouble with the cache is reported once: a full disk would otherwise say so for every kernel.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

namespace ktjit::cache {

/// Receives one warning. Must not throw. Empty: warnings are dropped.
using LogHook = std::function<void(std::string_view)>;

/// Threads: safe to call from several threads; so must the hook be.
class WarnOnce {
 public:
  explicit WarnOnce(LogHook hook) : hook_(std::move(hook)) {}

  /// Passes `message` on, unless there was a warning for the same `reason` before.
  void warn(const std::string& reason, std::string_view message);

 private:
  LogHook hook_;
  std::mutex mutex_;
  std::set<std::string> warned_;
};

}  // namespace ktjit::cache
