// Plans from a model's header alone.
#include "jit/planner.h"

#include <catch2/catch.hpp>
#include <set>

#include "model/open_model.h"
#include "model/sample_model.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit {

TEST_CASE("tensors of equal format and columns share three kernels") {
  const test::ScratchFolder folder;
  model::write_sample_model(folder.path() / "sample.gguf");
  const model::Model model = model::open_model(folder.path() / "sample.gguf");
  const Plan plan = make_plan(model, make_cuda_target(86));

  std::size_t tensors = plan.skipped.size();
  std::uint64_t bytes = 0;
  std::set<std::pair<FormatId, std::int64_t>> keys;
  for (const TensorGroup& group : plan.groups) {
    tensors += group.tensors.size();
    bytes += group.bytes;
    CHECK(keys.insert({group.format, group.cols}).second);
    REQUIRE(group.kernels.size() == 3);
    CHECK(group.kernels[0].op == Op::kDequant);
    CHECK(group.kernels[1].op == Op::kMatvec);
    CHECK(group.kernels[2].op == Op::kMatmul);
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
  CHECK(plan.all_kernels().size() == 3 * plan.groups.size());
  CHECK(plan.weight_bytes > bytes);  // the skipped ones count as well
  REQUIRE_FALSE(plan.skipped.empty());
  for (const SkippedTensor& skipped : plan.skipped)
    CHECK(skipped.reason.find(skipped.format) != std::string::npos);
}

TEST_CASE("a model with formats that no kernel serves gets the verdict no, and says which") {
  const model::Model model =
      model::open_model(std::string(KTJIT_TEST_DATA_DIR) + "/models/tiny-qwen2-iq4_xs.gguf");
  const Plan plan = make_plan(model, make_cuda_target(75));
  const TargetVerdict verdict = judge(plan);
  CHECK(verdict.verdict == Verdict::kNo);
  CHECK(verdict.reason.find("iq4_xs") != std::string::npos);
  CHECK_FALSE(verdict.advice.empty());
}

TEST_CASE("a model whose formats are all served gets the verdict ok") {
  const model::Model model =
      model::open_model(std::string(KTJIT_TEST_DATA_DIR) + "/models/tiny-llama-q4_k_m.gguf");
  const Plan plan = make_plan(model, make_cuda_target(75));
  CHECK(plan.skipped.empty());
  CHECK(judge(plan).verdict == Verdict::kOk);
}

}  // namespace ktjit
