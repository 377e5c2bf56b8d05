// Tuning with a device whose times are scripted: who wins, what is kept, and who finds it again.
#include "jit/tuner.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <map>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/maintenance.h"
#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/model_tuner.h"
#include "tests/jit/fake_toolchain.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

using test::FakeCompiler;
using test::FakeDevice;

constexpr TuningSize kSize{4096, 1};

KernelSpec q4_matvec() {
  return test::make_spec(Op::kMatvec, "q4_K", 4096, make_cuda_target(90, "a"));
}

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

/// Times by knobs: 10 us for those that are not named.
struct Script {
  std::map<std::string, std::vector<double>> times_us;  // one after another, the last one stays
  std::map<std::string, std::string> wrong;             // what the check says
  double spread = 0.001;
  int measured = 0;
  std::vector<std::string> order;

  MakeBench make() {
    return [this](const KernelSpec&, const TuningSize&) {
      return KernelBench{[this](const LoadedKernel& kernel) { return measure(kernel); },
                         [this](const LoadedKernel& kernel) { return check(kernel); }};
    };
  }
  Measurement measure(const LoadedKernel& kernel) {
    const std::string knobs = knobs_text(kernel.built.spec.tuning);
    ++measured;
    order.push_back(knobs);
    double us = 10;
    const auto script = times_us.find(knobs);
    if (script != times_us.end()) {
      us = script->second.front();
      if (script->second.size() > 1) script->second.erase(script->second.begin());
    }
    return {us, spread, 1000 / us};
  }
  std::string check(const LoadedKernel& kernel) {
    const auto found = wrong.find(knobs_text(kernel.built.spec.tuning));
    return found == wrong.end() ? "" : found->second;
  }
};

struct Bench {
  test::ScratchFolder folder;
  std::shared_ptr<FakeCompiler> compiler = std::make_shared<FakeCompiler>();
  FakeDevice device;
  Script script;
  TunerOptions options;
  std::vector<std::string> warnings;

  cache::DiskCacheOptions cache_options() {
    cache::DiskCacheOptions cache;
    cache.writable = cache::RootOptions{(folder.path() / "cache").string()};
    cache.log = [this](std::string_view line) { warnings.emplace_back(line); };
    return cache;
  }
  Engine make_engine(EngineOptions engine_options = {}) {
    return Engine({compiler}, cache_options(), {}, engine_options);
  }
  TuneResult tune(Engine& engine) {
    return tune_kernel(engine, device, q4_matvec(), kSize, script.make(), options);
  }
  /// In an engine of its own, as another process would.
  TuneResult tune() {
    Engine engine = make_engine();
    return tune(engine);
  }
  std::optional<TunedKnobs> knobs_in_new_engine() {
    Engine engine = make_engine();
    return engine.tuned_knobs(device, q4_matvec(), kSize);
  }
};

EngineOptions sealed_options() {
  EngineOptions options;
  options.sealed = true;
  return options;
}

EngineOptions untuned() {
  EngineOptions options;
  options.tuning = false;
  return options;
}

}  // namespace

TEST_CASE("candidates are few, the default first, and no two are the same kernel") {
  for (const char* format : {"q4_K", "q8_0", "bf16", "fp8_e4m3"}) {
    for (const Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul, Op::kMoeMatmul}) {
      for (const int sm : {61, 75, 86, 90}) {
        const KernelSpec spec = test::make_spec(op, format, 4096, make_cuda_target(sm));
        const std::vector<Tuning> candidates = candidates_for(spec);
        INFO(format << " " << op_name(op) << " sm_" << sm);
        // A matmul without tensor cores has one tile: that of bf16 weights with f32 activations, too.
        const bool has_knobs = op != Op::kMatmul || (spec.weight != FormatId::kBF16 && sm >= 75);
        CHECK((candidates.size() >= 2) == has_knobs);
        CHECK(candidates.size() <= 12);
        CHECK(candidates.front() == spec.tuning);
        std::vector<std::string> texts;
        for (const Tuning& tuning : candidates) {
          KernelSpec with_knobs = spec;
          with_knobs.tuning = tuning;
          texts.push_back(codegen::emit(with_knobs).source);
        }
        std::sort(texts.begin(), texts.end());
        CHECK(std::adjacent_find(texts.begin(), texts.end()) == texts.end());
      }
    }
  }
}

