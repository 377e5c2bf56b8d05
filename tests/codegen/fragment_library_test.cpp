// Pieces of device code are spliced once, after what they need.
#include "codegen/fragment_library.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ktjit::codegen {

TEST_CASE("a piece comes after what it needs, and once") {
  const std::string text =
      FragmentLibrary::of("cuda").splice({"byte_to_f32", "permute_bytes", "byte_to_f32"}, {});
  const std::size_t needed = text.find("unsigned permute_bytes(");
  const std::size_t user = text.find("float byte_to_f32(");
  REQUIRE(needed != std::string::npos);
  REQUIRE(user != std::string::npos);
  CHECK(needed < user);
  CHECK(text.find("unsigned permute_bytes(", needed + 1) == std::string::npos);
  CHECK(text.find("float byte_to_f32(", user + 1) == std::string::npos);
}

TEST_CASE("only what is used is spliced") {
  const std::string text = FragmentLibrary::of("cuda").splice({"min_of"}, {});
  CHECK(text.find("min_of") != std::string::npos);
  CHECK(text.find("warp_sum") == std::string::npos);
}

TEST_CASE("a variant is chosen by name") {
  const FragmentLibrary& library = FragmentLibrary::of("cuda");
  CHECK(library.splice({"f32_to_bf16"}, {{"f32_to_bf16", "hardware"}}).find("cvt.rn.bf16.f32") !=
        std::string::npos);
  CHECK(library.splice({"f32_to_bf16"}, {{"f32_to_bf16", "software"}}).find("cvt.rn.bf16") ==
        std::string::npos);
}

TEST_CASE("unknown pieces and variants are errors") {
  CHECK_THROWS_AS(FragmentLibrary::of("cuda").splice({"no_such_piece"}, {}), InternalError);
  CHECK_THROWS_AS(FragmentLibrary::of("cuda").splice({"f32_to_bf16"}, {}), InternalError);
  CHECK_THROWS_AS(FragmentLibrary::of("cuda").splice({"f32_to_bf16"}, {{"f32_to_bf16", "magic"}}),
                  InternalError);
  CHECK_THROWS_AS(FragmentLibrary::of("fpga"), InternalError);
}

}  // namespace ktjit::codegen
