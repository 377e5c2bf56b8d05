// The main job on the CPU: real models pass, wrong results are found.
#include "jit/model_runner.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "jit/tensor_ops.h"
#include "jit/toolchain.h"
#include "model/open_model.h"
#include "model/sample_model.h"
#include "tests/jit/scratch_folder.h"
#include "tests/jit/slightly_wrong_compiler.h"

namespace ktjit {
namespace {

const std::string kModels = std::string(KTJIT_TEST_DATA_DIR) + "/models/";

Options options_with_cache(const std::filesystem::path& cache) {
  Options options;
  options.cache_dir = cache;
  options.worker = KTJIT_WORKER_PATH;
  return options;
}

RunReport run(Toolchain& toolchain, const model::Model& model, bool all) {
  const auto device = toolchain.open_device("cpu");
  RunOptions options;
  options.all_tensors = all;
  return run_model(toolchain.engine(), *device, toolchain.get_target("cpu"), model, options);
}

ScaledTensorView view_of(const model::TensorInfo& tensor) {
  return {tensor.format, tensor.rows(),     tensor.cols(),
          tensor.data,   tensor.scale_grid, tensor.scale_data};
}

}  // namespace

TEST_CASE("every tensor of the sample model passes on the CPU") {
  const test::ScratchFolder folder;
  model::write_sample_model(folder.path() / "sample.gguf");
  const model::Model model = model::open_model(folder.path() / "sample.gguf");
  Toolchain toolchain(options_with_cache(folder.path() / "cache"), {});
  const RunReport report = run(toolchain, model, true);
  for (const KernelRun& kernel : report.kernels) {
    INFO(kernel.tensor << " " << op_name(kernel.op) << ": " << kernel.problem);
    CHECK(kernel.ok);
    // 32 results a row: of large tensors matmul has some rows checked.
    CHECK(kernel.rows_checked >=
          (kernel.op == Op::kMatmul ? std::min<std::int64_t>(kernel.rows, 100) : kernel.rows));
    CHECK(kernel.time_us > 0);
    if (kernel.op == Op::kDequant) CHECK(kernel.max_abs_err == 0.0);
    if (kernel.op == Op::kMatvec) CHECK(kernel.max_rel_err < 1e-5);
  }
  CHECK(report.ok);
  CHECK(report.read_gbps > 0.1);
  CHECK(report.skipped.empty());
  std::size_t kernels = 0;
  for (const model::TensorInfo& tensor : model.tensors())
    kernels += is_dequant_only(tensor.format) ? 1 : 3;
  CHECK(report.kernels.size() == kernels);
  CHECK(report.compiled > 0);
  CHECK(report.cache_hits == 0);
}

TEST_CASE("the sample's weights deviate by 1 / sqrt(columns) in every format") {
  const test::ScratchFolder folder;
  model::write_sample_model(folder.path() / "sample.gguf");
  const model::Model model = model::open_model(folder.path() / "sample.gguf");
  for (const model::TensorInfo& tensor : model.tensors()) {
    if (tensor.n_dims == 1 || get_format(tensor.format).family == FormatFamily::kInteger) continue;
    std::vector<float> weights(static_cast<std::size_t>(tensor.elements()));
    decode_rows(view_of(tensor), 0, tensor.rows(), weights);
    double sum_of_squares = 0;
    for (float weight : weights) sum_of_squares += std::pow(static_cast<double>(weight), 2);
    const double deviation = std::sqrt(sum_of_squares / static_cast<double>(weights.size()));
    INFO(tensor.name);
    // The FP4 formats' scales are coarse.
    CHECK(deviation * std::sqrt(static_cast<double>(tensor.cols())) == Approx(1).epsilon(0.35));
  }
}

TEST_CASE("the second run compiles nothing and starts no worker") {
  const test::ScratchFolder folder;
  const model::Model model = model::open_model(kModels + "tiny-llama-q4_k_m.gguf");
  std::size_t compiled = 0;
  {
    Toolchain toolchain(options_with_cache(folder.path()), {});
    compiled = run(toolchain, model, false).compiled;
    CHECK(compiled > 0);
    CHECK(toolchain.workers_started() > 0);
  }
  Toolchain toolchain(options_with_cache(folder.path()), {});
  const RunReport report = run(toolchain, model, false);
  CHECK(report.ok);
  CHECK(report.compiled == 0);
  CHECK(report.cache_hits == compiled);
  CHECK(toolchain.workers_started() == 0);
  CHECK(toolchain.compiler_libraries_opened() == 0);
}

TEST_CASE("a kernel that is wrong by a thousandth is found out") {
  const test::ScratchFolder folder;
  model::write_sample_model(folder.path() / "sample.gguf");
  const model::Model model = model::open_model(folder.path() / "sample.gguf");
  Toolchain toolchain(options_with_cache(folder.path() / "cache"), {});
  Engine engine({std::make_shared<test::SlightlyWrongCompiler>(toolchain.llvm())}, {});
  const auto device = toolchain.open_device("cpu");
  const RunReport report = run_model(engine, *device, toolchain.get_target("cpu"), model, {});
  CHECK_FALSE(report.ok);
  for (const KernelRun& kernel : report.kernels) {
    INFO(kernel.tensor << " " << op_name(kernel.op));
    if (kernel.cols >= 32) CHECK_FALSE(kernel.ok);
    if (!kernel.ok) CHECK(kernel.problem.find("expected") != std::string::npos);
  }
}

TEST_CASE("FP8 tensors are scanned, and run by the kernels that the scan allows") {
  constexpr std::int64_t kRows = 130, kCols = 256;
  std::vector<std::byte> clean(kRows * kCols), scales(2 * 2 * sizeof(float));
  for (std::size_t i = 0; i < clean.size(); ++i) clean[i] = static_cast<std::byte>(i % 0x7f);
  std::vector<std::byte> spoilt = clean;
  spoilt.back() = std::byte{0xff};
  const float values[] = {0.5f, 0.25f, 2.0f, 1.0f};
  std::memcpy(scales.data(), values, scales.size());
  model::Model::Contents contents{};
  contents.container = "test";
  for (const auto& [name, data] : {std::pair{"clean", &clean}, {"spoilt", &spoilt}}) {
    model::TensorInfo tensor;
    tensor.name = name;
    tensor.format = FormatId::kFp8E4M3;
    tensor.ne = {kCols, kRows, 1, 1};
    tensor.n_dims = 2;
    tensor.data = *data;
    tensor.scale_grid = ScaleGrid{128, 128, ScaleType::kF32};
    tensor.scale_data = scales;
    contents.tensors.push_back(tensor);
  }
  const model::Model model(std::move(contents));
  const test::ScratchFolder folder;
  Toolchain toolchain(options_with_cache(folder.path()), {});
  const RunReport report = run(toolchain, model, true);
  CHECK(report.ok);
  REQUIRE(report.kernels.size() == 6);
  for (const KernelRun& kernel : report.kernels) {
    INFO(kernel.tensor << " " << op_name(kernel.op) << ": " << kernel.problem);
    CHECK(kernel.ok);
    const std::string scanned =
        kernel.tensor == "clean" ? "no NaN codes (scanned)" : "has NaN or infinite codes (scanned)";
    CHECK_THAT(kernel.lowering, Catch::Contains(scanned));
  }
}

TEST_CASE("prepared weights are made, taken back and multiplied in the simulator") {
  const model::Model model = model::open_model(kModels + "tiny-llama-q4_k_m.gguf");
  const test::ScratchFolder folder;
  Toolchain toolchain(options_with_cache(folder.path()), {});
  const auto device = toolchain.open_device("sim");
  RunOptions options;
  options.matvec_layout = LayoutKind::kPrepared;
  const RunReport report =
      run_model(toolchain.engine(), *device, toolchain.get_target("sm_86"), model, options);
  int prepared = 0, restored = 0, multiplied = 0;
  for (const KernelRun& kernel : report.kernels) {
    INFO(kernel.tensor << " " << op_name(kernel.op) << ": " << kernel.problem);
    CHECK(kernel.ok);
    CHECK(kernel.rows_checked > 0);
    prepared += kernel.op == Op::kPrepare ? 1 : 0;
    restored += kernel.op == Op::kRestore ? 1 : 0;
    multiplied += kernel.op == Op::kMatvec && kernel.layout == LayoutKind::kPrepared ? 1 : 0;
    if (kernel.op == Op::kRestore) CHECK(kernel.max_abs_err == 0.0);
  }
  CHECK(report.ok);
  CHECK(prepared >= 2);  // q4_K and q6_K
  CHECK(restored == prepared);
  CHECK(multiplied == prepared);
}

TEST_CASE("nothing to check is no success") {
  const test::ScratchFolder folder;
  const model::Model model = model::open_model(kModels + "tiny-vocab-only.gguf");
  Toolchain toolchain(options_with_cache(folder.path()), {});
  CHECK_FALSE(run(toolchain, model, true).ok);
}

TEST_CASE("matvec agrees with what llama.cpp's own decode gives in double") {
  std::ifstream file(kModels + "tiny-llama-q4_k_m.ref.json");
  const nlohmann::json reference = nlohmann::json::parse(file);
  const test::ScratchFolder folder;
  Toolchain toolchain(options_with_cache(folder.path()), {});
  const auto device = toolchain.open_device("cpu");
  // The whole file, and the same model in three parts.
  for (const char* name : {"tiny-llama-q4_k_m.gguf", "tiny-llama-q4_k_m-00002-of-00003.gguf"}) {
    const model::Model model = model::open_model(kModels + name);
    std::size_t compared = 0;
    for (const auto& expected : reference.at("tensors")) {
      const model::TensorInfo& tensor = model.get_tensor(expected.at("name").get<std::string>());
      std::vector<float> x(static_cast<std::size_t>(tensor.cols()));
      for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i + 1)));
      const std::vector<float> y =
          multiply(toolchain.engine(), *device, toolchain.get_target("cpu"), view_of(tensor), x, 1);
      const auto& want = expected.at("y");
      REQUIRE(y.size() == want.size());
      double worst = 0, largest = 0;
      for (std::size_t r = 0; r < y.size(); ++r) {
        worst = std::max(worst, std::abs(static_cast<double>(y[r]) - want[r].get<double>()));
        largest = std::max(largest, std::abs(want[r].get<double>()));
      }
      INFO(tensor.name);
      CHECK(worst <= 2e-6 * largest);  // the file's numbers have nine digits
      compared += y.size();
    }
    CHECK(compared == 1152);
  }
}

}  // namespace ktjit
