// The format table against lists written by hand, and the names that people use for formats.
#include "core/format.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cctype>
#include <map>
#include <set>
#include <string>

#include "core/error.h"

namespace ktjit {
namespace {

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string to_upper(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return upper;
}

struct GgmlFact {
  int type;
  int block_elems;
  int block_bytes;
};

// Written from ggml.h (enum ggml_type) and ggml-common.h (block structures and their static
// asserts), not from our table.
const std::map<std::string, GgmlFact> kGgmlFacts = {
    {"f32", {0, 1, 4}},
    {"f16", {1, 1, 2}},
    {"q4_0", {2, 32, 2 + 16}},
    {"q4_1", {3, 32, 4 + 16}},
    {"q5_0", {6, 32, 2 + 4 + 16}},
    {"q5_1", {7, 32, 4 + 4 + 16}},
    {"q8_0", {8, 32, 2 + 32}},
    {"q8_1", {9, 32, 4 + 32}},
    {"q2_K", {10, 256, 4 + 16 + 64}},
    {"q3_K", {11, 256, 2 + 64 + 32 + 12}},
    {"q4_K", {12, 256, 4 + 12 + 128}},
    {"q5_K", {13, 256, 4 + 12 + 128 + 32}},
    {"q6_K", {14, 256, 2 + 16 + 192}},
    {"q8_K", {15, 256, 4 + 256 + 32}},
    {"iq2_xxs", {16, 256, 2 + 64}},
    {"iq2_xs", {17, 256, 2 + 64 + 8}},
    {"iq3_xxs", {18, 256, 2 + 96}},
    {"iq1_s", {19, 256, 2 + 32 + 16}},
    {"iq4_nl", {20, 32, 2 + 16}},
    {"iq3_s", {21, 256, 2 + 104 + 4}},
    {"iq2_s", {22, 256, 2 + 64 + 16}},
    {"iq4_xs", {23, 256, 2 + 2 + 4 + 128}},
    {"i8", {24, 1, 1}},
    {"i16", {25, 1, 2}},
    {"i32", {26, 1, 4}},
    {"i64", {27, 1, 8}},
    {"f64", {28, 1, 8}},
    {"iq1_m", {29, 256, 32 + 16 + 8}},
    {"bf16", {30, 1, 2}},
    {"tq1_0", {34, 256, 2 + 4 + 48}},
    {"tq2_0", {35, 256, 2 + 64}},
    {"ggml_mxfp4", {39, 32, 1 + 16}},
    {"ggml_nvfp4", {40, 64, 4 + 32}},
    {"q1_0", {41, 128, 2 + 16}},
    {"q2_0", {42, 64, 2 + 16}},
};

TEST_CASE("the format table is in the order of FormatId") {
  int index = 0;
  for (const Format& format : all_formats()) {
    CHECK(static_cast<int>(format.id) == index++);
    CHECK(&get_format(format.id) == &format);
  }
  CHECK(index == 54);
}

TEST_CASE("every name and alias belongs to one format, whatever the case") {
  std::set<std::string> seen;
  for (const Format& format : all_formats()) {
    CHECK(seen.insert(to_lower(format.name)).second);
    for (std::string_view alias : format_aliases(format.id)) {
      INFO(alias);
      CHECK(seen.insert(to_lower(alias)).second);
    }
  }
}

TEST_CASE("names and aliases are found in any case") {
  for (const Format& format : all_formats()) {
    std::vector<std::string_view> names = {format.name};
    for (std::string_view alias : format_aliases(format.id)) names.push_back(alias);
    for (std::string_view name : names) {
      INFO(name);
      CHECK(find_format(name) == &format);
      CHECK(find_format(to_lower(name)) == &format);
      CHECK(find_format(to_upper(name)) == &format);
      CHECK(&get_format(name) == &format);
    }
  }
}

TEST_CASE("names that users of Triton, torch and safetensors know mean the right FP8 format") {
  const std::map<std::string, FormatId> expected = {
      {"fp8e4nv", FormatId::kFp8E4M3},
      {"float8_e4m3fn", FormatId::kFp8E4M3},
      {"F8_E4M3", FormatId::kFp8E4M3},
      {"fp8e5", FormatId::kFp8E5M2},
      {"float8_e5m2", FormatId::kFp8E5M2},
      {"fp8e4b15", FormatId::kFp8E4B15},
      {"fp8e4b8", FormatId::kFp8E4M3Fnuz},
      {"fp8e5b16", FormatId::kFp8E5M2Fnuz},
      {"float8_e4m3fnuz", FormatId::kFp8E4M3Fnuz},
      {"bfloat16", FormatId::kBF16},
      {"Q4_K", FormatId::kQ4_K},
      {"IQ3_S", FormatId::kIQ3_S},
  };
  for (const auto& [name, id] : expected) {
    INFO(name);
    REQUIRE(find_format(name) != nullptr);
    CHECK(find_format(name)->id == id);
  }
}

TEST_CASE("bare mxfp4 and nvfp4 are OCP's and NVIDIA's, not ggml's types") {
  CHECK(find_format("mxfp4")->id == FormatId::kMxfp4);
  CHECK(find_format("NVFP4")->id == FormatId::kNvfp4);
  CHECK(find_format("mxfp4")->bits_per_element() == 4.0);
  CHECK(fixed_scale_grid(FormatId::kMxfp4) == ScaleGrid{1, 32, ScaleType::kE8M0});
  CHECK(fixed_scale_grid(FormatId::kNvfp4) == ScaleGrid{1, 16, ScaleType::kE4M3});
  CHECK_FALSE(fixed_scale_grid(FormatId::kFp8E4M3).has_value());
  CHECK(has_separate_scales(FormatId::kNvfp4));
  CHECK(has_separate_scales(FormatId::kFp8E5M2));
  CHECK_FALSE(has_separate_scales(FormatId::kGgmlNvfp4));
}

TEST_CASE("mxfp6 has 32 elements in 24 bytes and a scale for each such block") {
  for (FormatId id : {FormatId::kMxfp6E2M3, FormatId::kMxfp6E3M2}) {
    const Format& format = get_format(id);
    INFO(format.name);
    CHECK(format.block_elems == 32);
    CHECK(format.block_bytes == 24);
    CHECK(format.bits_per_element() == 6.0);
    CHECK(fixed_scale_grid(id) == ScaleGrid{1, 32, ScaleType::kE8M0});
    CHECK(has_separate_scales(id));
  }
  CHECK(find_format("MXFP6_E2M3")->id == FormatId::kMxfp6E2M3);
  CHECK(find_format("mxfp6_e3m2")->id == FormatId::kMxfp6E3M2);
}

TEST_CASE("mxfp8 is FP8 with a scale for each 32 elements of a row") {
  const ScaleGrid mx{1, 32, ScaleType::kE8M0};
  const WeightFormat e4m3{FormatId::kFp8E4M3, mx};
  const WeightFormat e5m2{FormatId::kFp8E5M2, mx};
  CHECK(get_weight_format("mxfp8_e4m3") == e4m3);
  CHECK(get_weight_format("MXFP8_E5M2") == e5m2);
  CHECK(get_weight_format("mxfp8_e4m3", mx) == e4m3);
  CHECK(get_weight_format("fp8e4nv", mx) == e4m3);
  CHECK(e4m3.name() == "mxfp8_e4m3");
  CHECK(e5m2.name() == "mxfp8_e5m2");
  CHECK_THROWS_WITH(get_weight_format("mxfp8_e4m3", ScaleGrid{128, 128}),
                    "scale is 128x128 f32, allowed: 1x32 e8m0 with mxfp8_e4m3");
  // Elements without scales have no such name.
  CHECK(find_format("mxfp8_e4m3") == nullptr);
  CHECK_THROWS_AS(get_format("mxfp8_e4m3"), SpecError);
}

TEST_CASE("names of weights imply the scales that belong to the format") {
  CHECK(get_weight_format("mxfp4") ==
        WeightFormat{FormatId::kMxfp4, ScaleGrid{1, 32, ScaleType::kE8M0}});
  CHECK(get_weight_format("nvfp4") ==
        WeightFormat{FormatId::kNvfp4, ScaleGrid{1, 16, ScaleType::kE4M3}});
  CHECK(get_weight_format("Q4_K") == WeightFormat{FormatId::kQ4_K, std::nullopt});
  CHECK(get_weight_format("e4m3") == WeightFormat{FormatId::kFp8E4M3, std::nullopt});
  CHECK(get_weight_format("e4m3", ScaleGrid{128, 128}) ==
        WeightFormat{FormatId::kFp8E4M3, ScaleGrid{128, 128}});
  CHECK_THROWS_WITH(get_weight_format("nvfp4", ScaleGrid{}),
                    "scale is tensor f32, allowed: 1x16 e4m3 with nvfp4");
  CHECK_THROWS_WITH(get_weight_format("mxfp8"),
                    Catch::StartsWith("format is 'mxfp8', allowed: f32, ") &&
                        Catch::EndsWith(", mxfp8_e4m3, mxfp8_e5m2"));
  for (const Format& format : all_formats()) {
    INFO(format.name);
    CHECK(WeightFormat{format.id, std::nullopt}.name() == format.name);
    CHECK(WeightFormat{format.id, ScaleGrid{1, 32, ScaleType::kF32}}.name() == format.name);
    CHECK(get_weight_format(format.name).id == format.id);
  }
  std::set<std::string_view> named(scaled_format_names().begin(), scaled_format_names().end());
  CHECK(named == std::set<std::string_view>{"mxfp8_e4m3", "mxfp8_e5m2"});
}

TEST_CASE("a plane of scales has its bytes, and room for the tensor's scale where there is one") {
  CHECK(ScaleGrid{128, 128}.plane_bytes(576, 7168) == 5 * 56 * 4);
  CHECK(ScaleGrid{0, 0, ScaleType::kBF16}.plane_bytes(576, 7168) == 2);
  CHECK(ScaleGrid{1, 32, ScaleType::kE8M0}.plane_bytes(3, 65) == 9);
  CHECK(ScaleGrid{1, 16, ScaleType::kE4M3}.plane_bytes(3, 64) == 16 + 12);
  CHECK(ScaleGrid{1, 16, ScaleType::kE4M3}.header_bytes() == 16);
  for (ScaleType type : {ScaleType::kF32, ScaleType::kBF16, ScaleType::kE8M0})
    CHECK(ScaleGrid{1, 16, type}.header_bytes() == 0);
}

TEST_CASE("an unknown format is refused with the known names") {
  CHECK(find_format("q9_9") == nullptr);
  CHECK(find_format("") == nullptr);
  CHECK(find_format("f3") == nullptr);
  CHECK(find_format("f322") == nullptr);
  try {
    get_format("q9_9");
    FAIL("q9_9 was accepted");
  } catch (const SpecError& error) {
    CHECK(error.field() == "format");
    CHECK_THAT(error.what(), Catch::StartsWith("format is 'q9_9', allowed: f32, f16, bf16, "));
    for (const Format& format : all_formats())
      CHECK_THAT(error.what(), Catch::Contains(std::string(format.name)));
  }
}

TEST_CASE("ggml type ids and block sizes are ggml's") {
  std::set<int> ids;
  for (const Format& format : all_formats()) {
    INFO(format.name);
    const auto fact = kGgmlFacts.find(std::string(format.name));
    if (fact == kGgmlFacts.end()) {
      CHECK(format.family != FormatFamily::kGgml);
      CHECK(format.family != FormatFamily::kFloat);
      CHECK(format.ggml_type == -1);
      continue;
    }
    CHECK(ids.insert(format.ggml_type).second);
    CHECK(format.ggml_type == fact->second.type);
    CHECK(format.block_elems == fact->second.block_elems);
    CHECK(format.block_bytes == fact->second.block_bytes);
    CHECK(find_ggml_format(static_cast<std::uint32_t>(format.ggml_type)) == &format);
  }
  CHECK(ids.size() == kGgmlFacts.size());
}

TEST_CASE("ids that ggml removed or never had are no format") {
  for (std::uint32_t id : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 43u, 0x7fffffffu, 0xffffffffu}) {
    INFO(id);
    CHECK(find_ggml_format(id) == nullptr);
  }
}

TEST_CASE("formats outside ggml take one byte an element") {
  for (const Format& format : all_formats()) {
    if (format.family != FormatFamily::kFp8) continue;
    INFO(format.name);
    CHECK(format.block_elems == 1);
    CHECK(format.block_bytes == 1);
    CHECK(format.bits_per_element() == 8.0);
  }
}

TEST_CASE("types that only files hold have safetensors' sizes") {
  const std::map<std::string, double> bits = {
      {"bool", 8}, {"u8", 8},   {"u16", 16},     {"u32", 32},     {"u64", 64},
      {"c64", 64}, {"e8m0", 8}, {"fp4_e2m1", 4}, {"fp6_e2m3", 6}, {"fp6_e3m2", 6}};
  for (const auto& [name, expected] : bits) {
    INFO(name);
    CHECK(get_format(name).bits_per_element() == expected);
    CHECK_FALSE(has_separate_scales(get_format(name).id));
  }
}

TEST_CASE("bits per element count the scales of the block") {
  CHECK(get_format("q4_0").bits_per_element() == 4.5);
  CHECK(get_format("q8_0").bits_per_element() == 8.5);
  CHECK(get_format("q6_K").bits_per_element() == 6.5625);
  CHECK(get_format("f64").bits_per_element() == 64.0);
}

TEST_CASE("scale types have names and sizes") {
  CHECK(scale_type_bytes(ScaleType::kF32) == 4);
  CHECK(scale_type_bytes(ScaleType::kBF16) == 2);
  CHECK(scale_type_bytes(ScaleType::kE8M0) == 1);
  CHECK(scale_type_bytes(ScaleType::kE4M3) == 1);
  for (ScaleType type : {ScaleType::kF32, ScaleType::kBF16, ScaleType::kE8M0, ScaleType::kE4M3}) {
    CHECK(get_scale_type(scale_type_name(type)) == type);
    CHECK(get_scale_type(to_upper(scale_type_name(type))) == type);
  }
  CHECK_THROWS_WITH(get_scale_type("f64"), "scale type is 'f64', allowed: f32, bf16, e8m0, e4m3");
}

TEST_CASE("a scale grid counts partial blocks at the edges") {
  const ScaleGrid blocks{128, 128};
  CHECK(blocks.rows_of_scales(1) == 1);
  CHECK(blocks.rows_of_scales(128) == 1);
  CHECK(blocks.rows_of_scales(129) == 2);
  CHECK(blocks.cols_of_scales(7168) == 56);
  CHECK(blocks.cols_of_scales(7169) == 57);
  const ScaleGrid per_tensor{0, 0};
  CHECK(per_tensor.rows_of_scales(7168) == 1);
  CHECK(per_tensor.cols_of_scales(18432) == 1);
  const ScaleGrid per_row{1, 0};
  CHECK(per_row.rows_of_scales(7168) == 7168);
  CHECK(per_row.cols_of_scales(18432) == 1);
}

TEST_CASE("scale grids have names") {
  CHECK(scale_grid_name(std::nullopt) == "none");
  CHECK(scale_grid_name(ScaleGrid{0, 0, ScaleType::kF32}) == "tensor f32");
  CHECK(scale_grid_name(ScaleGrid{1, 0, ScaleType::kBF16}) == "row bf16");
  CHECK(scale_grid_name(ScaleGrid{128, 128, ScaleType::kF32}) == "128x128 f32");
  CHECK(scale_grid_name(ScaleGrid{1, 32, ScaleType::kE8M0}) == "1x32 e8m0");
}

}  // namespace
}  // namespace ktjit
