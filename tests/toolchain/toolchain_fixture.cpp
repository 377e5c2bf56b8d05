#include "tests/toolchain/toolchain_fixture.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "core/error.h"
#include "jit/disassembler.h"
#include "runtime/host_limits.h"

namespace ktjit::test {

void skip_test(std::string_view reason) {
  SUCCEED();  // Catch2 wants an assertion; CTest goes by the line below
  std::printf("test skipped: %.*s\n", static_cast<int>(reason.size()), reason.data());
}

Toolchain make_toolchain() {
  Options options;
  options.cache_enabled = false;
  options.worker = KTJIT_WORKER_PATH;
  return Toolchain(options, [](std::string_view) {});
}

Compiler* find_compiler(Toolchain& toolchain, std::string_view name) {
  for (const auto& compiler : toolchain.engine().compilers()) {
    if (compiler->name() == name) return compiler.get();
  }
  return nullptr;
}

bool lacks_disassembler(const Toolchain& toolchain) {
  try {
    find_disassembler(toolchain.options());
    return false;
  } catch (const ToolchainError& error) {
    skip_test(error.what());
    return true;
  }
}

bool lacks_permission_for_exhaustive_tests() {
  if (!test_setting("KTJIT_EXHAUSTIVE").empty()) return false;
  skip_test("takes many minutes; KTJIT_EXHAUSTIVE=1 runs it");
  return true;
}

std::string test_setting(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

void for_each_in_parallel(std::size_t count, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < runtime::usable_threads(); ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = next++; i < count; i = next++) work(i);
    });
  }
}

}  // namespace ktjit::test