TEST_CASE("where there are no knobs there is nothing to tune") {
  const KernelSpec cpu = test::make_spec(Op::kMatvec, "q4_K", 4096, make_cpu_target("native", {}));
  CHECK(candidates_for(cpu) == std::vector<Tuning>{Tuning{}});
  Bench bench;
  Engine engine = bench.make_engine();
  const TuneResult result =
      tune_kernel(engine, bench.device, cpu, kSize, bench.script.make(), bench.options);
  CHECK(result.outcome == TuneOutcome::kNoKnobs);
  CHECK(bench.script.measured == 0);
}

TEST_CASE("the fastest candidate wins, is recorded, and every kernel of the spec takes its knobs") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}},
                           {"threads 64, rows_per_warp 2", {9}}};
  const TuneResult result = bench.tune();
  CHECK(result.outcome == TuneOutcome::kMeasured);
  REQUIRE(result.tuned);
  CHECK(knobs_text(result.tuned->best) == "threads 256, rows_per_warp 2");
  CHECK(result.tuned->timings.size() == candidates_for(q4_matvec()).size());
  CHECK(result.tuned->compiler == "fake 1");

  // Another process.
  Engine engine = bench.make_engine();
  const KernelSpec tuned = engine.tuned(bench.device, q4_matvec(), {5000, 1});
  CHECK(tuned.tuning == result.tuned->best);
  KernelSpec expected = q4_matvec();
  expected.tuning = {.threads = 256, .rows_per_warp = 2};
  CHECK(tuned == expected);
  CHECK(codegen::emit(tuned).source == codegen::emit(expected).source);
  CHECK(engine.load(bench.device, tuned).built.from_cache());
  CHECK(engine.tuned_knobs(bench.device, q4_matvec(), kSize)->gbps == 125);
  CHECK(engine.tuned_knobs(bench.device, q4_matvec(), kSize)->default_gbps == 100);
  // What it was not measured for, and what somebody chose, stays.
  CHECK(engine.tuned(bench.device, q4_matvec(), {100000, 1}) == q4_matvec());
  KernelSpec chosen = q4_matvec();
  chosen.tuning.threads = 64;
  CHECK(engine.tuned(bench.device, chosen, kSize) == chosen);
}

TEST_CASE("the default stays unless a candidate beats it by more than the noise") {
  Bench bench;
  SECTION("a gain below two per cent") {
    bench.script.times_us = {{"threads 256, rows_per_warp 2", {9.81}}};
  }
  SECTION("a gain below the spread of the times") {
    bench.script.times_us = {{"threads 256, rows_per_warp 2", {9}}};
    bench.script.spread = 0.11;
  }
  SECTION("a gain that does not come again") {
    bench.script.times_us = {{"threads 256, rows_per_warp 2", {8, 9.9, 10, 10.1}}};
  }
  SECTION("a default that had a slow start") { bench.script.times_us = {{"default", {13, 10}}}; }
  const TuneResult result = bench.tune();
  CHECK(result.outcome == TuneOutcome::kMeasured);
  CHECK(result.tuned->best == Tuning{});
  CHECK(bench.knobs_in_new_engine()->tuning == Tuning{});
}

TEST_CASE("if the fastest is not confirmed the next one may win") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {5, 11}},
                           {"threads 64, rows_per_warp 2", {8}}};
  CHECK(knobs_text(bench.tune().tuned->best) == "threads 64, rows_per_warp 2");
}

