#include "tests/toolchain/ptx_scan.h"

#include <catch2/catch.hpp>

namespace ktjit::test {

TEST_CASE("f16 arithmetic is found in PTX, conversions are not") {
  CHECK(find_f16_arithmetic("\tmul.rn.f16x2 %r1, %r2, %r3;\n") == "mul.rn.f16x2 %r1, %r2, %r3");
  CHECK(find_f16_arithmetic("\t@%p1 fma.rn.bf16x2 %r1, %r2, %r3, %r4;\n").starts_with("fma"));
  CHECK(find_f16_arithmetic("\t{ .reg .b16 a; add.f16 a, a, a; }\n") == "add.f16 a, a, a");
  CHECK(find_f16_arithmetic(
            "\tcvt.f32.f16 %f1, %rs1;\n\t// add.f16 a\n\tadd.f32 %f1, %f2, %f3;\n") == "");
}

TEST_CASE("dp4a is found in PTX") {
  CHECK(find_dp4a("\tld.global.u32 %r1, [%rd1];\n\tdp4a.s32.s32 %r1, %r2, %r3, %r4;\n") ==
        "dp4a.s32.s32 %r1, %r2, %r3, %r4");
  CHECK(find_dp4a(".visible .entry dp4a_test(\n").empty());
}

}  // namespace ktjit::test
