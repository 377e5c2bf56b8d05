// The entry point of tests that take minutes: ends with 77, which CTest shows as "skipped", unless they are
// asked for. Listing the tests needs nothing.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

constexpr int kSkipped = 77;

bool is_asked_for() {
  const char* value = std::getenv("KTJIT_EXHAUSTIVE");
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace

int main(int argc, char** argv) {
  Catch::Session session;
  const int refused = session.applyCommandLine(argc, argv);
  if (refused != 0) return refused;
  const auto& asked = session.configData();
  const bool lists = asked.listTests || asked.listTestNamesOnly || asked.listTags ||
                     asked.listReporters || asked.showHelp || asked.libIdentify;
  if (!lists && !is_asked_for()) {
    std::fprintf(stderr, "not run: takes minutes; asked for by KTJIT_EXHAUSTIVE=1\n");
    return kSkipped;
  }
  return session.run();
}
