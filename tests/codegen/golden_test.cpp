// Emitted text is pinned, so that every change of it is seen in review.
#include <catch2/catch.hpp>
#include <filesystem>
#include <set>

#include "codegen/emitter.h"
#include "tests/support/golden_text.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {

TEST_CASE("emitted text equals its golden file") {
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    const auto difference =
        test::difference_from_golden(kernel.path, codegen::emit(kernel.spec).source);
    INFO(difference.value_or(""));
    CHECK(!difference.has_value());
  }
}

TEST_CASE("every golden file belongs to a case") {
  std::set<std::string> known;
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    INFO(kernel.path);
    CHECK(known.insert(kernel.path).second);
  }
  const std::filesystem::path folder = std::filesystem::path(KTJIT_SOURCE_DIR) / "tests" / "golden";
  std::size_t files = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
    if (!file.is_regular_file()) continue;
    INFO(file.path());
    CHECK(known.contains(std::filesystem::relative(file.path(), folder).generic_string()));
    ++files;
  }
  CHECK(files == known.size());
}

}  // namespace ktjit
