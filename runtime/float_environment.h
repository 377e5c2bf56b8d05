// The floating-point modes that kernels rely on, for the time they run.
#pragma once

#include <xmmintrin.h>

namespace ktjit::runtime {

/// Sets the calling thread's MXCSR to its default: subnormals kept (no FTZ, no DAZ), rounding to
/// nearest even, no traps. The destructor restores what was there, flags included.
class ScopedFloatEnvironment {
 public:
  ScopedFloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(kDefaultMxcsr); }
  ~ScopedFloatEnvironment() { _mm_setcsr(saved_); }
  ScopedFloatEnvironment(const ScopedFloatEnvironment&) = delete;
  ScopedFloatEnvironment& operator=(const ScopedFloatEnvironment&) = delete;

 private:
  static constexpr unsigned kDefaultMxcsr = 0x1f80;  // Intel SDM volume 1, section 10.2.3

  unsigned saved_;
};

}  // namespace ktjit::runtime
