#include "tests/toolchain/sass_count.h"

#include <catch2/catch.hpp>

namespace ktjit::test {
namespace {

// As nvdisasm prints it, shortened.
constexpr const char* kListing = R"(
	.headerflags	@"EF_CUDA_SM86"
.text.f:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   ULDC.64 UR4, c[0x0][0x118] ;
.L_x_0:
        /*0020*/                   LDG.E.64.CONSTANT R2, [R4.64+0x10] ;
.L_x_1:
        /*0030*/              @!P0 LDS R6, [R2] ;
        /*0040*/                   LDC R7, c[0x3][R6] ;
        /*0050*/                   FFMA R3, R2, R6, R3 ;
        /*0060*/                   IADD3 R4, R4, 0x10, RZ ;
        /*0070*/               @P1 BRA `(.L_x_1) ;
        /*0080*/               @P2 BRA `(.L_x_0) ;
        /*0090*/                   STG.E [R8.64], R3 ;
        /*00a0*/                   EXIT ;
.L_x_2:
        /*00b0*/                   BRA `(.L_x_2);
        /*00c0*/                   NOP;
)";

}  // namespace

TEST_CASE("SASS is read without predicates, comments and directives") {
  const std::vector<SassLine> lines = parse_sass(kListing);
  REQUIRE(lines.size() == 17);
  CHECK(lines[0].label == ".text.f");
  CHECK(lines[3].label == ".L_x_0");
  CHECK(lines[6].instruction == "LDS R6, [R2]");
}

TEST_CASE("functions of one listing are told apart") {
  const std::vector<SassLine> lines =
      parse_sass(".text.a:\n  /*0000*/ EXIT ;\n.text.b:\n  /*0000*/ NOP ;\n  /*0010*/ EXIT ;\n");
  CHECK(function_of(lines, "a").size() == 2);
  CHECK(function_of(lines, "b").size() == 3);
  CHECK(function_of(lines, "c").empty());
}

TEST_CASE("loads are counted apart; stores, parameters and NOPs not at all") {
  CHECK(count_sass(parse_sass(kListing)) == SassCount{6, 3});
}

TEST_CASE("the main loop is the longest that holds no other") {
  const std::vector<SassLine> loop = longest_loop(parse_sass(kListing));
  REQUIRE(loop.size() == 5);
  CHECK(loop.front().label == ".L_x_1");
  CHECK(count_sass(loop) == SassCount{2, 2});
  CHECK(longest_loop(parse_sass("        /*0000*/  EXIT ;\n")).empty());
}

}  // namespace ktjit::test
