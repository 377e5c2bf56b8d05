// Plans from a model's header alone.
#include "jit/planner.h"

#include <catch2/catch.hpp>
#include <set>

#include "model/open_model.h"
#include "model/sample_model.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit {

TEST_CASE("tensors of equal format and columns share three kernels, or dequant alone") {
  const test::ScratchFolder folder;
  model::write_sample_model(folder.path() / "sample.gguf");
  const model::Model model = model::open_model(folder.path() / "sample.gguf");
  const Plan plan = make_plan(model, make_cuda_target(86));

  std::size_t tensors = plan.skipped.size();
  std::uint64_t bytes = 0;
  std::size_t kernels = 0;
  std::set<std::pair<FormatId, std::int64_t>> keys;
  for (const TensorGroup& group : plan.groups) {
    tensors += group.tensors.size();
    bytes += group.bytes;
    CHECK(keys.insert({group.format, group.cols}).second);
    kernels += group.kernels.size();
    CHECK(group.kernels[0].op == Op::kDequant);
    REQUIRE(group.kernels.size() == (is_dequant_only(group.format) ? 1 : 3));
    if (group.kernels.size() == 3) {
      CHECK(group.kernels[1].op == Op::kMatvec);
      CHECK(group.kernels[2].op == Op::kMatmul);
    }
    for (const KernelSpec& spec : group.kernels) {
      CHECK(spec.weight == group.format);
      CHECK(spec.layout.cols == group.cols);
      CHECK(spec.target == plan.target);
    }
    for (const model::TensorInfo* tensor : group.tensors) {
      CHECK(tensor->format == group.format);
      CHECK(tensor->cols() == group.cols);
    }
  }
  CHECK(tensors == model.tensors().size());
  CHECK(plan.all_kernels().size() == kernels);
  CHECK(plan.skipped.empty());
  CHECK(plan.weight_bytes == bytes);
  CHECK_THAT(judge(plan).reason, Catch::Contains("(i8, i16, i32, i64, q8_1, q8_K: dequant only)"));
}

TEST_CASE("a model with formats that no kernel serves gets the verdict no, and says which") {
  const std::vector<std::byte> data(64);
  model::Model::Contents contents{};
  contents.container = "test";
  for (FormatId format : {FormatId::kF32, FormatId::kU8}) {
    model::TensorInfo tensor;
    tensor.name = get_format(format).name;
    tensor.format = format;
    tensor.ne = {16, 1, 1, 1};
    tensor.n_dims = 1;
    tensor.data = std::span(data).first(model::row_bytes(format, 16));
    contents.tensors.push_back(tensor);
  }
  const model::Model model(std::move(contents));
  const Plan plan = make_plan(model, make_cuda_target(75));
  REQUIRE(plan.skipped.size() == 1);
  CHECK(plan.skipped[0].format == "u8");
  CHECK_THAT(plan.skipped[0].reason, Catch::Contains("u8"));
  CHECK(plan.weight_bytes == 64 + 16);  // the skipped ones count as well
  const TargetVerdict verdict = judge(plan);
  CHECK(verdict.verdict == Verdict::kNo);
  CHECK(verdict.reason.find("u8") != std::string::npos);
  CHECK_FALSE(verdict.advice.empty());
}

TEST_CASE("a model whose formats are all served gets the verdict ok") {
  const model::Model model =
      model::open_model(std::string(KTJIT_TEST_DATA_DIR) + "/models/tiny-llama-q4_k_m.gguf");
  const Plan plan = make_plan(model, make_cuda_target(75));
  CHECK(plan.skipped.empty());
  CHECK(judge(plan).verdict == Verdict::kOk);
  CHECK_THAT(judge(plan).reason, !Catch::Contains("dequant only"));
}

}  // namespace ktjit
