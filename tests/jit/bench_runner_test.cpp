// Measuring on the CPU: what is measured is right, what is wrong is found, nothing depends on a time.
#include "jit/bench_runner.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "codegen/lowering.h"
#include "core/error.h"
#include "jit/bench_weights.h"
#include "jit/toolchain.h"
#include "tests/jit/scratch_folder.h"
#include "tests/jit/slightly_wrong_compiler.h"

namespace ktjit {
namespace {

using Catch::Matchers::Contains;

constexpr std::int64_t kRows = 61, kCols = 512;
constexpr std::size_t kSmallData = std::size_t{1} << 20;

const ScaleGrid kBlocks{32, 128, ScaleType::kF32};

/// One small work of each op.
std::vector<BenchWork> all_kinds(const Target& target) {
  std::vector<BenchWork> works;
  works.push_back({make_spec(Op::kDequant, FormatId::kQ4_K, {}, kCols, target), kRows, 1});
  works.push_back({make_spec(Op::kDequant, FormatId::kFp8E4M3, kBlocks, kCols, target), kRows, 1});
  works.back().spec.y_format = FormatId::kBF16;
  works.push_back({make_spec(Op::kMatvec, FormatId::kQ6_K, {}, kCols, target), kRows, 3});
  works.back().spec.x_columns = 4;
  works.back().spec.x_format = FormatId::kF16;
  works.back().spec.bias = FormatId::kBF16;
  works.push_back(
      {make_spec(Op::kMatvec, FormatId::kNvfp4, fixed_scale_grid(FormatId::kNvfp4), kCols, target),
       kRows, 1});
  works.push_back({make_spec(Op::kMatvec, FormatId::kQ4_K, {}, kCols, target), kRows, 1});
  works.back().spec.matrices = 3;
  works.back().more_rows = {7, 20};
  works.push_back({make_spec(Op::kMatvec, FormatId::kQ8_0, {}, kCols, target), kRows, 2});
  works.back().spec.x_columns = 2;
  works.back().spec.gate = Gate::kSilu;
  works.back().spec.bias = FormatId::kF32;
  works.push_back({make_spec(Op::kMatvec, FormatId::kQ5_0, {}, kCols, target), kRows, 2});
  works.back().spec.x_columns = 2;
  works.back().spec.residual = FormatId::kF16;
  works.push_back(
      {make_spec(Op::kMoeMatvec, FormatId::kFp8E4M3, kBlocks, kCols, target), kRows, 4});
  works.back().experts = 11;
  works.back().slots_per_x = 3;
  works.back().spec.gate = Gate::kGeluTanh;
  works.push_back({make_spec(Op::kMatmul, FormatId::kFp8E4M3, kBlocks, kCols, target), kRows, 9});
  works.back().spec.activation = ActivationPolicy::kAfp8;
  works.back().spec.x_format = FormatId::kFp8E4M3;
  works.back().spec.x_scale = ScaleGrid{1, 128, ScaleType::kF32};
  works.push_back({make_spec(Op::kQuantize, FormatId::kFp8E4M3, kBlocks, kCols, target), kRows, 1});
  works.push_back({make_spec(Op::kQuantize, FormatId::kNvfp4, fixed_scale_grid(FormatId::kNvfp4),
                             kCols, target),
                   kRows, 1});
  works.push_back({make_spec(Op::kQuantize, FormatId::kQ8_0, {}, kCols, target), kRows, 1});
  return works;
}

struct Machine {
  test::ScratchFolder folder;
  Toolchain toolchain;
  std::unique_ptr<runtime::Device> device;
  Target target;

  Machine()
      : toolchain(options(folder), {}),
        device(toolchain.open_device("cpu")),
        target(toolchain.get_target("cpu")) {}

  static Options options(const test::ScratchFolder& folder) {
    Options options;
    options.cache_dir = folder.path() / "cache";
    options.worker = KTJIT_WORKER_PATH;
    return options;
  }
};

BenchSettings small_settings() {
  BenchSettings settings;
  settings.data_bytes = kSmallData;
  settings.samples = 3;
  return settings;
}

/// Compiles all but the kernels whose entry has a word in its name.
class RefusingCompiler : public Compiler {
 public:
  RefusingCompiler(LlvmCompiler& llvm, std::string word) : llvm_(llvm), word_(std::move(word)) {}
  std::string name() const override { return "refusing"; }
  bool serves(const Target& target, ArtifactKind kind) const override {
    return llvm_.serves(target, kind);
  }
  CompilerIdentity identity(const Target& target, ArtifactKind kind) const override {
    return llvm_.identity(target, kind);
  }
  Artifact compile(const CompileRequest& request) override {
    if (request.entry_name.find(word_) != std::string::npos)
      throw CompileError(request.entry_name, name(), "", "", "it does not like the name");
    return llvm_.compile(request);
  }