TEST_CASE("the final is measured by turns") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  bench.tune();
  const std::vector<std::string>& order = bench.script.order;
  REQUIRE(order.size() > 6);
  const std::vector<std::string> last(order.end() - 6, order.end());
  const std::string winner = "threads 256, rows_per_warp 2";
  CHECK(last == std::vector<std::string>{"default", winner, "default", winner, "default", winner});
}

TEST_CASE("a candidate with a wrong result never wins, however fast") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {1}}};
  bench.script.wrong = {{"threads 256, rows_per_warp 2", "y[0, 7] is 1, expected 2"}};
  const TuneResult result = bench.tune();
  CHECK(result.tuned->best == Tuning{});
  const KnobTiming& timing = result.tuned->timing_of({.threads = 256, .rows_per_warp = 2});
  CHECK_FALSE(timing.is_timed());
  CHECK(timing.problem == "wrong result: y[0, 7] is 1, expected 2");
  CHECK(std::find(bench.script.order.begin(), bench.script.order.end(),
                  "threads 256, rows_per_warp 2") == bench.script.order.end());
}

TEST_CASE("a default with a wrong result is a finding, and nothing is recorded") {
  Bench bench;
  bench.script.wrong = {{"default", "y[0, 7] is 1, expected 2"}};
  const TuneResult result = bench.tune();
  CHECK(result.outcome == TuneOutcome::kDefaultWrong);
  CHECK(result.problem == "wrong result: y[0, 7] is 1, expected 2");
  CHECK_FALSE(bench.knobs_in_new_engine().has_value());
}

TEST_CASE("a candidate that doesn't compile is left out with its reason") {
  Bench bench;
  bench.script.times_us = {{"threads 64, rows_per_warp 2", {8}}};
  KernelSpec refused = q4_matvec();
  refused.tuning = {.threads = 256, .rows_per_warp = 2};
  bench.compiler->on_compile = [text =
                                    codegen::emit(refused).source](const CompileRequest& request) {
    if (request.source == text) throw CompileError("matvec", "fake", "", "", "too many registers");
  };
  const TuneResult result = bench.tune();
  CHECK(knobs_text(result.tuned->best) == "threads 64, rows_per_warp 2");
  CHECK_THAT(result.tuned->timing_of(refused.tuning).problem,
             Catch::StartsWith("can't be had: ") && Catch::Contains("too many registers"));
}

TEST_CASE("what is recorded is not measured again, unless asked for") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  const TuneResult first = bench.tune();
  const int measured = bench.script.measured;
  const TuneResult second = bench.tune();
  CHECK(second.outcome == TuneOutcome::kRecorded);
  CHECK(second.tuned == first.tuned);
  CHECK(bench.script.measured == measured);

  bench.options.again = true;
  bench.script.times_us = {{"threads 64, rows_per_warp 2", {7}}};
  CHECK(bench.tune().outcome == TuneOutcome::kMeasured);
  CHECK(knobs_text(bench.knobs_in_new_engine()->tuning) == "threads 64, rows_per_warp 2");
}

TEST_CASE("sizes are measured each for itself, in one record") {
  Bench bench;
  Engine engine = bench.make_engine();
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  bench.tune(engine);
  bench.script.times_us = {{"threads 64, rows_per_warp 2", {8}}};
  tune_kernel(engine, bench.device, q4_matvec(), {128000, 1}, bench.script.make(), bench.options);
  CHECK(engine.tuned(bench.device, q4_matvec(), kSize).tuning.threads == 256);
  CHECK(engine.tuned(bench.device, q4_matvec(), {128000, 1}).tuning.threads == 64);
  const auto listed = cache::Maintenance({(bench.folder.path() / "cache").string()}).list();
  CHECK(std::count_if(listed.begin(), listed.end(), [](const cache::ListedEntry& entry) {
          return entry.manifest.value("kind", "") == "tuning";
        }) == 1);
}

