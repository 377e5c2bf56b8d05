// The grid of a launch, and names of artefact kinds.
#include "core/artifact.h"

#include <catch2/catch.hpp>
#include <limits>
#include <set>

#include "core/error.h"

namespace ktjit {
namespace {

TEST_CASE("a grid covers all rows and no CTA is empty") {
  const LaunchShape shape{.rows_per_cta = 4, .column_tiles = 3, .threads = 128, .smem_bytes = 512};
  for (std::int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 1000003}) {
    INFO(rows);
    const LaunchGrid grid = grid_for(shape, rows);
    CHECK(grid.x % 3 == 0);
    CHECK(grid.x / 3 * shape.rows_per_cta >= rows);
    CHECK((grid.x / 3 - 1) * shape.rows_per_cta < rows);
    CHECK(grid.y == 1);
    CHECK(grid.threads == 128);
    CHECK(grid.smem_bytes == 512);
  }
}

TEST_CASE(
    "a persistent grid has as many CTAs as multiprocessors are given, in all of its rows, and one "
    "at least") {
  LaunchShape shape{.rows_per_cta = 16, .x_rows_per_cta = 1};
  CHECK(grid_for(shape, 1600, 8).limited_x(10) == 100);
  shape.ctas_per_multiprocessor = 2;
  CHECK(grid_for(shape, 1600).limited_x(10) == 20);
  CHECK(grid_for(shape, 16).limited_x(10) == 1);
  const LaunchGrid slots = grid_for(shape, 1600, 8);
  CHECK(slots.y == 8);
  CHECK(slots.limited_x(10) == 2);
  CHECK(grid_for(shape, 1600, 64).limited_x(10) == 1);
}

TEST_CASE("row counts that no grid serves are refused") {
  const LaunchShape one{.rows_per_cta = 1};
  const LaunchShape four{.rows_per_cta = 4};
  CHECK_THROWS_WITH(grid_for(one, 0), "rows is 0, allowed: 1 to 2147483647 x 1");
  CHECK_THROWS_AS(grid_for(one, -1), SpecError);
  CHECK_THROWS_AS(grid_for(one, std::numeric_limits<std::int64_t>::min()), SpecError);
  CHECK(grid_for(one, 2147483647).x == 2147483647u);
  CHECK_THROWS_AS(grid_for(one, 2147483648), SpecError);
  CHECK(grid_for(four, 4 * std::int64_t{2147483647}).x == 2147483647u);
  CHECK_THROWS_WITH(grid_for(four, 4 * std::int64_t{2147483647} + 1),
                    "rows is 8589934589, allowed: 1 to 2147483647 x 4");
  CHECK_THROWS_AS(grid_for(four, std::numeric_limits<std::int64_t>::max()), SpecError);
}

TEST_CASE("a matmul's grid covers the rows of x as well") {
  const LaunchShape shape{
      .rows_per_cta = 128, .column_tiles = 1, .threads = 256, .x_rows_per_cta = 64};
  CHECK(grid_for(shape, 129, 1).y == 1u);
  CHECK(grid_for(shape, 129, 64).y == 1u);
  CHECK(grid_for(shape, 129, 65).y == 2u);
  CHECK(grid_for(shape, 129, 65).x == 2u);
  CHECK(grid_for(shape, 1, 65535 * 64).y == 65535u);
  CHECK_THROWS_WITH(grid_for(shape, 1, 0), "n is 0, allowed: 1 to 65535 x 64");
  CHECK_THROWS_WITH(grid_for(shape, 1, 65535 * 64 + 1), "n is 4194241, allowed: 1 to 65535 x 64");
}

TEST_CASE("several matrices have the CTAs of each one's rows") {
  const LaunchShape shape{.rows_per_cta = 8, .column_tiles = 1, .threads = 128};
  const std::int64_t qkv[] = {4096, 1025, 1};
  CHECK(grid_for(shape, qkv).x == 512u + 129u + 1u);
  const std::int64_t with_none[] = {4096, 0};
  CHECK_THROWS_WITH(grid_for(shape, with_none), "rows is 4096 + 0, allowed: 1 to 2147483647 x 8");
  const std::int64_t too_many[] = {std::int64_t{1} << 33, std::int64_t{1} << 33};
  CHECK_THROWS_AS(grid_for(shape, too_many), SpecError);
}

TEST_CASE("a launch shape without rows is an internal error") {
  CHECK_THROWS_AS(grid_for(LaunchShape{.rows_per_cta = 0}, 1), InternalError);
}

TEST_CASE("artefact kinds have names of their own") {
  std::set<std::string_view> names;
  for (ArtifactKind kind : {ArtifactKind::kCubin, ArtifactKind::kPtx, ArtifactKind::kSharedObject,
                            ArtifactKind::kAssembly, ArtifactKind::kLlvmIr}) {
    names.insert(artifact_kind_name(kind));
  }
  CHECK(names ==
        std::set<std::string_view>{"cubin", "ptx", "shared object", "assembly", "llvm ir"});
}

}  // namespace
}  // namespace ktjit
