// Advised rules: they fit, stay in the budget, keep what is critical, and choose the same when read again.
#include "jit/format_advisor.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "rules/name_group.h"

#include "core/error.h"
#include "jit/ruled_model.h"
#include "tests/jit/made_model.h"

using Catch::Matchers::Contains;
using namespace ktjit;
using test::MadeModel;

namespace {

/// Two layers in f32 with a norm, and in layer 1 an outlier matrix: one huge value in each block of 32, which
/// formats with a scale for a block do badly.
model::Model make_model(MadeModel& made) {
  const auto fill = [&](model::TensorInfo& tensor, bool has_outliers) {
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    for (std::size_t at = 0; at < values.size(); ++at) {
      values[at] = std::sin(0.731F * static_cast<float>(at + 1));
      if (has_outliers && at % 32 == 5) values[at] *= 300;
    }
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    tensor.data = made.keep(std::move(bytes));
  };
  fill(made.add("token_embd.weight", FormatId::kF32, 64, 256), false);
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    fill(made.add(layer + "attn_norm.weight", FormatId::kF32, 1, 256), false);
    fill(made.add(layer + "attn_q.weight", FormatId::kF32, 256, 256), false);
    fill(made.add(layer + "ffn_up.weight", FormatId::kF32, 512, 256), false);
    fill(made.add(layer + "ffn_down.weight", FormatId::kF32, 256, 512), true);
  }
  return made.make();
}

PlanPlace place_with(std::uint64_t bytes) {
  return {make_cuda_target(86), nullptr, CardOrigin::kAssumed, bytes, 4096};
}

}  // namespace

TEST_CASE("advised rules fit the memory within the budget, and read back they choose the same") {
  MadeModel made;
  const model::Model model = make_model(made);
  const ModelFacts facts(model, false);
  const auto all = make_report(facts, place_with(0)).memory;
  const std::uint64_t other = all.total() - all.weights - all.scales;
  for (const double part : {0.9, 0.5, 0.35, 0.27, 0.2}) {
    INFO(part);
    const auto available =
        other + static_cast<std::uint64_t>(part * static_cast<double>(all.weights));
    const FormatAdvice advice = advise_formats(facts, place_with(available), 0.5);
    INFO(advice.rules_yaml << advice.problem);
    REQUIRE(advice.problem.empty());
    CHECK(advice.memory_bytes <= available);
    CHECK(advice.error <= 0.5);

    const rules::Rules rules = rules::Rules::parse(advice.rules_yaml, "advised.yaml");
    const RuledModel ruled(model, rules);
    const ModelFacts after(ruled.model(), false);
    const PlanReport report =
        make_report(after, place_with(available),
                    {ruled.tensors_on({""}, LayoutKind::kNative, make_cuda_target(86))});
    CHECK(report.memory.total() == advice.memory_bytes);
    for (const RuledModel::Tensor& tensor : ruled.tensors()) {
      const auto group = rules::name_group_of(*tensor.source);
      INFO(tensor.source->name);
      if (group == rules::NameGroup::kNorm) CHECK(!tensor.choice.convert_to);
      if (group == rules::NameGroup::kEmbedding && tensor.choice.convert_to)
        CHECK(get_format(tensor.choice.convert_to->id).bits_per_element() == 16);
    }
    CHECK(advise_formats(facts, place_with(available), 0.5).rules_yaml == advice.rules_yaml);
  }
}

TEST_CASE("less memory is never less error") {
  MadeModel made;
  const model::Model model = make_model(made);
  const ModelFacts facts(model, false);
  const auto all = make_report(facts, place_with(0)).memory;
  const std::uint64_t other = all.total() - all.weights - all.scales;
  double last = 0;
  for (const int percent : {100, 60, 40, 25}) {
    const FormatAdvice advice = advise_formats(
        facts, place_with(other + all.weights * static_cast<std::uint64_t>(percent) / 100), 1);
    REQUIRE(advice.problem.empty());
    CHECK(advice.error >= last);
    if (percent == 100) CHECK(advice.error == 0);
    last = advice.error;
  }
  CHECK(last > 1e-3);
}