TEST_CASE("a deadline ends a tuning with what was measured, and the next one completes it") {
  Bench bench;
  bench.options.deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  CHECK(bench.tune().outcome == TuneOutcome::kNoTime);
  CHECK(bench.script.measured == 0);

  // Over as soon as the default has been measured.
  bench.options.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(3600);
  Engine engine = bench.make_engine();
  const auto make = [&](const KernelSpec& spec, const TuningSize& size) {
    KernelBench made = bench.script.make()(spec, size);
    made.measure = [&bench, measure = made.measure](const LoadedKernel& kernel) {
      bench.options.deadline = std::chrono::steady_clock::now();
      return measure(kernel);
    };
    return made;
  };
  const TuneResult cut = tune_kernel(engine, bench.device, q4_matvec(), kSize, make, bench.options);
  CHECK(cut.outcome == TuneOutcome::kMeasured);
  CHECK_FALSE(cut.tuned->complete);
  CHECK(cut.tuned->timings.size() == 1);

  bench.options.deadline.reset();
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  const TuneResult whole = bench.tune();
  CHECK(whole.outcome == TuneOutcome::kMeasured);
  CHECK(whole.tuned->complete);
}

TEST_CASE("a stop ends a tuning and leaves no record") {
  Bench bench;
  std::stop_source stop;
  bench.options.stop = stop.get_token();
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  Engine engine = bench.make_engine();
  const auto make = [&](const KernelSpec& spec, const TuningSize& size) {
    KernelBench made = bench.script.make()(spec, size);
    made.measure = [&stop, measure = made.measure](const LoadedKernel& kernel) {
      stop.request_stop();
      return measure(kernel);
    };
    return made;
  };
  CHECK_THROWS_AS(tune_kernel(engine, bench.device, q4_matvec(), kSize, make, bench.options),
                  InterruptedError);
  CHECK_FALSE(bench.knobs_in_new_engine().has_value());
}

TEST_CASE("another driver, another GPU and tuning off have the default knobs") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  bench.tune();
  bench.device.driver = "CUDA 14";
  CHECK_FALSE(bench.knobs_in_new_engine().has_value());
  bench.device.driver = "CUDA 13";
  CHECK(bench.knobs_in_new_engine().has_value());
  Engine off = bench.make_engine(untuned());
  CHECK(off.tuned(bench.device, q4_matvec(), kSize) == q4_matvec());
}

TEST_CASE("a damaged record is none, and no error; the next tuning replaces it") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  bench.tune();
  cache::Maintenance maintenance({(bench.folder.path() / "cache").string()});
  std::string path;
  maintenance.visit([&](const cache::CheckedEntry& entry) {
    if (entry.stored && is_tuning_record(entry.stored->entry)) path = entry.path;
  });
  REQUIRE_FALSE(path.empty());
  std::ifstream in(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  const auto write = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  };
  for (const std::size_t at :
       {std::size_t{3}, std::size_t{50}, std::size_t{100}, whole.size() - 9}) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    write(damaged);
    CHECK_FALSE(bench.knobs_in_new_engine().has_value());
    CHECK(maintenance.verify().damaged.size() == 1);
  }
  for (const std::size_t length : {std::size_t{0}, std::size_t{71}, whole.size() - 1}) {
    write(whole.substr(0, length));
    CHECK_FALSE(bench.knobs_in_new_engine().has_value());
  }
  CHECK(bench.tune().outcome == TuneOutcome::kMeasured);
  CHECK(bench.knobs_in_new_engine().has_value());
  CHECK(maintenance.verify().damaged.empty());
}

TEST_CASE("a sealed engine takes tuned knobs only if their kernel is there") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  bench.tune();
  {
    Engine sealed = bench.make_engine(sealed_options());
    const KernelSpec tuned = sealed.tuned(bench.device, q4_matvec(), kSize);
    CHECK(tuned.tuning.threads == 256);
    CHECK(sealed.load(bench.device, tuned).built.spec == tuned);
  }
  KernelSpec tuned = q4_matvec();
  tuned.tuning = {.threads = 256, .rows_per_warp = 2};
  {
    cache::DiskCache disk(bench.cache_options());
    disk.discard(bench.make_engine().key_for(tuned, ArtifactKind::kCubin));
  }
  Engine sealed = bench.make_engine(sealed_options());
  CHECK(sealed.tuned(bench.device, q4_matvec(), kSize) == q4_matvec());
  CHECK_NOTHROW(sealed.load(bench.device, q4_matvec()));
}

