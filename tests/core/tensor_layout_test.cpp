// Row sizes and alignment, with sizes computed by hand.
#include "core/tensor_layout.h"

#include <catch2/catch.hpp>
#include <limits>

#include "core/error.h"

namespace ktjit {
namespace {

TEST_CASE("a row is a run of whole blocks") {
  CHECK(row_bytes(get_format("f32"), 1) == 4);
  CHECK(row_bytes(get_format("bf16"), 7168) == 14336);
  CHECK(row_bytes(get_format("q8_0"), 32) == 34);
  CHECK(row_bytes(get_format("q4_K"), 4096) == 16 * 144);
  CHECK(row_bytes(get_format("q6_K"), 256) == 210);
  CHECK(row_bytes(get_format("fp8_e4m3"), 7169) == 7169);
  for (const Format& format : all_formats()) {
    INFO(format.name);
    CHECK(row_bytes(format, format.block_elems) == format.block_bytes);
    CHECK(row_bytes(format, std::int64_t{1000} * format.block_elems) ==
          std::int64_t{1000} * format.block_bytes);
  }
}

TEST_CASE("columns that are no whole number of blocks are refused") {
  CHECK_THROWS_WITH(row_bytes(get_format("q4_K"), 255),
                    "cols is 255, allowed: positive multiples of the q4_K block, 256");
  CHECK_THROWS_WITH(row_bytes(get_format("f32"), 0),
                    "cols is 0, allowed: positive multiples of the f32 block, 1");
  CHECK_THROWS_AS(row_bytes(get_format("q8_0"), -32), SpecError);
}

TEST_CASE("a row of more than 2^63 bytes is refused") {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  CHECK(row_bytes(get_format("fp8_e4m3"), most) == most);
  CHECK(row_bytes(get_format("f32"), most / 4) == most / 4 * 4);
  CHECK_THROWS_WITH(row_bytes(get_format("f32"), most / 4 + 1),
                    Catch::Contains("allowed: rows of less than 2^63 bytes"));
}

TEST_CASE("every row's address is a multiple of the row alignment") {
  const auto alignment = [](const char* format, std::int64_t cols, int base) {
    return row_alignment_bytes(get_format(format), TensorLayout{LayoutKind::kNative, cols, base});
  };
  CHECK(alignment("f32", 4, 16) == 16);
  CHECK(alignment("f32", 3, 16) == 4);
  CHECK(alignment("q8_0", 32, 16) == 2);     // 34 bytes
  CHECK(alignment("q8_0", 256, 16) == 16);   // 272 bytes
  CHECK(alignment("q6_K", 256, 16) == 2);    // 210 bytes
  CHECK(alignment("q4_K", 256, 256) == 16);  // 144 bytes
  CHECK(alignment("q4_K", 4096, 256) == 256);
  CHECK(alignment("ggml_mxfp4", 32, 16) == 1);  // 17 bytes
  CHECK(alignment("f32", 4, 1) == 1);
}

TEST_CASE("a base alignment that is no power of two is an internal error") {
  for (int base : {0, -1, 3, 12}) {
    INFO(base);
    CHECK_THROWS_AS(row_alignment_bytes(get_format("f32"), {LayoutKind::kNative, 6, base}),
                    InternalError);
  }
}

}  // namespace
}  // namespace ktjit
