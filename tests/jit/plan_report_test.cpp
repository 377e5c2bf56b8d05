// Whole reports on made-up models whose numbers are worked out by hand.
#include "jit/plan_report.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "codegen/lowering.h"
#include "tests/jit/made_model.h"

namespace ktjit {
namespace {

using test::MadeModel;

PlanPlace place_on(const char* card_name, std::int64_t context = 4096) {
  const GpuCard& card = get_gpu_card(card_name);
  return {native_target(card), &card, CardOrigin::kNamed, card.memory_bytes(), context};
}

/// Two layers of plain attention, 8 routed experts of which 2 are used, in FP8.
struct SmallMoe {
  static constexpr std::int64_t kWidth = 1024;
  static constexpr std::int64_t kVocabulary = 4000;
  static constexpr std::int64_t kExpertWidth = 512;
  static constexpr std::uint64_t kExpertCodes = 2 * 8 * 3 * kWidth * kExpertWidth;
  static constexpr std::uint64_t kExpertScales =
      2 * 8 * 3 * (kWidth / 128) * (kExpertWidth / 128) * 4;

  explicit SmallMoe(MadeModel& made, bool counts_experts = true) {
    const ScaleGrid grid{128, 128, ScaleType::kF32};
    made.set("config.model_type", std::string("small_moe"));
    made.set("config.num_hidden_layers", std::int64_t{2});
    made.set("config.num_attention_heads", std::int64_t{16});
    made.set("config.num_key_value_heads", std::int64_t{4});
    made.set("config.head_dim", std::int64_t{64});
    if (counts_experts) {
      made.set("config.num_experts", std::int64_t{8});
      made.set("config.num_experts_per_tok", std::int64_t{2});
    }
    made.add("model.embed_tokens.weight", FormatId::kBF16, kVocabulary, kWidth);
    for (int layer = 0; layer < 2; ++layer) {
      const std::string name = "model.layers." + std::to_string(layer);
      made.add_fp8(name + ".self_attn.q_proj.weight", FormatId::kFp8E4M3, kWidth, kWidth, grid);
      for (int expert = 0; expert < 8; ++expert) {
        const std::string expert_name = name + ".mlp.experts." + std::to_string(expert);
        for (const char* part : {"gate", "up"})
          made.add_fp8(expert_name + "." + part + "_proj.weight", FormatId::kFp8E4M3, kExpertWidth,
                       kWidth, grid);
        made.add_fp8(expert_name + ".down_proj.weight", FormatId::kFp8E4M3, kWidth, kExpertWidth,
                     grid);
      }
    }
    made.add("lm_head.weight", FormatId::kBF16, kVocabulary, kWidth);
  }
};

const Alternative& alternative(const PlanReport& report, FormatId format) {
  const auto found = std::ranges::find(report.alternatives, format, &Alternative::format);
  REQUIRE(found != report.alternatives.end());
  return *found;
}

}  // namespace

TEST_CASE("a token reads dense weights whole, experts by share, and one row of the embedding") {
  MadeModel made;
  const SmallMoe sizes(made);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const PlanReport report = make_report(facts, place_on("A10", 1000));

  const double attention = 2 * (1024.0 * 1024 + 8 * 8 * 4);
  const double experts = (sizes.kExpertCodes + sizes.kExpertScales) * 2.0 / 8;
  const double head = 4000.0 * 1024 * 2;
  const double embedding_row = 1024 * 2;
  const double cache = 1000.0 * 2 * 4 * (64 + 64) * 2;
  REQUIRE(report.speed);
  CHECK(report.speed->weight_bytes == Approx(attention + experts + head + embedding_row));
  CHECK(report.speed->kv_bytes == cache);
  CHECK(*report.tokens_per_second ==
        Approx(540e9 / (attention + experts + head + embedding_row + cache)));
  CHECK(report.tokens_per_second_bound == report.tokens_per_second);
  CHECK(report.verdict.verdict == Verdict::kOk);
}

TEST_CASE("memory is weights, scales, keys and values, activations and the driver") {
  MadeModel made;
  const SmallMoe sizes(made);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const MemoryNeed memory = make_report(facts, place_on("A10", 1000)).memory;
  const std::uint64_t tables = 2ull * 4000 * 1024 * 2;
  CHECK(memory.weights == tables + 2 * 1024 * 1024 + sizes.kExpertCodes);
  CHECK(memory.scales == 2 * 8 * 8 * 4 + sizes.kExpertScales);
  CHECK(memory.kv_cache == 1000ull * 2 * 4 * 128 * 2);
  // The widest: two experts at once, 512 + 1024 values each; logits of 4000.
  CHECK(memory.activations == 4 * (2 * 512 * 2 * (512 + 1024) + 4000));
  CHECK(memory.driver == kDriverBytes);
  CHECK(memory.total() ==
        memory.weights + memory.scales + *memory.kv_cache + memory.activations + memory.driver);
}

TEST_CASE("experts left to the CPU free their bytes, and their share is read there") {
  MadeModel made;
  const SmallMoe sizes(made);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const PlanReport report = make_report(facts, place_on("T4"));
  REQUIRE(report.experts_on_cpu);
  const std::uint64_t experts = sizes.kExpertCodes + sizes.kExpertScales;
  CHECK(report.experts_on_cpu->host_bytes == experts);
  CHECK(report.experts_on_cpu->device_bytes == report.memory.total() - experts);
  CHECK(report.experts_on_cpu->host_bytes_per_token == Approx(experts / 4.0));
  CHECK(report.experts_on_cpu->fits == true);
}

TEST_CASE("experts of unknown number give no tokens/s, with the reason") {
  MadeModel made;
  const SmallMoe sizes(made, false);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const PlanReport report = make_report(facts, place_on("A10"));
  CHECK_FALSE(report.tokens_per_second);
  CHECK(report.no_speed_reason.find("experts") != std::string::npos);
  CHECK(report.experts_on_cpu);
  CHECK_FALSE(report.experts_on_cpu->host_bytes_per_token);
}

TEST_CASE("a CPU has no tokens/s, with the reason, and no driver in its memory") {
  MadeModel made;
  const SmallMoe sizes(made);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  PlanPlace place;
  place.target = make_cpu_target("native", {});
  place.context = 100;
  const PlanReport report = make_report(facts, place);
  CHECK_FALSE(report.tokens_per_second);
  CHECK(report.no_speed_reason.find("bandwidth") != std::string::npos);
  CHECK(report.memory.driver == 0);
  CHECK_FALSE(report.experts_on_cpu);
  CHECK_FALSE(report.memory.fits());
}

TEST_CASE("what doesn't fit is told how it could") {
  MadeModel made;
  const SmallMoe sizes(made);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  PlanPlace place = place_on("A10", 1 << 20);
  const MemoryNeed need = make_report(facts, place).memory;

  // Room for all but half of the keys and values.
  place.available_bytes = need.total() - *need.kv_cache / 2;
  const PlanReport shorter = make_report(facts, place);
  CHECK(shorter.verdict.verdict == Verdict::kNo);
  CHECK(shorter.verdict.advice.back().find("--context") == std::string::npos);
  const auto advises = [](const PlanReport& report, const std::string& what) {
    return std::ranges::any_of(report.verdict.advice, [&](const std::string& advice) {
      return advice.find(what) != std::string::npos;
    });
  };
  CHECK(advises(shorter, "a context of 524288 tokens fits"));

  // Room for what is left without the experts.
  place.context = 1;
  place.available_bytes = make_report(facts, place).memory.total() - facts.expert_bytes;
  const PlanReport offload = make_report(facts, place);
  CHECK(advises(offload, "routed experts in host memory"));
  CHECK(offload.experts_on_cpu->fits == true);
  place.available_bytes = *place.available_bytes - 1;
  CHECK(make_report(facts, place).experts_on_cpu->fits == false);
}

TEST_CASE("cards of the same target that hold the model are named where one is too small") {
  MadeModel made;
  made.set("general.architecture", std::string("llama"));
  made.set("llama.block_count", std::uint32_t{1});
  made.set("llama.attention.head_count", std::uint32_t{8});
  made.set("llama.embedding_length", std::uint32_t{1024});
  for (int part = 0; part < 30; ++part)  // of 1 GiB
    made.add("blk.0." + std::to_string(part), FormatId::kBF16, 16384, 32768);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const PlanReport report = make_report(facts, place_on("A10"));
  REQUIRE(report.memory.fits() == false);
  std::string all;
  for (const std::string& advice : report.verdict.advice) all += advice + "\n";
  CHECK(all.find("A40 (48 GiB), RTX A6000 (48 GiB)") != std::string::npos);
  CHECK(all.find("3090") == std::string::npos);
  CHECK(all.find("as q4_K") != std::string::npos);  // 8.4 GiB
}

TEST_CASE("FP8 alternatives have the memory and the speed of their bytes") {
  MadeModel made;
  const SmallMoe sizes(made);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const PlanReport report = make_report(facts, place_on("A10"));
  REQUIRE(report.alternatives.size() == fp8_alternatives().size());
  const Alternative& kept = report.alternatives.front();
  CHECK(kept.kept);
  CHECK(kept.format == FormatId::kFp8E4M3);
  CHECK(kept.memory_bytes == report.memory.total());
  CHECK(kept.rms_error == 0);
  CHECK(*kept.tokens_per_second == Approx(*report.tokens_per_second));

  const std::uint64_t codes = 2 * 1024 * 1024 + sizes.kExpertCodes;
  const Alternative& bf16 = alternative(report, FormatId::kBF16);
  CHECK(bf16.memory_bytes == report.memory.total() + codes - report.memory.scales);
  CHECK_FALSE(bf16.rms_error);  // nothing was measured
  const double touched_codes = 2 * 1024 * 1024 + sizes.kExpertCodes / 4.0;
  const double touched_scales = 2 * 8 * 8 * 4 + sizes.kExpertScales / 4.0;
  const double bytes = report.speed->weight_bytes + report.speed->kv_bytes;
  CHECK(*bf16.tokens_per_second == Approx(540e9 / (bytes + touched_codes - touched_scales)));
  const Alternative& q8_0 = alternative(report, FormatId::kQ8_0);
  CHECK(q8_0.memory_bytes == report.memory.total() + codes / 16 - report.memory.scales);
  CHECK(q8_0.unconverted == 0);
}

TEST_CASE("e4m3 on sm_86 is explained to people who come from Triton") {
  MadeModel made;
  const SmallMoe sizes(made);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const auto all_advice = [&](const char* card) {
    std::string all;
    for (const std::string& advice : make_report(facts, place_on(card)).verdict.advice)
      all += advice + "\n";
    return all;
  };
  CHECK(all_advice("A10").find("type fp8e4nv not supported in this architecture") !=
        std::string::npos);
  const int count =
      codegen::get_lowering(FormatId::kFp8E4M3, make_cuda_target(86)).instructions_per_4;
  CHECK(all_advice("A10").find(fmt::format("{} instructions for 4 weights", count)) !=
        std::string::npos);
  CHECK(all_advice("A10").find("keep fp8_e4m3") != std::string::npos);
  CHECK(all_advice("L4").find("Triton") == std::string::npos);
}

TEST_CASE("a model whose conversion is slower than the memory is slow, by how much is said") {
  MadeModel made;
  made.set("general.architecture", std::string("llama"));
  made.set("llama.block_count", std::uint32_t{1});
  made.set("llama.attention.head_count", std::uint32_t{8});
  made.set("llama.embedding_length", std::uint32_t{4096});
  made.add("blk.0.ffn_up.weight", FormatId::kQ4_K, 1 << 20, 4096);
  const model::Model model = made.make();
  const ModelFacts facts(model, false);
  const PlanReport slow = make_report(facts, place_on("H200", 1));
  CHECK(slow.verdict.verdict == Verdict::kSlow);
  REQUIRE(slow.costs.size() == 1);
  // 27 / 4 + 1 instructions against 128 * 132 * 1.98e9 / (0.9 * 4.8e12) * 144 / 256.
  const double expected = 7.75 / (128 * 132 * 1.98e9 / 4.32e12 * 0.5625);
  REQUIRE(slow.costs.front().times_slower());
  CHECK(*slow.costs.front().times_slower() == Approx(expected));
  CHECK(slow.verdict.reason.find("1.8 times slower") != std::string::npos);
  CHECK(*slow.tokens_per_second / *slow.tokens_per_second_bound == Approx(expected).epsilon(1e-3));
  const PlanReport quick = make_report(facts, place_on("A10", 1));
  CHECK(quick.verdict.verdict == Verdict::kOk);
  CHECK_FALSE(quick.costs.front().times_slower());
}

}  // namespace ktjit
