// The compilers and the disassembler of this machine, as tests of emitted code use them.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/kernel_spec.h"
#include "jit/toolchain.h"

namespace ktjit::test {

/// Says that a test was not run, in the words that CTest shows as "skipped" (see CMakeLists.txt). The
/// caller returns at once: nothing may have been checked before.
void skip_test(std::string_view reason);

/// What this machine has; nothing is cached.
Toolchain make_toolchain();

/// The compiler of that name ("NVRTC 13.0"), or nullptr.
Compiler* find_compiler(Toolchain& toolchain, std::string_view name);

/// True, and the test skipped, if nvdisasm is not to be had.
bool lacks_disassembler(const Toolchain& toolchain);

/// True, and the test skipped, unless KTJIT_EXHAUSTIVE is set: tests of many minutes.
bool lacks_permission_for_exhaustive_tests();

/// The value of an environment variable that tests know, empty if it is not set.
std::string test_setting(const char* name);

/// Calls `work(i)` for all i < count on as many threads as the process may use. `work` throws nothing.
void for_each_in_parallel(std::size_t count, const std::function<void(std::size_t)>& work);

}  // namespace ktjit::test
