#include "model/sample_checkpoint.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/error.h"
#include "model/output_file.h"
#include "model/safetensors_part.h"
#include "tests/model/checkpoint_builder.h"

namespace ktjit::model {
namespace {

constexpr std::array kAllKinds = {SampleKind::kDeepseekFp8, SampleKind::kHybrid,
                                  SampleKind::kMixed};

TEST_CASE("sample checkpoints are small, sound and the same at every call") {
  for (SampleKind kind : kAllKinds) {
    CAPTURE(sample_kind_name(kind));
    CHECK(get_sample_kind(sample_kind_name(kind)) == kind);
    const ScratchFolder folder;
    write_sample_checkpoint(folder / "a", kind);
    write_sample_checkpoint(folder / "b", kind);
    const Model model = open_model(folder / "a");
    CHECK(model.files().size() >= 3);
    CHECK(model.file_bytes() > 4'000'000);
    CHECK(model.file_bytes() < 8'000'000);
    for (const auto& file : std::filesystem::directory_iterator(folder / "a")) {
      INFO(file.path());
      CHECK(read_file(file.path()) == read_file(folder / "b" / file.path().filename()));
    }
    CHECK_THROWS_WITH(write_sample_checkpoint(folder / "a", kind),
                      Catch::Matchers::Contains("is not empty"));
  }
  CHECK(error_of<SpecError>([] { get_sample_kind("llama"); }) ==
        "kind is 'llama', allowed: deepseek-fp8, hybrid, mixed");
}

TEST_CASE("the published kind has MLA's names, edge blocks and an index") {
  const ScratchFolder folder;
  write_sample_checkpoint(folder / "m", SampleKind::kDeepseekFp8);
  CHECK(std::filesystem::exists(folder / "m" / "model.safetensors.index.json"));
  const Model model = open_model(folder / "m");
  CHECK(model.container() == "safetensors");
  CHECK(model.notes().empty());
  const TensorInfo& kv_a = model.get_tensor("model.layers.0.self_attn.kv_a_proj_with_mqa.weight");
  CHECK(shape_to_text(kv_a) == "[512, 576]");
  CHECK(kv_a.scale_grid == ScaleGrid{128, 128});
  CHECK(model.find_tensor("model.layers.1.mlp.experts.3.down_proj.weight") != nullptr);
  CHECK(model.metadata().find_uint("config.kv_lora_rank") == 512);
  std::set<bool> rows_fit, cols_fit;
  for (const TensorInfo& tensor : model.tensors()) {
    if (!tensor.scale_grid) continue;
    rows_fit.insert(tensor.rows() % 128 == 0);
    cols_fit.insert(tensor.cols() % 128 == 0);
  }
  CHECK(rows_fit.size() == 2);
  CHECK(cols_fit.size() == 2);
}

TEST_CASE("the hybrid kind is what KTransformers' merge script writes") {
  const ScratchFolder folder;
  write_sample_checkpoint(folder / "m", SampleKind::kHybrid);
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder / "m"))
    names.insert(file.path().filename());
  CHECK(names == std::set<std::string>{"model-00000-of-00002.safetensors",
                                       "model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors"});
  const Model model = open_model(folder / "m");
  CHECK(model.container() == "KTransformers hybrid");
  CHECK(shape_to_text(model.get_tensor("blk.1.ffn_gate_exps.weight")) == "[512, 256, 4]");
  CHECK(shape_to_text(model.get_tensor("blk.1.ffn_down_exps.weight")) == "[256, 512, 4]");
  CHECK(model.get_tensor("blk.1.ffn_down_exps.weight").format == FormatId::kQ6_K);
  CHECK(model.get_tensor("blk.0.attn_kv_b.weight").scale_grid == ScaleGrid{128, 128});
  for (const char* name :
       {"token_embd.weight", "output.weight", "output_norm.weight", "blk.0.attn_norm.weight",
        "blk.0.attn_q_a.weight", "blk.0.attn_q_a_norm.weight", "blk.0.attn_q_b.weight",
        "blk.0.attn_kv_a_mqa.weight", "blk.0.attn_kv_a_norm.weight", "blk.0.attn_output.weight",
        "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight", "blk.1.ffn_gate_inp.weight",
        "blk.1.exp_probs_b.bias", "blk.1.ffn_down_shexp.weight"}) {
    CHECK(model.find_tensor(name) != nullptr);
  }
  for (const TensorInfo& tensor : model.tensors()) {
    CHECK(tensor.name.find("model.") == std::string::npos);
    CHECK(tensor.name.find("ggml_type") == std::string::npos);
  }
}

TEST_CASE("the mixed kind has its routed experts in a GGUF file") {
  const ScratchFolder folder;
  write_sample_checkpoint(folder / "m", SampleKind::kMixed);
  const Model model = open_model(folder / "m");
  CHECK(model.container() == "safetensors + GGUF");
  CHECK(model.get_tensor("blk.1.ffn_up_exps.weight").format == FormatId::kQ4_K);
  CHECK(model.find_tensor("model.layers.1.mlp.experts.0.up_proj.weight") == nullptr);
  CHECK(model.get_tensor("model.layers.1.mlp.shared_experts.up_proj.weight").scale_grid ==
        ScaleGrid{128, 128});
  CHECK(model.notes().empty());
}

}  // namespace
}  // namespace ktjit::model