TEST_CASE("without a cache folder the process remembers what it measured") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  Engine engine({bench.compiler}, cache::DiskCacheOptions{});
  CHECK_FALSE(engine.tuning().keeps());
  CHECK_FALSE(engine.tuned_knobs(bench.device, q4_matvec(), kSize).has_value());
  bench.tune(engine);
  CHECK(engine.tuned(bench.device, q4_matvec(), kSize).tuning.threads == 256);
  CHECK(bench.tune(engine).outcome == TuneOutcome::kRecorded);
}

TEST_CASE("records in a folder that is only read serve, and what is measured goes to one's own") {
  Bench site;
  site.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  site.tune();
  Bench mine;
  cache::DiskCacheOptions options = mine.cache_options();
  options.read_only.push_back({(site.folder.path() / "cache").string()});
  {
    Engine engine({mine.compiler}, options);
    CHECK(engine.tuned(mine.device, q4_matvec(), kSize).tuning.threads == 256);
    tune_kernel(engine, mine.device, q4_matvec(), {128000, 1}, mine.script.make(), mine.options);
  }
  const std::optional<TunedKnobs> own = mine.knobs_in_new_engine();
  REQUIRE(own);  // the site's sizes came along
  CHECK(own->tuning.threads == 256);
}

TEST_CASE("two processes that tune at once measure once, and both have the record") {
  Bench bench;
  const std::filesystem::path log = bench.folder.path() / "measured";
  const auto child = [&] {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    int code = 1;
    try {
      bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
      const auto make = [&](const KernelSpec& spec, const TuningSize& size) {
        std::ofstream(log, std::ios::app) << "once\n";
        return bench.script.make()(spec, size);
      };
      Engine engine = bench.make_engine();
      const TuneResult result =
          tune_kernel(engine, bench.device, q4_matvec(), kSize, make, bench.options);
      code = result.tuned && result.tuned->best.threads == 256 ? 0 : 2;
    } catch (...) {
    }
    ::_exit(code);
  };
  const pid_t children[] = {child(), child(), child()};
  for (const pid_t pid : children) {
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  std::ifstream in(log);
  const std::string lines((std::istreambuf_iterator<char>(in)), {});
  CHECK(lines == "once\n");
  CHECK(bench.knobs_in_new_engine()->tuning.threads == 256);
}

TEST_CASE("looking up a record does not count as a hit or a miss of kernels") {
  Bench bench;
  Engine engine = bench.make_engine();
  engine.tuned_knobs(bench.device, q4_matvec(), kSize);
  engine.tuned_knobs(bench.device, q4_matvec(), kSize);
  CHECK(engine.cache_stats().disk.hits == 0);
  CHECK(engine.cache_stats().disk.misses == 0);
}

TEST_CASE("asking again costs no look into the cache") {
  Bench bench;
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  bench.tune();
  Engine engine = bench.make_engine();
  REQUIRE(engine.tuned_knobs(bench.device, q4_matvec(), kSize));
  std::filesystem::remove_all(bench.folder.path() / "cache");
  CHECK(engine.tuned_knobs(bench.device, q4_matvec(), kSize));
  Engine fresh = bench.make_engine();
  CHECK_FALSE(fresh.tuned_knobs(bench.device, q4_matvec(), kSize));
}

TEST_CASE("the default of a matmul depends on its rows of x") {
  const KernelSpec spec = test::make_spec(Op::kMatmul, "fp8_e4m3", 4096, make_cuda_target(90, "a"));
  CHECK(default_tuning(spec, {4096, 8}) == matmul_tuning(spec.target, 8));
  CHECK(default_tuning(spec, {4096, 512}) == Tuning{});
  Bench bench;
  Engine engine = bench.make_engine();
  bench.script.times_us = {{"x_tile 32", {8}}};
  tune_kernel(engine, bench.device, spec, {4096, 8}, bench.script.make(), bench.options);
  KernelSpec few = spec;
  few.tuning = matmul_tuning(spec.target, 8);
  CHECK(engine.tuned(bench.device, few, {4096, 8}).tuning.x_tile == 32);
  CHECK(engine.tuned(bench.device, spec, {4096, 8}).tuning.x_tile == 32);
  CHECK(engine.tuned(bench.device, spec, {4096, 512}) == spec);
}

TEST_CASE("the default of a matvec that requests prepared weights early depends on its rows") {
  KernelSpec spec = test::make_spec(Op::kMatvec, "q4_K", 4096, make_cuda_target(90, "a"));
  spec.layout.kind = LayoutKind::kPrepared;
  CHECK(default_tuning(spec, {4096, 1}) == Tuning{});  // nothing runs ahead of it
  spec.dependent_launch = spec.constant_weights = true;
  const Tuning small{.threads = 256, .ctas_per_multiprocessor = 1, .stages = 5};
  CHECK(default_tuning(spec, {4096, 1}) == small);
  CHECK(default_tuning(spec, {14336, 1}) == Tuning{});
  CHECK(default_tuning(spec, {}) == Tuning{});
  spec.gate = Gate::kSilu;
  CHECK(default_tuning(spec, {4096, 1}) == Tuning{});
  spec.gate = Gate::kNone;
  KernelSpec wide = spec;
  wide.weight = FormatId::kQ8_0;
  CHECK(default_tuning(wide, {4096, 1}) == Tuning{});
  Bench bench;
  Engine engine = bench.make_engine();
  CHECK(engine.tuned(bench.device, spec, {4096, 1}).tuning == small);
  CHECK(engine.tuned(bench.device, spec, {14336, 1}) == spec);
  spec.tuning = {.threads = 128};
  CHECK(engine.tuned(bench.device, spec, {4096, 1}) == spec);
}

TEST_CASE("a list of kernels is tuned in its order, and a report says what happened") {
  Bench bench;
  Engine engine = bench.make_engine();
  bench.script.times_us = {{"threads 256, rows_per_warp 2", {8}}};
  KernelSpec other = q4_matvec();
  other.layout.cols = 8192;
  const std::vector<TuneTask> tasks = {{q4_matvec(), kSize, "blk.0.attn_q.weight", 1},
                                       {other, kSize, "blk.0.ffn_down.weight", 1}};
  std::vector<std::string> seen;
  const TuneReport report =
      tune(engine, bench.device, tasks, bench.options, bench.script.make(),
           [&](std::size_t, std::size_t, const std::string& kernel) { seen.push_back(kernel); });
  CHECK(report.ok());
  CHECK(report.kept);
  REQUIRE(report.results.size() == 2);
  CHECK(report.tensors[1] == "blk.0.ffn_down.weight");
  CHECK(report.results[1].spec == other);
  CHECK(seen == std::vector<std::string>{kernel_name(q4_matvec()), kernel_name(other)});
}

TEST_CASE("tuning refuses what it can't measure") {
  Bench bench;
  Engine engine = bench.make_engine();
  KernelSpec spec = q4_matvec();
  std::string reason;
  CHECK(can_bench(spec, &reason));
  spec = test::make_spec(Op::kQuantize, "fp8_e4m3", 4096, make_cuda_target(90));
  CHECK_FALSE(can_bench(spec, &reason));
  CHECK(reason == "dequant, matvec or matmul");
  CHECK_THAT(message_of([&] { make_tuning_bench(engine, bench.device, spec, kSize); }),
             Catch::Contains("dequant, matvec or matmul"));
}

}  // namespace ktjit
