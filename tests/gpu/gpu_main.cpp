// The entry point of tests that need a GPU: ends with 77, which CTest shows as "skipped", where no
// CUDA device can be opened. Listing the tests needs none.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "runtime/cuda_device.h"

namespace {

constexpr int kSkipped = 77;

std::string why_no_device() {
  std::string why_not;
  const auto api = ktjit::runtime::try_load_driver(&why_not);
  if (api == nullptr) return why_not;
  try {
    ktjit::runtime::make_cuda_device(api);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  Catch::Session session;
  const int refused = session.applyCommandLine(argc, argv);
  if (refused != 0) return refused;
  const auto& asked = session.configData();
  const bool lists = asked.listTests || asked.listTestNamesOnly || asked.listTags ||
                     asked.listReporters || asked.showHelp || asked.libIdentify;
  if (!lists) {
    const std::string reason = why_no_device();
    if (!reason.empty()) {
      std::fprintf(stderr, "not run, no CUDA device: %s\n", reason.c_str());
      return kSkipped;
    }
  }
  return session.run();
}
