#include "jit/tuner.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "codegen/cuda_float_matvec.h"
#include "codegen/cuda_unit_matmul.h"
#include "codegen/cuda_unit_matvec.h"
#include "codegen/emitter.h"
#include "core/error.h"
#include "core/interrupted_error.h"

namespace ktjit {
namespace {

constexpr std::size_t kMostCandidates = 12;
constexpr std::size_t kMostFinalists = 3;
constexpr int kFinalRounds = 3;

struct LaunchKnobs {
  int threads, ctas, stages;
};

/// Persistent kernels of prepared weights: shapes of which each was the fastest for some format and size on an H200,
/// where the others cost up to 20 %, and direct loads of a few.
std::vector<Tuning> ideas_for_units() {
  constexpr LaunchKnobs kShapes[] = {{128, 4, 4}, {512, 1, 2}, {256, 2, 3}, {256, 2, 4},
                                     {256, 1, 5}, {256, 3, 2}, {128, 3, 4}, {512, 1, 3},
                                     {256, 2, 2}, {256, 2, 1}, {128, 2, 4}};
  std::vector<Tuning> ideas;
  for (const auto& [threads, ctas, stages] : kShapes)
    ideas.push_back({.threads = threads, .ctas_per_multiprocessor = ctas, .stages = stages});
  return ideas;
}

/// Persistent kernels of native 16- and 8-bit floats: direct loads of 16 to 32 warps a multiprocessor, rings, and
/// the f32 kernel.
std::vector<Tuning> ideas_for_floats() {
  std::vector<Tuning> ideas;
  for (const auto& [threads, ctas, stages] : {LaunchKnobs{256, 3, 1},
                                              {256, 2, 1},
                                              {512, 1, 1},
                                              {512, 1, 3},
                                              {256, 4, 1},
                                              {512, 2, 1},
                                              {256, 2, 3},
                                              {384, 2, 1},
                                              {256, 2, 2},
                                              {512, 1, 2}})
    ideas.push_back({.threads = threads, .ctas_per_multiprocessor = ctas, .stages = stages});
  ideas.insert(ideas.begin() + 4, {.threads = 128, .rows_per_warp = 2});
  return ideas;
}

/// Tiles of x, and of the larger ones more and fewer stages on their way.
std::vector<Tuning> ideas_for_matmul_by_units() {
  std::vector<Tuning> ideas;
  for (const int tile : {128, 64, 32, 16, 256}) ideas.push_back({.x_tile = tile});
  for (const int tile : {128, 64, 256}) {
    for (const int stages : {2, 4}) ideas.push_back({.x_tile = tile, .stages = stages});
  }
  return ideas;
}

/// Tiles of x with one CTA on a multiprocessor and more, as each goes on from tile to tile.
std::vector<Tuning> ideas_for_experts(const KernelSpec& spec) {
  std::vector<Tuning> ideas;
  if (spec.tensor_core_precision) {  // one CTA, of more and fewer warps that multiply
    for (const int tile : {64, 32, 128, 16}) {
      for (const int threads : {640, 384}) ideas.push_back({.threads = threads, .x_tile = tile});
    }
    return ideas;
  }
  for (const int tile : {64, 32, 128, 16}) {
    for (const int ctas : {1, 2, 3}) {
      if (tile == 128 && ctas == 3) continue;
      ideas.push_back({.x_tile = tile, .ctas_per_multiprocessor = ctas});
    }
  }
  return ideas;
}

/// In the order in which they are worth the time, if that is short.
std::vector<Tuning> ideas_for(const KernelSpec& spec) {
  std::vector<Tuning> ideas;
  if (!spec.target.is_cuda()) return ideas;
  if (spec.layout.kind == LayoutKind::kPrepared && is_matvec(spec.op)) return ideas_for_units();
  switch (spec.op) {
    case Op::kDequant:
      for (const int threads : {256, 128, 512, 64}) ideas.push_back({.threads = threads});
      break;
    case Op::kMatvec:
    case Op::kMoeMatvec:
      if (codegen::takes_float_matvec(spec)) return ideas_for_floats();
      for (const int threads : {128, 256, 64}) {
        for (const int rows : {1, 2, 4})
          ideas.push_back({.threads = threads, .rows_per_warp = rows});
      }
      break;
    case Op::kMoeMatmul:
      return ideas_for_experts(spec);
    case Op::kMatmul:
      if (spec.tensor_core_precision) {
        const bool by_warpgroups = has_wgmma(spec.target);
        if (spec.activation == ActivationPolicy::kAfp8) {
          for (const int tile : {128, 64, 32, 16}) {
            ideas.push_back({.x_tile = tile});
            ideas.push_back({.x_tile = tile, .stages = tile == 128 ? 3 : 6});
          }
          return ideas;
        }
        for (const int tile : {256, 128, 64, 32, 16}) {
          if (tile == 256 && !by_warpgroups) continue;
          ideas.push_back({.x_tile = tile});
          for (const int stages : {by_warpgroups ? 3 : 2, 4})
            ideas.push_back({.x_tile = tile, .stages = stages});
        }
        return ideas;
      }
      if (codegen::takes_unit_matmul(spec)) return ideas_for_matmul_by_units();
      for (const int tile : {16, 32, 64}) ideas.push_back({.x_tile = tile});
      break;
    case Op::kQuantize:
    case Op::kPrepare:
    case Op::kRestore:
    case Op::kNanScan:
    case Op::kReadTest:
      break;
  }
  return ideas;
}

/// Equal for kernels that are the same when they are launched.
std::string identity_of(const codegen::EmittedKernel& emitted) {
  const LaunchShape& launch = emitted.launch;
  return fmt::format("{} {} {} {} {} {}\n{}", launch.rows_per_cta, launch.column_tiles,
                     launch.threads, launch.smem_bytes, launch.x_rows_per_cta,
                     launch.ctas_per_multiprocessor, emitted.source);
}

bool is_over(const TunerOptions& options) {
  return options.deadline && std::chrono::steady_clock::now() >= *options.deadline;
}

void throw_if_stopped(const TunerOptions& options) {
  if (options.stop.stop_requested()) throw InterruptedError("tuning");
}

/// A candidate's kernel, or why there is none.
struct Built {
  Tuning tuning;
  std::optional<LoadedKernel> kernel;
  std::string problem;
};

/// All at once; if one can't be had, one by one, to find out which. Errors: those of the first.
std::vector<Built> build_all(Engine& engine, runtime::Device& device, const KernelSpec& spec,
                             const std::vector<Tuning>& candidates, const TunerOptions& options) {
  std::vector<KernelSpec> specs(candidates.size(), spec);
  std::vector<Built> built(candidates.size());
  for (std::size_t i = 0; i < candidates.size(); ++i)
    specs[i].tuning = built[i].tuning = candidates[i];
  try {
    std::vector<LoadedKernel> loaded =
        engine.load_all(device, specs, options.compile_threads, {}, options.stop);
    for (std::size_t i = 0; i < loaded.size(); ++i) built[i].kernel = std::move(loaded[i]);
    return built;
  } catch (const InterruptedError&) {
    throw;
  } catch (const Error&) {
    // Below it is found again, by name.
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    try {
      built[i].kernel = engine.load(device, specs[i], options.stop);
    } catch (const InterruptedError&) {
      throw;
    } catch (const Error& error) {
      if (i == 0) throw;
      built[i].problem = fmt::format("can't be had: {}", error.what());
    }
  }
  return built;
}

/// Checks a kernel and measures it. Errors: none for what the device refuses: it is the problem.
KnobTiming time_candidate(const Built& built, const KernelBench& bench) {
  KnobTiming timing;
  timing.tuning = built.tuning;
  timing.problem = built.problem;
  if (!built.kernel) return timing;
  try {
    const std::string wrong = bench.check(*built.kernel);
    if (!wrong.empty()) {
      timing.problem = fmt::format("wrong result: {}", wrong);
      return timing;
    }
    const Measurement measured = bench.measure(*built.kernel);
    timing.median_us = measured.median_us;
    timing.spread = measured.spread;
    timing.gbps = measured.gbps;
  } catch (const DriverError& error) {
    timing.problem = fmt::format("refused by the device: {}", error.what());
  }
  return timing;
}

bool beats(const KnobTiming& candidate, const KnobTiming& standard, double least_gain) {
  const double margin = std::max({least_gain, candidate.spread, standard.spread});
  return candidate.median_us < standard.median_us * (1 - margin);
}

void take_median(KnobTiming& timing, std::vector<Measurement> measured) {
  std::sort(measured.begin(), measured.end(),
            [](const Measurement& a, const Measurement& b) { return a.median_us < b.median_us; });
  const Measurement& middle = measured[measured.size() / 2];
  timing.median_us = middle.median_us;
  timing.spread = middle.spread;
  timing.gbps = middle.gbps;
}

/// Whether the candidate beats the default again, measured by turns, so that neither a lucky first time nor a
/// clock that drifts decides. The timings are those of the turns afterwards.
bool confirm(KnobTiming& candidate, const LoadedKernel& candidate_kernel, KnobTiming& standard,
             const LoadedKernel& standard_kernel, const KernelBench& bench, double least_gain) {
  std::vector<Measurement> of_candidate, of_standard;
  for (int round = 0; round < kFinalRounds; ++round) {
    of_standard.push_back(bench.measure(standard_kernel));
    of_candidate.push_back(bench.measure(candidate_kernel));
  }
  take_median(candidate, std::move(of_candidate));
  take_median(standard, std::move(of_standard));
  return beats(candidate, standard, least_gain);
}

/// The place of the winner among the timings, whose first is the default's.
std::size_t find_winner(std::vector<KnobTiming>& timings, const std::vector<Built>& built,
                        const KernelBench& bench, double least_gain) {
  std::vector<std::size_t> order;
  for (std::size_t i = 1; i < timings.size(); ++i) {
    if (timings[i].is_timed()) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return timings[a].median_us < timings[b].median_us;
  });
  if (order.size() > kMostFinalists) order.resize(kMostFinalists);
  for (const std::size_t i : order) {
    if (!beats(timings[i], timings.front(), least_gain)) continue;
    if (confirm(timings[i], *built[i].kernel, timings.front(), *built.front().kernel, bench,
                least_gain)) {
      return i;
    }
  }
  return 0;
}

/// Whether all of these were measured for the size: a newer version may know more.
bool has_all(const TunedSize& tuned, const std::vector<Tuning>& candidates) {
  return tuned.complete &&
         std::all_of(candidates.begin(), candidates.end(), [&](const Tuning& tuning) {
           return std::any_of(tuned.timings.begin(), tuned.timings.end(),
                              [&](const KnobTiming& timing) { return timing.tuning == tuning; });
         });
}

}  // namespace

