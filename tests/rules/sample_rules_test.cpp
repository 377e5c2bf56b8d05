// The ready rules of samples/rules: they read, fit the models they are for, and choose what they say.
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <vector>

#include "rules/rules.h"

#include "model/open_model.h"
#include "model/sample_checkpoint.h"
#include "tests/rules/rules_fixture.h"

using namespace ktjit;
using rules::Rules;
using test::make_model;
using test::make_tensor;

namespace {

const std::filesystem::path kFolder = std::filesystem::path(KTJIT_SOURCE_DIR) / "samples/rules";
constexpr ScaleGrid kBlocks = {128, 128, ScaleType::kBF16};

/// A sample checkpoint, removed at the end.
class SampleCheckpoint {
 public:
  explicit SampleCheckpoint(model::SampleKind kind)
      : folder_(std::filesystem::temp_directory_path() /
                ("ktjit-sample-rules-" + std::to_string(::getpid()) + "-" +
                 std::string(model::sample_kind_name(kind)))) {
    std::filesystem::remove_all(folder_);
    model::write_sample_checkpoint(folder_, kind);
  }
  ~SampleCheckpoint() { std::filesystem::remove_all(folder_); }

  model::Model open() const { return model::open_model(folder_); }

 private:
  std::filesystem::path folder_;
};

constexpr model::SampleKind kKinds[] = {model::SampleKind::kDeepseekFp8, model::SampleKind::kHybrid,
                                        model::SampleKind::kMixed};

/// A Qwen3-shaped FP8 model, in Hugging Face's names or GGUF's, with experts or without.
model::Model make_qwen3(bool is_gguf, bool has_experts) {
  std::vector<model::TensorInfo> tensors;
  const auto add = [&](const std::string& hf, const std::string& gguf, FormatId format,
                       std::int64_t rows, std::int64_t cols) {
    const bool is_fp8 = format == FormatId::kFp8E4M3;
    tensors.push_back(make_tensor(is_gguf ? gguf : hf, format, rows, cols,
                                  is_fp8 ? std::optional(kBlocks) : std::nullopt));
  };
  add("model.embed_tokens.weight", "token_embd.weight", FormatId::kBF16, 1000, 1024);
  add("lm_head.weight", "output.weight", FormatId::kBF16, 1000, 1024);
  add("model.norm.weight", "output_norm.weight", FormatId::kBF16, 0, 1024);
  for (const std::string layer : {"0", "1"}) {
    const std::string hf = "model.layers." + layer + ".";
    const std::string gguf = "blk." + layer + ".";
    add(hf + "input_layernorm.weight", gguf + "attn_norm.weight", FormatId::kBF16, 0, 1024);
    add(hf + "self_attn.q_norm.weight", gguf + "attn_q_norm.weight", FormatId::kBF16, 0, 128);
    add(hf + "self_attn.k_norm.weight", gguf + "attn_k_norm.weight", FormatId::kBF16, 0, 128);
    for (const std::string part : {"q", "k", "v"})
      add(hf + "self_attn." + part + "_proj.weight", gguf + "attn_" + part + ".weight",
          FormatId::kFp8E4M3, 512, 1024);
    add(hf + "self_attn.o_proj.weight", gguf + "attn_output.weight", FormatId::kFp8E4M3, 1024, 512);
    if (!has_experts) {
      for (const std::string part : {"gate", "up"})
        add(hf + "mlp." + part + "_proj.weight", gguf + "ffn_" + part + ".weight",
            FormatId::kFp8E4M3, 2048, 1024);
      continue;
    }
    add(hf + "mlp.gate.weight", gguf + "ffn_gate_inp.weight", FormatId::kBF16, 4, 1024);
    add(hf + "mlp.experts.0.up_proj.weight", gguf + "ffn_up_exps.weight", FormatId::kFp8E4M3, 256,
        1024);
  }
  return make_model(std::move(tensors));
}

}  // namespace

TEST_CASE("the ready rules of DeepSeek-V3 fit the published form, the hybrid and the mixed one") {
  const Rules rules = Rules::read(kFolder / "deepseek-v3-fp8.yaml");
  for (const model::SampleKind kind : kKinds) {
    const SampleCheckpoint checkpoint(kind);
    const model::Model model = checkpoint.open();
    INFO(model::sample_kind_name(kind));
    CHECK_NOTHROW(rules.check(model));
    std::size_t converted = 0, on_cpu = 0;
    for (const model::TensorInfo& tensor : model.tensors()) {
      const rules::TensorChoice choice = rules.choose(tensor);
      const bool is_kv_b = tensor.name.find("kv_b") != std::string::npos;
      INFO(tensor.name);
      CHECK(choice.format_rule.has_value());
      CHECK(choice.convert_to.has_value() == is_kv_b);
      CHECK((choice.device == "cpu") ==
            (rules::name_group_of(tensor) == rules::NameGroup::kExperts));
      converted += choice.convert_to ? 1 : 0;
      on_cpu += choice.device ? 1 : 0;
    }
    CHECK(converted == 2);
    CHECK(on_cpu == (kind == model::SampleKind::kDeepseekFp8 ? 12 : 3));
  }
}

TEST_CASE("the ready rules with experts of four bits fit all forms of DeepSeek-V3") {
  const Rules rules = Rules::read(kFolder / "deepseek-v3-nvfp4-experts.yaml");
  for (const model::SampleKind kind : kKinds) {
    const SampleCheckpoint checkpoint(kind);
    const model::Model model = checkpoint.open();
    INFO(model::sample_kind_name(kind));
    CHECK_NOTHROW(rules.check(model));
    std::size_t as_nvfp4 = 0;
    for (const model::TensorInfo& tensor : model.tensors()) {
      const auto to = rules.choose(tensor).convert_to;
      const bool is_down = tensor.name.find("down") != std::string::npos;
      INFO(tensor.name);
      if (rules::name_group_of(tensor) != rules::NameGroup::kExperts) continue;
      CHECK((to == get_weight_format("nvfp4")) == !is_down);
      as_nvfp4 += is_down ? 0 : 1;
    }
    CHECK(as_nvfp4 == (kind == model::SampleKind::kDeepseekFp8 ? 8 : 2));
  }
}

TEST_CASE("the ready rules of Qwen3 fit dense and MoE models under both kinds of names") {
  const Rules rules = Rules::read(kFolder / "qwen3-fp8.yaml");
  for (const bool is_gguf : {false, true}) {
    for (const bool has_experts : {false, true}) {
      const model::Model model = make_qwen3(is_gguf, has_experts);
      INFO(is_gguf << has_experts);
      CHECK_NOTHROW(rules.check(model));
      std::size_t converted = 0;
      for (const model::TensorInfo& tensor : model.tensors()) {
        const rules::TensorChoice choice = rules.choose(tensor);
        INFO(tensor.name);
        CHECK(choice.format_rule.has_value());
        converted += choice.convert_to ? 1 : 0;
      }
      CHECK(converted == 4);  // k and v of two layers
    }
  }
}
