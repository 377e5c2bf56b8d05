// ktjit build: every kernel of a model, compiled into the cache, and perhaps into a pack.
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
#include "cli/subject.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"
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
    for (LoadedKernel& loaded :
         engine.load_all(*device, specs, threads, on_kernel, interrupt.token())) {
      built.push_back(std::move(loaded.built));
    }
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
          {"targets", pack.targets},
          {"bytes", pack.size_bytes}};
}

}  // namespace

int run_build(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  std::string pack_path;
  ArgumentParser parser(
      {"build MODEL [options]  |  build --format F --shape RxC [options]",
       "Compiles every kernel that a model (or one tensor of format F) needs into the cache, so "
       "that\n"
       "nothing is compiled later. Needs no GPU for a --target; without one, builds what 'ktjit "
       "run'\n"
       "loads on this machine. With --pack, all of them also go into one file, which 'ktjit run "
       "--from'\n"
       "and KTJIT_CACHE_PATH take on any machine.\n",
       exit_code_help("all kernels are in the cache", "the model has no tensor with a kernel",
                      "the model is missing, damaged or something else",
                      "no compiler for a target, or no such device") +
           "  130  interrupted; what was compiled is in the cache\n",
       "ktjit build model.gguf --target sm_86 --target sm_90a -j 16"});
  subject_options.add_model(parser);
  subject_options.add_description(parser);
  common.add_device(parser);
  common.add_targets(parser);
  parser.add_options()("pack", boost::program_options::value(&pack_path)->value_name("FILE"),
                       "write all kernels to this pack, in place of an older one");
  common.add_jobs(parser);
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  const Subject subject(subject_options);
  if (!pack_path.empty()) check_kernel_pack_target(pack_path);
  Toolchain toolchain = common.make_toolchain();
  std::unique_ptr<runtime::Device> device;
  if (!common.device.empty() || common.targets.empty()) {
    device = toolchain.open_device(common.device);
  }
  const std::vector<Target> targets = common.targets.empty()
                                          ? std::vector<Target>{device->native_target()}
                                          : choose_targets(toolchain, common.targets);
  const int threads = common.compile_threads(toolchain.options());

  const auto start = std::chrono::steady_clock::now();
  std::vector<KernelSpec> specs;
  std::vector<SkippedTensor> skipped;
  for (const Target& target : targets) {
    Plan plan = make_plan(subject.model(), target);
    if (target == targets.front()) skipped = std::move(plan.skipped);
    for (KernelSpec& spec : plan.all_kernels()) specs.push_back(std::move(spec));
  }
  const std::size_t count = specs.size();
  const bool packs = !pack_path.empty() && count > 0;
  if (packs) specs = with_read_tests(std::move(specs), targets);
  std::optional<std::vector<BuiltKernel>> built =
      build_kernels(toolchain, device.get(), specs, threads, common.json);
  if (!built) return kInterrupted;
  const double elapsed_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();

  std::optional<KernelPackReport> pack;
  if (packs) pack = write_kernel_pack(pack_path, pack_title(subject), *built);
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
      print(fmt::format("{}: {} for {}, {}\n", pack_path, counted(pack->kernels, "kernel"),
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
