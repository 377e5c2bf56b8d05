// What rules choose for tensors, and what a check against a model reports.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "rules/conversion.h"
#include "rules/rules.h"

#include "core/error.h"
#include "tests/rules/rules_fixture.h"

using Catch::Matchers::Contains;
using namespace ktjit;
using rules::Rules;
using rules::TensorChoice;
using test::make_model;
using test::make_tensor;

namespace {

constexpr ScaleGrid kRow = {1, 0, ScaleType::kF32};

Rules parse(const std::string& list) { return Rules::parse("rules:\n" + list, "r.yaml"); }

std::string check_message(const Rules& rules, const model::Model& model) {
  try {
    rules.check(model);
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("of the rules that set a thing, the first that matches counts") {
  const Rules rules = parse(
      "  - {match: {name: 'blk.*.attn_v.weight'}, format: bf16}\n"
      "  - {match: {group: attention}, format: fp8_e4m3, device: cpu}\n"
      "  - {match: all, device: cuda, layout: auto}\n");
  const TensorChoice v = rules.choose(make_tensor("blk.3.attn_v.weight", FormatId::kF32));
  CHECK(v.convert_to == WeightFormat{FormatId::kBF16, {}});
  CHECK(v.format_rule == 0);
  CHECK(v.device == "cpu");  // the first rule says nothing of devices
  CHECK(v.device_rule == 1);
  CHECK(v.layout == rules::LayoutChoice::kAuto);
  CHECK(!v.activation);
  const TensorChoice up = rules.choose(make_tensor("blk.3.ffn_up.weight", FormatId::kF32));
  CHECK(!up.convert_to);
  CHECK(!up.format_rule);
  CHECK(up.device == "cuda");
}

TEST_CASE("a tensor that has the format stays as it is, with other scales only if none are named") {
  const auto with_rows = make_tensor("blk.0.ffn_up.weight", FormatId::kFp8E4M3, 256, 512, kRow);
  const auto convert_to = [&](const std::string& sets) {
    return parse("  - {match: all, " + sets + "}\n").choose(with_rows).convert_to;
  };
  CHECK(!convert_to("format: keep"));
  CHECK(!convert_to("format: fp8_e4m3"));
  CHECK(!convert_to("format: fp8_e4m3, scale: row f32"));
  CHECK(convert_to("format: fp8_e4m3, scale: 128x128"));
  CHECK(convert_to("format: fp8_e4m3, scale: none") == WeightFormat{FormatId::kFp8E4M3, {}});
  CHECK(convert_to("format: mxfp8_e4m3") == get_weight_format("mxfp8_e4m3"));
  CHECK(convert_to("format: bf16") == WeightFormat{FormatId::kBF16, {}});
}

TEST_CASE("conditions are all of them, of a list one") {
  const auto tensor = make_tensor("model.layers.7.mlp.experts.12.up_proj.weight",
                                  FormatId::kFp8E4M3, 2048, 7168, ScaleGrid{128, 128});
  const auto matches = [&](const std::string& conditions) {
    return parse("  - {match: {" + conditions + "}, device: cpu}\n")
        .choose(tensor)
        .device.has_value();
  };
  CHECK(matches("name: '*'"));
  CHECK(matches("name: '*.experts.*'"));  // * takes dots too
  CHECK(!matches("name: 'experts'"));     // a glob is of the whole name
  CHECK(matches("name: [x, '*.mlp.experts.1[0-9].up_proj.weight']"));
  CHECK(matches("regex: 'experts\\.(1[0-9])\\.'"));
  CHECK(!matches("regex: '^experts'"));
  CHECK(matches("group: [ffn, experts]"));
  CHECK(!matches("group: ffn"));
  CHECK(matches("format: fp8_e4m3"));
  CHECK(!matches("format: mxfp8_e4m3"));  // the scales are others
  CHECK(matches("layers: [0-2, 7]"));
  CHECK(!matches("layers: 8-"));
  CHECK(matches("rows: 2048, cols: 4096-"));
  CHECK(!matches("rows: 2048, cols: -4096"));
  CHECK(matches("cols_divisible_by: 1024"));
  CHECK(!matches("cols_divisible_by: 1000"));
  CHECK(!matches("group: experts, layers: 0"));
}

TEST_CASE("a format that a tensor can't have is refused with rule, tensor, value and expectation") {
  const auto message = [](const std::string& format, const model::TensorInfo& tensor) {
    try {
      parse("  - {label: small, match: all, format: " + format + "}\n").choose(tensor);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK_THAT(message("q8_0", make_tensor("w", FormatId::kBF16, 4, 100)),
             Contains("r.yaml:2: rule 1 'small': tensor 'w' has 100 columns, q8_0 takes a multiple "
                      "of 32"));
  CHECK_THAT(message("nvfp4", make_tensor("w", FormatId::kBF16, 4, 24)),
             Contains("multiple of 16"));
  CHECK(message("mxfp8_e4m3", make_tensor("w", FormatId::kBF16, 4, 48))
            .empty());  // FP8: a last block may be short
  CHECK_THAT(message("fp8_e4m3", make_tensor("blk.0.attn_norm.weight", FormatId::kF32, 0)),
             Contains("is a vector, only matrices can be fp8_e4m3"));
  CHECK(message("bf16", make_tensor("blk.0.attn_norm.weight", FormatId::kF32, 0)).empty());
  CHECK_THAT(message("bf16", make_tensor("ids", FormatId::kI64)),
             Contains("is i64, only floating-point weights"));
  CHECK(message("fp8_e4m3", make_tensor("w", FormatId::kIQ2_XS)).empty());
  CHECK(message("mxfp4", make_tensor("w", FormatId::kNvfp4, 32, 64)).empty());
}

TEST_CASE("sizes of converted tensors are those of codes and scales") {
  const auto tensor = make_tensor("w", FormatId::kQ8_0, 200, 320);
  const auto sizes = [&](const WeightFormat& format) {
    REQUIRE(rules::conversion_problem(tensor, format).empty());
    return std::pair(rules::converted_code_bytes(tensor, format),
                     rules::converted_scale_bytes(tensor, format));
  };
  CHECK(sizes({FormatId::kFp8E4M3, rules::kUsualFp8Scale}) ==
        std::pair<std::uint64_t, std::uint64_t>(200 * 320, 2 * 3 * 4));
  CHECK(sizes({FormatId::kBF16, {}}) == std::pair<std::uint64_t, std::uint64_t>(200 * 640, 0));
  CHECK(sizes({FormatId::kQ4_0, {}}) == std::pair<std::uint64_t, std::uint64_t>(200 * 180, 0));
  CHECK(sizes(get_weight_format("mxfp4")) ==
        std::pair<std::uint64_t, std::uint64_t>(200 * 160, 200 * 10));
}

TEST_CASE("a rule that matches nothing is an error, with each condition's own count") {
  const model::Model model =
      make_model({make_tensor("blk.0.attn_q.weight"), make_tensor("blk.0.ffn_up.weight"),
                  make_tensor("output.weight")});
  CHECK(check_message(parse("  - {match: {group: attention}, format: f16}\n"), model).empty());
  const std::string message =
      check_message(parse("  - {match: {group: attention, layers: 1-}, format: f16}\n"), model);
  CHECK_THAT(message, Contains("r.yaml:2: rule 1: matches none of the model's 3 tensors"));
  CHECK_THAT(message, Contains("group: 1 tensor, layers: 0 tensors"));
  CHECK(check_message(parse("  - {match: {group: experts}, format: f16, optional: true}\n"), model)
            .empty());
}

TEST_CASE("a rule that earlier ones leave nothing to settle is an error") {
  const model::Model model =
      make_model({make_tensor("blk.0.attn_q.weight"), make_tensor("blk.0.ffn_up.weight")});
  CHECK_THAT(check_message(parse("  - {match: all, format: f16}\n"
                                 "  - {match: {group: ffn}, format: keep}\n"),
                           model),
             Contains("r.yaml:3: rule 2: says nothing new"));
  CHECK(check_message(parse("  - {match: all, format: f16}\n"
                            "  - {match: {group: ffn}, format: keep, device: cpu}\n"),
                      model)
            .empty());
}

TEST_CASE("all that is wrong with rules and a model is said at once, many problems shortened") {
  std::vector<model::TensorInfo> tensors;
  for (int at = 0; at < 50; ++at)
    tensors.push_back(make_tensor("blk." + std::to_string(at) + ".x", FormatId::kBF16, 2, 33));
  const std::string message = check_message(
      parse("  - {match: {name: nothing}, format: f16}\n  - {match: all, format: q8_0}\n"),
      make_model(std::move(tensors)));
  CHECK_THAT(message, Contains("51 problems"));
  CHECK_THAT(message, Contains("rule 2: tensor 'blk.0.x' has 33 columns"));
  CHECK_THAT(message, Contains("and 31 more"));
}
