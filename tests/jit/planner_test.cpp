// Plans from a model's header alone.
#include "jit/planner.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <stdexcept>

#include "model/open_model.h"
#include "model/sample_model.h"
#include "tests/jit/made_model.h"
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

TEST_CASE(
    "a plan for prepared weights has them where format and target allow, in rows of any length") {
  constexpr std::int64_t kExperts = 8;
  constexpr std::int64_t kManyCols = std::int64_t{1}
                                     << 17;  // more digits of x than shared memory holds
  test::MadeModel made;
  made.add("blk.0.attn_q.weight", FormatId::kQ4_K, 100, 512);
  made.add("blk.0.attn_norm.weight", FormatId::kF32, 1, 512);
  made.add("wide.weight", FormatId::kQ4_K, 32, kManyCols);
  made.add("blk.0.ffn_up_exps.weight", FormatId::kIQ3_S, 24, 256, kExperts);
  const model::Model model = made.make();
  const auto layout_of = [](const Plan& plan, FormatId format, std::int64_t cols) {
    for (const TensorGroup& group : plan.groups) {
      if (group.format == format && group.cols == cols) return group.matvec_layout;
    }
    throw std::runtime_error("no such group");
  };

  const Plan plan = make_plan(model, make_cuda_target(86), LayoutKind::kPrepared);
  CHECK(plan.has_prepared());
  CHECK(layout_of(plan, FormatId::kQ4_K, 512) == LayoutKind::kPrepared);
  CHECK(layout_of(plan, FormatId::kF32, 512) == LayoutKind::kNative);
  CHECK(layout_of(plan, FormatId::kQ4_K, kManyCols) == LayoutKind::kPrepared);
  for (const TensorGroup& group : plan.groups) {
    const bool is_prepared = group.matvec_layout == LayoutKind::kPrepared;
    std::map<Op, int> of_op;
    for (const KernelSpec& spec : group.kernels) {
      ++of_op[spec.op];
      CHECK_NOTHROW(validate(spec));
      const bool reads_prepared =
          is_matvec(spec.op) || spec.op == Op::kMoeMatmul || spec.op == Op::kRestore;
      CHECK((spec.layout.kind == LayoutKind::kPrepared) == (is_prepared && reads_prepared));
    }
    CHECK(of_op[Op::kPrepare] == (is_prepared ? 1 : 0));
    CHECK(of_op[Op::kRestore] == (is_prepared ? 1 : 0));
    for (const Op op : {Op::kMoeMatvec, Op::kMoeMatmul})
      CHECK(of_op[op] == (group.format == FormatId::kIQ3_S ? 1 : 0));
  }
  // 100 rows of q4_K are padded to 112; each expert's 24 rows of iq3_s to 32, and its units are larger than blocks.
  const std::uint64_t q4_k = 12 * 2 * 144;
  const std::uint64_t iq3_s = kExperts * (32 * (128 + 4 + 2) - 24 * 110);
  CHECK(plan.extra_bytes_of_prepared() == q4_k + iq3_s);

  const Target too_old = make_cuda_target(60);
  const Plan none = make_plan(model, too_old, LayoutKind::kPrepared);
  CHECK_FALSE(none.has_prepared());
  CHECK(none.extra_bytes_of_prepared() == 0);
  CHECK(none.all_kernels() == make_plan(model, too_old).all_kernels());

  const Plan on_cpu = make_plan(model, parse_target("cpu:x86-64-v3", {}), LayoutKind::kPrepared);
  CHECK(on_cpu.has_prepared());
  CHECK(layout_of(on_cpu, FormatId::kQ4_K, 512) == LayoutKind::kInterleaved);
  CHECK(layout_of(on_cpu, FormatId::kF32, 512) == LayoutKind::kNative);
  CHECK(layout_of(on_cpu, FormatId::kIQ3_S, 256) == LayoutKind::kInterleaved);
  // The same 12 rows of zeros. The experts' moe_matvec reads them as they are.
  CHECK(on_cpu.extra_bytes_of_prepared() == q4_k);
  for (const KernelSpec& spec : on_cpu.all_kernels()) CHECK_NOTHROW(validate(spec));
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
