#include "cache/warn_once.h"

namespace ktjit::cache {

void WarnOnce::warn(const std::string& reason, std::string_view message) {
  {
    const std::lock_guard lock(mutex_);
    if (!warned_.insert(reason).second) return;
  }
  if (hook_) hook_(message);
}

}  // namespace ktjit::cache
