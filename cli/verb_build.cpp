// ktjit build: every kernel of a model, compiled into the cache, and perhaps into a pack.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <optional>
#include <utility>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "cli/rules_option.h"
#include "cli/subject.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "codegen/emitter.h"
#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/kernel_pack.h"
#include "jit/planner.h"

namespace ktjit::cli {
namespace {

Json to_json(const BuiltKernel& built) {
  const KernelResources& resources = built.artifact.resources;
  return {{"kernel", built.emitted.entry_name},
          {"target", built.spec.target.name()},
          {"compiler", built.compiler},
          {"kind", artifact_kind_name(built.artifact.kind)},
          {"cached", built.from_cache()},
          {"compile_ms", built.from_cache() ? 0.0 : built.artifact.compile_ms},
          {"bytes", built.artifact.bytes.size()},
          {"registers", json_or_null(resources.registers)},
          {"spill_bytes", json_or_null(resources.spill_bytes)}};
}

std::string to_cell(const std::optional<int>& value) {
  return value ? fmt::format("{}", *value) : "";
}

void print_table(const std::vector<BuiltKernel>& kernels) {
  Table table({{"kernel"},
               {"target"},
               {"compiler"},
               {"compile ms", Align::kRight},
               {"bytes", Align::kRight},
               {"registers", Align::kRight},
               {"spill bytes", Align::kRight}});
  for (const BuiltKernel& built : kernels) {
    table.add_row({built.emitted.entry_name, built.spec.target.name(), built.compiler,
                   built.from_cache() ? "cached" : fmt::format("{:.1f}", built.artifact.compile_ms),
                   fmt::format("{}", built.artifact.bytes.size()),
                   to_cell(built.artifact.resources.registers),
                   to_cell(built.artifact.resources.spill_bytes)});
  }
  if (!table.empty()) print(table.to_text());
}

/// Builds what `run` would load: for the device if there is one, since its driver may take part.
/// Nothing if it was interrupted, after a line that says what is kept.
std::optional<std::vector<BuiltKernel>> build_kernels(Toolchain& toolchain, runtime::Device* device,
                                                      const std::vector<KernelSpec>& specs,
                                                      int threads, bool json) {
  Engine& engine = toolchain.engine();
  const Interrupt interrupt;
  BuildProgress last;
  std::vector<BuiltKernel> built;
  try {
    Progress progress("kernels",
                      json ? Progress::Elsewhere::kNothing : Progress::Elsewhere::kPlainLines);
    const auto on_kernel = [&](const BuildProgress& build) {
      last = build;
      progress.update(build);
    };
    if (device == nullptr) {
      return engine.build_all(specs, std::nullopt, threads, on_kernel, interrupt.token());
    }
    // Rules may send tensors to another kind of device: their kernels are built without it.
    const auto is_here = [&](const KernelSpec& spec) {
      return spec.target.kind == device->native_target().kind;
    };
    std::vector<KernelSpec> here, elsewhere;
    for (const KernelSpec& spec : specs) (is_here(spec) ? here : elsewhere).push_back(spec);
    std::vector<LoadedKernel> loaded =
        engine.load_all(*device, here, threads, on_kernel, interrupt.token());
    std::vector<BuiltKernel> others =
        engine.build_all(elsewhere, std::nullopt, threads, on_kernel, interrupt.token());
    auto next_loaded = loaded.begin();
    auto next_other = others.begin();
    for (const KernelSpec& spec : specs)
      built.push_back(is_here(spec) ? std::move((next_loaded++)->built) : std::move(*next_other++));
  } catch (const InterruptedError&) {
    print_to_stderr(interrupted_line(last, toolchain.options()));
    return std::nullopt;
  }
  return built;
}

/// With the kernels by which `ktjit run` measures the memory it compares with, one a target.
std::vector<KernelSpec> with_read_tests(std::vector<KernelSpec> specs,
                                        const std::vector<Target>& targets) {
  for (const Target& target : targets) specs.push_back(make_read_test_spec(target));
  return specs;
}

/// What was measured of these kernels, on whatever devices, and the kernels that it chose beside them.
struct Tuned {
  std::vector<std::pair<cache::CacheKey, cache::Entry>> records;
  std::vector<KernelSpec> specs;
};

/// A record may have knobs that this version refuses.
bool can_emit(const KernelSpec& spec) {
  try {
    codegen::emit(spec);
    return true;
  } catch (const SpecError&) {
    return false;
  }
}

Tuned find_tuned(Engine& engine, const std::vector<KernelSpec>& specs) {
  Tuned tuned;
  const auto is_known = [&](const KernelSpec& spec) {
    return std::find(specs.begin(), specs.end(), spec) != specs.end() ||
           std::find(tuned.specs.begin(), tuned.specs.end(), spec) != tuned.specs.end();
  };
  for (const KernelSpec& spec : specs) {
    for (auto& [key, entry] : engine.tuning().all_records(spec)) {
      const TuningRecord record = to_tuning_record(entry).value();  // all_records checked it
      for (const TunedSize& size : record.sizes) {
        KernelSpec with_knobs = spec;
        with_knobs.tuning = size.best;
        if (!is_known(with_knobs) && can_emit(with_knobs))
          tuned.specs.push_back(std::move(with_knobs));
      }
      tuned.records.emplace_back(std::move(key), std::move(entry));
    }
  }
  return tuned;
}

/// What the pack is for: the model's file or folder without its path, or the described tensor.
std::string pack_title(const Subject& subject) {
  if (subject.described()) return subject.title();
  const std::filesystem::path path =
      std::filesystem::weakly_canonical(std::filesystem::path(subject.title()));
  return path.filename().string();
}

Json to_json(const std::string& path, const KernelPackReport& pack) {
  return {{"path", path},
          {"kernels", pack.kernels},
          {"tuning_records", pack.records},
          {"targets", pack.targets},
          {"bytes", pack.size_bytes}};
}

}  // namespace

int run_build(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  std::string pack_path;
  RulesOption rules;
  ArgumentParser parser(
      {"build MODEL [options]  |  build --format F --shape RxC [options]",
       "Compiles every kernel that a model (or one tensor of format F) needs into the cache, so "
       "that\n"
       "nothing is compiled later. Needs no GPU for a --target; without one, builds what 'ktjit "
       "run'\n"
       "loads on this machine. With --pack, all of them also go into one file, which 'ktjit run "
       "--from'\n"
       "and KTJIT_CACHE_PATH take on any machine. With --rules, compiles what the model needs as "
       "the rules\n"
       "make it.\n",
       exit_code_help("all kernels are in the cache", "the model has no tensor with a kernel",
                      "the model is missing, damaged or something else",
                      "no compiler for a target, or no such device") +
           "  130  interrupted; what was compiled is in the cache\n",
       "ktjit build model.gguf --target sm_86 --target sm_90a -j 16"});
  subject_options.add_model(parser);
  subject_options.add_description(parser);
  common.add_device(parser);
  common.add_targets(parser);
  common.add_layout(parser);
  rules.add(parser);
  parser.add_options()("pack", boost::program_options::value(&pack_path)->value_name("FILE"),
                       "write all kernels to this pack, in place of an older one");
  common.add_jobs(parser);
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  const LayoutKind matvec_layout = common.matvec_layout();
  const Subject subject(subject_options);
  if (!pack_path.empty()) check_kernel_pack_target(pack_path);
  Toolchain toolchain = common.make_toolchain();
  std::unique_ptr<runtime::Device> device;
  if (!common.device.empty() || common.targets.empty()) {
    device = toolchain.open_device(common.device);
  }
  std::vector<Target> targets = common.targets.empty()
                                    ? std::vector<Target>{device->native_target()}
                                    : choose_targets(toolchain, common.targets);
  const int threads = common.compile_threads(toolchain.options());

  const auto start = std::chrono::steady_clock::now();
  std::vector<KernelSpec> specs;
  std::vector<SkippedTensor> skipped;
  std::vector<Plan> plans;
  if (rules.is_given()) {
    rules.apply(subject.model());
    const Target host = toolchain.get_target("cpu");
    for (const Target& target : std::vector<Target>(targets)) {
      for (const RuledPart& part : rules.split(target, host, matvec_layout)) {
        plans.push_back(make_plan(part.tensors, part.target));
        if (std::ranges::find(targets, part.target) == targets.end())
          targets.push_back(part.target);
      }
    }
  } else {
    for (const Target& target : targets)
      plans.push_back(make_plan(subject.model(), target, matvec_layout));
  }
  common.check_layout(plans);
  for (Plan& plan : plans) {
    for (SkippedTensor& tensor : plan.skipped) {
      // Formats without kernels have none on any target.
      if (std::ranges::find(skipped, tensor.tensor, &SkippedTensor::tensor) == skipped.end())
        skipped.push_back(std::move(tensor));
    }
    for (KernelSpec& spec : plan.all_kernels()) {
      if (std::ranges::find(specs, spec) == specs.end()) specs.push_back(std::move(spec));
    }
  }
  Tuned tuned;
  if (toolchain.options().tuning) tuned = find_tuned(toolchain.engine(), specs);
  specs.insert(specs.end(), tuned.specs.begin(), tuned.specs.end());
  const std::size_t count = specs.size();
  const bool packs = !pack_path.empty() && count > 0;
  if (packs) specs = with_read_tests(std::move(specs), targets);
  std::optional<std::vector<BuiltKernel>> built =
      build_kernels(toolchain, device.get(), specs, threads, common.json);
  if (!built) return kInterrupted;
  const double elapsed_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();

  std::optional<KernelPackReport> pack;
  if (packs) pack = write_kernel_pack(pack_path, pack_title(subject), *built, tuned.records);
  built->resize(count);
  const std::vector<BuiltKernel>& kernels = *built;

  std::size_t cached = 0;
  for (const BuiltKernel& kernel : kernels) cached += kernel.from_cache() ? 1 : 0;
  if (common.json) {
    Json built_json = Json::array();
    for (const BuiltKernel& kernel : kernels) built_json.push_back(to_json(kernel));
    Json skipped_json = Json::array();
    for (const SkippedTensor& tensor : skipped) {
      skipped_json.push_back(
          {{"tensor", tensor.tensor}, {"format", tensor.format}, {"reason", tensor.reason}});
    }
    print_json({{"model", subject.title()},
                {"kernels", built_json},
                {"skipped", skipped_json},
                {"compiled", kernels.size() - cached},
                {"cache_hits", cached},
                {"elapsed_ms", elapsed_ms},
                {"pack", pack ? to_json(pack_path, *pack) : Json(nullptr)},
                {"workers_started", toolchain.workers_started()}});
  } else {
    print_table(kernels);
    print(fmt::format("{}: {} compiled, {} cached, in {:.1f} ms\n",
                      counted(kernels.size(), "kernel"), kernels.size() - cached, cached,
                      elapsed_ms));
    if (pack) {
      print(fmt::format("{}: {}{} for {}, {}\n", pack_path, counted(pack->kernels, "kernel"),
                        pack->records == 0
                            ? std::string()
                            : fmt::format(", {}", counted(pack->records, "tuning record")),
                        fmt::join(pack->targets, ", "), human_bytes(pack->size_bytes)));
    }
    if (!skipped.empty()) {
      print(fmt::format("{} without kernels: 'ktjit plan' says why\n",
                        counted(skipped.size(), "tensor")));
    }
  }
  return kernels.empty() ? kFailed : kDone;
}

}  // namespace ktjit::cli