std::vector<Tuning> candidates_for(const KernelSpec& spec) {
  std::vector<Tuning> candidates = {spec.tuning};
  std::vector<std::string> identities = {identity_of(codegen::emit(spec))};
  for (const Tuning& idea : ideas_for(spec)) {
    if (candidates.size() == kMostCandidates) break;
    KernelSpec with_idea = spec;
    with_idea.tuning = idea;
    std::string identity;
    try {
      identity = identity_of(codegen::emit(with_idea));
    } catch (const SpecError&) {
      continue;  // not with this format or target
    }
    if (std::find(identities.begin(), identities.end(), identity) != identities.end()) continue;
    candidates.push_back(idea);
    identities.push_back(std::move(identity));
  }
  return candidates;
}

Tuning default_tuning(const KernelSpec& spec, const TuningSize& size) {
  if (spec.op == Op::kMoeMatmul)
    return spec.tuning;  // the size doesn't say how many experts there are
  if (spec.op == Op::kMatmul && size.n > 0) return matmul_tuning(spec, size.rows, size.n);
  if (is_matvec(spec.op) && spec.layout.kind == LayoutKind::kPrepared && size.rows > 0)
    return codegen::unit_matvec_tuning(spec, size.rows);
  return {};
}

std::string_view outcome_name(TuneOutcome outcome) {
  switch (outcome) {
    case TuneOutcome::kMeasured:
      return "measured";
    case TuneOutcome::kRecorded:
      return "recorded before";
    case TuneOutcome::kNoKnobs:
      return "no knobs";
    case TuneOutcome::kNoTime:
      return "no time left";
    case TuneOutcome::kDefaultWrong:
      return "default is wrong";
  }
  KTJIT_UNREACHABLE("a known outcome");
}

