// Substitution by name, nothing left over on either side.
#include "codegen/source_writer.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ktjit::codegen {

TEST_CASE("placeholders are replaced by name, as often as they appear") {
  CHECK(fill_template("${a}-${b}-${a}", {{"a", "1"}, {"b", "${a}"}}) == "1-${a}-1");
  CHECK(fill_template("plain $ text {a}", {}) == "plain $ text {a}");
  CHECK(fill_template("", {}).empty());
}

TEST_CASE("a placeholder without a value is an error") {
  CHECK_THROWS_AS(fill_template("${a}", {}), InternalError);
  CHECK_THROWS_AS(fill_template("${a", {{"a", "1"}}), InternalError);
}

TEST_CASE("a value without a placeholder is an error") {
  CHECK_THROWS_AS(fill_template("${a}", {{"a", "1"}, {"b", "2"}}), InternalError);
}

}  // namespace ktjit::codegen