TEST_CASE("what measures worst stays at the higher precision") {
  MadeModel made;
  const model::Model model = make_model(made);
  const ModelFacts facts(model, false);
  const auto all = make_report(facts, place_with(0)).memory;
  const std::uint64_t other = all.total() - all.weights - all.scales;
  const FormatAdvice advice = advise_formats(facts, place_with(other + all.weights * 32 / 100), 1);
  REQUIRE(advice.problem.empty());
  INFO(advice.rules_yaml);
  const rules::Rules rules = rules::Rules::parse(advice.rules_yaml, "advised.yaml");
  const auto bits = [&](const char* name) {
    const auto to = rules.choose(model.get_tensor(name)).convert_to;
    return to ? get_format(to->id).bits_per_element() : 32;
  };
  CHECK(bits("blk.0.ffn_up.weight") <= bits("blk.0.ffn_down.weight"));
  CHECK(bits("blk.0.ffn_up.weight") < 32);
  CHECK_THAT(advice.rules_yaml, Contains("'blk.*.ffn_up.weight'"));
}

TEST_CASE("what is impossible says so, with the nearest that can be done, which then is possible") {
  MadeModel made;
  const model::Model model = make_model(made);
  const ModelFacts facts(model, false);
  const auto all = make_report(facts, place_with(0)).memory;
  const std::uint64_t other = all.total() - all.weights - all.scales;
  const std::uint64_t available = other + all.weights / 4;

  const FormatAdvice strict = advise_formats(facts, place_with(available), 1e-5);
  CHECK(strict.rules_yaml.empty());
  CHECK_THAT(strict.problem, Contains("more than the budget of 1.00e-05"));
  const std::size_t at = strict.problem.find("--error ");
  REQUIRE(at != std::string::npos);
  const double nearest = std::stod(strict.problem.substr(at + 8));
  CHECK(advise_formats(facts, place_with(available), nearest).problem.empty());
  const std::size_t memory_at = strict.problem.find("--memory ");
  REQUIRE(memory_at != std::string::npos);
  const auto mib = std::stoull(strict.problem.substr(memory_at + 9));
  CHECK(advise_formats(facts, place_with(mib << 20), 1e-5).problem.empty());

  const FormatAdvice tiny = advise_formats(facts, place_with(1000), 1);
  CHECK_THAT(tiny.problem, Contains("can't be made to fit") && Contains("the smallest"));
}

TEST_CASE("names that globs would confuse are told apart by regular expressions") {
  MadeModel made;
  std::vector<float> values(256 * 256);
  for (std::size_t at = 0; at < values.size(); ++at) values[at] = std::sin(static_cast<float>(at));
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  const auto kept = made.keep(std::move(bytes));
  // The glob of the first, blk.*.attn_q.weight, is of both.
  made.add("blk.0.attn_q.weight", FormatId::kF32, 256, 255).data = kept.first(256 * 255 * 4);
  made.add("blk.0.x.attn_q.weight", FormatId::kF32, 256, 256).data = kept;
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const auto all = make_report(facts, place_with(0)).memory;
  // The first has no whole blocks of 32, so FP8 is the least it can be; the second has to be smaller.
  const FormatAdvice advice = advise_formats(
      facts, place_with(all.total() - all.weights + 256 * 255 + 4096 + 256 * 150), 1);
  INFO(advice.problem << advice.rules_yaml);
  REQUIRE(advice.problem.empty());
  CHECK_THAT(advice.rules_yaml, Contains("regex:"));
}

TEST_CASE("a budget that is no number, and no memory, are refused") {
  MadeModel made;
  const model::Model model = make_model(made);
  const ModelFacts facts(model, false);
  CHECK_THROWS_AS(advise_formats(facts, place_with(1 << 20), -1), SpecError);
  CHECK_THROWS_AS(advise_formats(facts, place_with(1 << 20), std::nan("")), SpecError);
  PlanPlace nowhere = place_with(0);
  nowhere.available_bytes.reset();
  CHECK_THROWS_WITH(advise_formats(facts, nowhere, 0.1), Contains("memory to fit in"));
}