 private:
  LlvmCompiler& llvm_;
  std::string word_;
};

}  // namespace

TEST_CASE("a bench of every op is right, and says what it did") {
  Machine machine;
  const std::vector<BenchWork> works = all_kinds(machine.target);
  std::size_t called = 0;
  BenchCallbacks callbacks;
  callbacks.on_result = [&](std::size_t done, std::size_t total, const BenchResult&) {
    CHECK(done == ++called);
    CHECK(total == works.size());
  };
  const BenchReport report =
      run_bench(machine.toolchain.engine(), *machine.device, works, small_settings(), callbacks);
  CHECK(called == works.size());
  CHECK(report.ok());
  CHECK(report.read_gbps > 0);
  REQUIRE(report.results.size() == works.size());
  for (std::size_t i = 0; i < works.size(); ++i) {
    const BenchResult& result = report.results[i];
    INFO(result.kernel << ": " << result.first.problem << " " << result.last.problem);
    CHECK(result.work == works[i]);
    CHECK(result.ok());
    const std::vector<std::int64_t> rows = works[i].all_rows();
    CHECK(result.first.rows_checked == std::accumulate(rows.begin(), rows.end(), std::int64_t{0}));
    CHECK(result.last.rows_checked == result.first.rows_checked);
    CHECK(result.first.max_rel_err < 1e-6);
    CHECK(result.copies >= 2);
    CHECK(result.data_bytes >= kSmallData / 2);
    CHECK(result.times.samples_us.size() == 3);
    CHECK_FALSE(result.times.in_graph);
    CHECK(result.times.launches_per_sample % result.copies == 0);
    CHECK(result.times.min_us() <= result.times.median_us());
    CHECK(result.times.median_us() <= result.times.max_us());
    CHECK(result.gbps ==
          Approx(static_cast<double>(result.streamed_bytes) / result.times.median_us() / 1e3));
    CHECK(result.tflops.has_value() == (works[i].spec.op == Op::kMatmul));
  }
}

TEST_CASE("works in turn are right, and a wrong one among them is found") {
  Machine machine;
  std::vector<BenchWork> works = all_kinds(machine.target);
  works.resize(3);
  BenchSettings settings = small_settings();
  settings.in_turn = true;
  const BenchReport report =
      run_bench(machine.toolchain.engine(), *machine.device, works, settings);
  CHECK(report.ok());
  REQUIRE(report.in_turn);
  CHECK(report.in_turn->ok());
  CHECK(report.in_turn->last.size() == works.size());
  std::size_t streamed = 0;
  for (const BenchWork& work : works) streamed += bench_bytes(work).streamed;
  CHECK(report.in_turn->streamed_bytes == streamed);
  CHECK(report.in_turn->gbps > 0);

  Engine wrong({std::make_shared<test::SlightlyWrongCompiler>(machine.toolchain.llvm())}, {});
  const BenchReport wrong_report = run_bench(wrong, *machine.device, works, settings);
  REQUIRE(wrong_report.in_turn);
  CHECK_FALSE(wrong_report.in_turn->ok());
  REQUIRE(wrong_report.in_turn->last.size() == works.size());
  for (const BenchCheck& check : wrong_report.in_turn->last)
    CHECK_THAT(check.problem, Contains("expected"));
}

TEST_CASE("a bench counts the bytes that files have") {
  const Target target = make_cuda_target(86);
  const auto streamed = [](const BenchWork& work) { return bench_bytes(work).streamed; };
  const auto make = [&](Op op, FormatId format, const std::optional<ScaleGrid>& scale) {
    return BenchWork{make_spec(op, format, scale, 4096, target), 1024, 1};
  };
  CHECK(streamed(make(Op::kMatvec, FormatId::kQ4_K, {})) == 1024 * 16 * 144);
  const ScaleGrid blocks{128, 128, ScaleType::kF32};
  CHECK(streamed(make(Op::kMatvec, FormatId::kFp8E4M3, blocks)) == 1024 * 4096 + 8 * 32 * 4);
  BenchWork dequant = make(Op::kDequant, FormatId::kFp8E4M3, blocks);
  dequant.spec.y_format = FormatId::kBF16;
  CHECK(streamed(dequant) == 1024 * 4096 * 3 + 8 * 32 * 4);
  CHECK(streamed(make(Op::kQuantize, FormatId::kQ8_0, {})) == 1024 * (4096 * 4 + 128 * 34));
  BenchWork experts = make(Op::kMoeMatvec, FormatId::kQ4_K, {});
  experts.spec.gate = Gate::kSilu;
  experts.experts = 128;
  experts.n = 8;
  CHECK(streamed(experts) == 2 * 8 * 1024 * 16 * 144);  // of the experts that are used
  CHECK(bench_bytes(experts).copy == 2 * 8 * 1024 * 16 * 144 + 8 * 1024 * 4);
  experts.experts = 0;
  CHECK_THROWS_AS(bench_bytes(experts), SpecError);
  BenchWork three = make(Op::kMatvec, FormatId::kQ4_K, {});
  three.spec.matrices = 3;
  CHECK_THROWS_AS(bench_bytes(three), SpecError);
  three.more_rows = {256, 256};
  CHECK(streamed(three) == (1024 + 512) * 16 * 144);
  CHECK_THROWS_AS(bench_bytes(make(Op::kNanScan, FormatId::kFp8E4M3, {})), SpecError);
  BenchWork huge = dequant;
  huge.rows = std::int64_t{1} << 60;
  CHECK_THROWS_AS(bench_bytes(huge), SpecError);
}

TEST_CASE("a bench finds kernels that are wrong by a thousandth") {
  Machine machine;
  Engine engine({std::make_shared<test::SlightlyWrongCompiler>(machine.toolchain.llvm())}, {});
  std::vector<BenchWork> works = all_kinds(machine.target);
  std::erase_if(works, [](const BenchWork& work) { return work.spec.op == Op::kQuantize; });
  const BenchReport report = run_bench(engine, *machine.device, works, small_settings());
  CHECK_FALSE(report.ok());
  for (const BenchResult& result : report.results) {
    INFO(result.kernel);
    CHECK_FALSE(result.first.ok());
    CHECK_FALSE(result.last.ok());
    CHECK_THAT(result.first.problem, Contains("expected"));
    CHECK(result.first.max_rel_err > 1e-5);
  }
}

TEST_CASE("a result that no launch wrote is found, in every op and copy") {
  Machine machine;
  const auto stream = machine.device->make_stream();
  for (const BenchWork& work : all_kinds(machine.target)) {
    INFO(kernel_name(work.spec));
    const auto operands = make_bench_operands(*machine.device, *stream, work, 2);
    const LoadedKernel kernel = machine.toolchain.engine().load(*machine.device, work.spec);
    for (int copy : {0, 1}) {
      operands->poison(*stream, copy);
      CHECK_FALSE(operands->check(*stream, copy).problem.empty());
      kernel.launch(*stream, work.all_rows(), operands->arguments(copy), work.n);
      const BenchCheck check = operands->check(*stream, copy);
      CHECK(check.problem == "");
      CHECK(check.ok());
    }
  }
}

TEST_CASE("a work whose kernel can't be compiled is not run, the others are") {
  Machine machine;
  Engine engine({std::make_shared<RefusingCompiler>(machine.toolchain.llvm(), "q8_0")}, {});
  const std::vector<BenchWork> works = all_kinds(machine.target);
  const BenchReport report = run_bench(engine, *machine.device, works, small_settings());
  CHECK_FALSE(report.ok());
  REQUIRE(report.results.size() == works.size());
  for (const BenchResult& result : report.results) {
    const bool is_refused = result.work.spec.weight == FormatId::kQ8_0;
    INFO(kernel_name(result.work.spec) << " " << result.not_run);
    CHECK(result.ok() == !is_refused);
    if (is_refused) CHECK_THAT(result.not_run, Contains("it does not like the name"));
  }
}

TEST_CASE("a bench refuses works that can't be before it runs any") {
  Machine machine;
  Engine& engine = machine.toolchain.engine();
  const auto refuses = [&](BenchWork work) {
    std::size_t results = 0;
    BenchCallbacks callbacks;
    callbacks.on_result = [&](std::size_t, std::size_t, const BenchResult&) { ++results; };
    const std::vector<BenchWork> works = {all_kinds(machine.target).front(), std::move(work)};
    CHECK_THROWS_AS(run_bench(engine, *machine.device, works, small_settings(), callbacks),
                    SpecError);
    CHECK(results == 0);
  };
  BenchWork work{make_spec(Op::kMatvec, FormatId::kQ4_K, {}, kCols, machine.target), kRows, 2};
  refuses(work);  // two columns for a kernel of one
  work.n = 0;
  refuses(work);
  work.n = 1;
  work.rows = 0;
  refuses(work);
  work.rows = 1;
  work.spec.layout.cols = 255;
  refuses(work);
  BenchSettings settings = small_settings();
  settings.samples = 0;
  CHECK_THROWS_AS(run_bench(engine, *machine.device, all_kinds(machine.target), settings),
                  SpecError);
}

TEST_CASE("a bench that is stopped says so") {
  Machine machine;
  std::stop_source stop;
  BenchSettings settings = small_settings();
  settings.stop = stop.get_token();
  BenchCallbacks callbacks;
  callbacks.on_result = [&](std::size_t, std::size_t, const BenchResult&) { stop.request_stop(); };
  const BenchReport report = run_bench(machine.toolchain.engine(), *machine.device,
                                       all_kinds(machine.target), settings, callbacks);
  CHECK(report.interrupted);
  CHECK_FALSE(report.ok());
  CHECK(report.results.size() == 1);
}

TEST_CASE("copies exceed the cache where the memory allows it") {
  constexpr std::size_t kMiB = std::size_t{1} << 20, kGiB = std::size_t{1} << 30;
  const std::size_t cache = 60 * kMiB, memory = 140 * kGiB;
  CHECK(bench_copies(300 * kMiB, kGiB, cache, memory) == 4);
  CHECK(bench_copies(9 * kMiB, kGiB, cache, memory) == 64);
  CHECK(bench_copies(kMiB, kGiB, cache, memory) == 240);  // 64 of them would fit
  CHECK(bench_copies(2 * kGiB, kGiB, cache, memory) == 1);
  CHECK(bench_copies(300 * kMiB, kGiB, cache, 1300 * kMiB) == 2);
  CHECK(bench_copies(300 * kMiB, kGiB, cache, 0) == 1);     // whether one fits, the allocation says
  CHECK(bench_copies(kMiB, 8 * kMiB, cache, memory) == 8);  // what was asked for is what is done
}

TEST_CASE("random weights decode to moderate numbers in every format") {
  for (const Format& format : all_formats()) {
    if (!codegen::is_served(format.id) || format.family == FormatFamily::kInteger) continue;
    std::optional<ScaleGrid> grid = fixed_scale_grid(format.id);
    if (format.family == FormatFamily::kFp8) grid = ScaleGrid{4, 64, ScaleType::kBF16};
    const BenchWeights weights({format.id, grid}, 13, kCols);
    double sum = 0;
    for (std::int64_t row = 0; row < 13; ++row) {
      std::vector<float> values(kCols);
      const BenchRow from = weights.row(0, row);
      decode_rows(from.view(), 0, 1, values);
      for (float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
    }
    INFO(format.name);
    CHECK(std::sqrt(sum / (13 * kCols)) * std::sqrt(double{kCols}) == Approx(1).epsilon(0.5));
  }
}

TEST_CASE("copies of random weights are what the reference is given") {
  Machine machine;
  const auto stream = machine.device->make_stream();
  for (const auto& [format, grid] :
       {std::pair{FormatId::kQ6_K, std::optional<ScaleGrid>()},
        std::pair{FormatId::kFp8E5M2, std::optional(kBlocks)},
        std::pair{FormatId::kFp8E4M3, std::optional(ScaleGrid{0, 0})},
        std::pair{FormatId::kNvfp4, fixed_scale_grid(FormatId::kNvfp4)}}) {
    const BenchWeights weights({format, grid}, kRows, kCols);
    std::set<std::vector<float>> first_rows;
    for (int copy : {0, 1, 2}) {
      const auto buffer = machine.device->allocate(weights.code_bytes());
      weights.upload_codes(*machine.device, *stream, copy, *buffer);
      std::vector<std::byte> bytes(weights.code_bytes());
      machine.device->download(*stream, *buffer, 0, bytes);
      stream->synchronize();
      std::vector<float> all(kRows * kCols), row(kCols);
      decode_rows({format, kRows, kCols, bytes, grid, weights.scales()}, 0, kRows, all);
      for (std::int64_t r = 0; r < kRows; ++r) {
        const BenchRow from = weights.row(copy, r);
        decode_rows(from.view(), 0, 1, row);
        CHECK(std::equal(row.begin(), row.end(), all.begin() + r * kCols));
      }
      first_rows.emplace(all.begin(), all.begin() + kCols);
    }
    CHECK(first_rows.size() == 3);
  }
}

}  // namespace ktjit