TuneResult tune_kernel(Engine& engine, runtime::Device& device, const KernelSpec& given,
                       const TuningSize& size, const MakeBench& make_bench,
                       const TunerOptions& options) {
  throw_if_stopped(options);
  TuneResult result;
  result.spec = without_tuning(given);
  result.size = size;
  KernelSpec spec = result.spec;
  spec.tuning = default_tuning(given, size);
  const std::vector<Tuning> candidates = candidates_for(spec);
  if (candidates.size() == 1) {
    result.outcome = TuneOutcome::kNoKnobs;
    return result;
  }
  TuningStore::Update update = engine.tuning().begin_update(device, spec, options.stop);
  const TunedSize* recorded = update.record.find(size);
  if (recorded != nullptr && !options.again && has_all(*recorded, candidates)) {
    result.outcome = TuneOutcome::kRecorded;
    result.tuned = *recorded;
    return result;
  }
  if (is_over(options)) return result;

  const std::vector<Built> built = build_all(engine, device, spec, candidates, options);
  const KernelBench bench = make_bench(spec, size);
  TunedSize tuned;
  tuned.size = size;
  tuned.compiler = built.front().kernel->built.compiler;
  for (const Built& candidate : built) {
    throw_if_stopped(options);
    if (!tuned.timings.empty() && is_over(options)) {
      tuned.complete = false;
      break;
    }
    tuned.timings.push_back(time_candidate(candidate, bench));
    if (!tuned.timings.front().is_timed()) {
      result.outcome = TuneOutcome::kDefaultWrong;
      result.problem = tuned.timings.front().problem;
      return result;
    }
  }
  tuned.best = tuned.timings[find_winner(tuned.timings, built, bench, options.least_gain)].tuning;
  result.outcome = TuneOutcome::kMeasured;
  result.tuned = tuned;
  update.record.add(std::move(tuned));
  engine.tuning().finish_update(device, spec, std::move(update));
  return result;
}

}  // namespace ktjit
