// ktjit doctor: what this machine has, what is missing and what to do, and how each format is
// lowered where.
#include <algorithm>
#include <fmt/format.h>
#include <optional>
#include <utility>

#include "cache/maintenance.h"
#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/format_table.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/subject.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "codegen/lowering.h"
#include "jit/nvrtc_archs.h"
#include "jit/planner.h"

namespace ktjit::cli {
namespace {

constexpr int kMostGpus = 64;
constexpr int kFirstSmWithFp8Cvt = 89;

struct DeviceFacts {
  std::string name;
  std::string description;
  Target target;
  std::size_t memory_bytes = 0;
};

struct NvrtcFacts {
  NvrtcCandidate candidate;
  std::vector<std::string> targets;  ///< that it compiles for
  std::vector<std::string> serves;   ///< of them those that no library before it compiles for
};

/// How one target is served.
struct TargetFacts {
  Target target;
  std::vector<std::string> compilers;  ///< "NVRTC 13.0 (cubin)", in the order they are asked
  std::string route;                   ///< how kernels come to a device, in words; "" if not at all
};

struct FormatFacts {
  WeightFormat format;
  std::vector<std::pair<Target, codegen::Lowering>> lowerings;
};

/// What is wrong, and what to do about it.
struct Problem {
  std::string what;
  std::string cure;
};

struct Findings {
  std::vector<DeviceFacts> gpus;
  std::string no_gpu_reason;
  DeviceFacts cpu;
  DeviceFacts simulator;
  std::vector<NvrtcFacts> nvrtc;
  std::string llvm;
  std::vector<std::string> llvm_serves;  ///< GPU targets that no NVRTC compiles for
  std::optional<std::string> worker;
  bool cache_enabled = true;
  cache::RootStats cache;
  std::vector<TargetFacts> targets;
  std::vector<FormatFacts> formats;
  std::vector<Problem> problems;
};

DeviceFacts facts_of(const runtime::Device& device) {
  return {device.name(), device.description(), device.native_target(), device.total_memory_bytes()};
}

void find_devices(Toolchain& toolchain, Findings& findings) {
  try {
    for (int i = 0; i < kMostGpus; ++i) {
      findings.gpus.push_back(facts_of(*toolchain.open_device(fmt::format("cuda:{}", i))));
    }
  } catch (const Error& error) {  // past the last GPU, or none, or one that is broken
    if (findings.gpus.empty()) findings.no_gpu_reason = error.what();
  }
  findings.cpu = facts_of(*toolchain.open_device("cpu"));
  findings.simulator = facts_of(*toolchain.open_device("sim"));
}

void find_compilers(Toolchain& toolchain, Findings& findings) {
  for (const NvrtcCandidate& candidate : toolchain.nvrtc_candidates())
    findings.nvrtc.push_back({candidate, {}, {}});
  findings.llvm = toolchain.llvm().name();
  if (const auto worker = toolchain.llvm().find_worker()) findings.worker = worker->string();
  for (const CudaFacts& facts : all_cuda_facts()) {
    const Target target = make_native_cuda_target(facts.sm);
    bool is_served = false;
    for (NvrtcFacts& nvrtc : findings.nvrtc) {
      if (!nvrtc.candidate.usable() || !nvrtc_serves(nvrtc.candidate.version, target)) continue;
      nvrtc.targets.push_back(target.name());
      if (!is_served) nvrtc.serves.push_back(target.name());
      is_served = true;
    }
    if (!is_served && findings.worker && toolchain.llvm().serves(target, ArtifactKind::kPtx))
      findings.llvm_serves.push_back(target.name());
  }
}

std::vector<Target> choose_doctor_targets(Toolchain& toolchain, const Findings& findings,
                                          const std::vector<std::string>& names) {
  if (!names.empty()) return choose_targets(toolchain, names);
  std::vector<Target> targets;
  const auto add = [&targets](const Target& target) {
    if (std::find(targets.begin(), targets.end(), target) == targets.end()) {
      targets.push_back(target);
    }
  };
  for (const DeviceFacts& gpu : findings.gpus) add(gpu.target);
  add(findings.cpu.target);
  for (int sm : {75, 86, 89, 90}) add(make_native_cuda_target(sm));
  return targets;
}

TargetFacts facts_of(Toolchain& toolchain, const Target& target, bool has_worker) {
  TargetFacts facts{target, {}, ""};
  std::vector<ArtifactKind> kinds = {native_artifact_kind(target)};
  if (target.is_cuda()) kinds.push_back(ArtifactKind::kPtx);
  for (ArtifactKind kind : kinds) {
    for (const std::shared_ptr<Compiler>& compiler : toolchain.engine().compilers()) {
      if (!compiler->serves(target, kind)) continue;
      if (compiler.get() == &toolchain.llvm() && !has_worker) continue;
      facts.compilers.push_back(fmt::format("{} ({})", compiler->name(), artifact_kind_name(kind)));
      if (facts.route.empty()) {
        facts.route = kind == ArtifactKind::kPtx
                          ? fmt::format("PTX by {}, linked by the driver", compiler->name())
                          : fmt::format("machine code by {}", compiler->name());
      }
      break;  // the others are never asked
    }
  }
  return facts;
}

std::vector<FormatFacts> find_lowerings(const std::vector<WeightFormat>& formats,
                                        const std::vector<Target>& targets) {
  std::vector<FormatFacts> found;
  for (const WeightFormat& format : formats) {
    FormatFacts facts{format, {}};
    for (const Target& target : targets) {
      facts.lowerings.emplace_back(target, codegen::get_lowering(format.id, target));
    }
    found.push_back(std::move(facts));
  }
  return found;
}

void find_problems(Findings& findings) {
  const auto add = [&findings](std::string what, std::string cure) {
    findings.problems.push_back({std::move(what), std::move(cure)});
  };
  if (findings.gpus.empty()) {
    add(fmt::format("no GPU: {}", findings.no_gpu_reason),
        "kernels run on the CPU; build, plan and emit serve any GPU with --target sm_86 and the "
        "like");
  }
  const bool has_nvrtc =
      std::any_of(findings.nvrtc.begin(), findings.nvrtc.end(),
                  [](const NvrtcFacts& nvrtc) { return nvrtc.candidate.usable(); });
  if (!has_nvrtc) add("no usable NVRTC: no code for GPUs but as PTX", nvrtc_advice());
  if (!findings.worker) {
    add("the compiler worker ktjit-llvm is missing: no code for the CPU",
        "build or install ktjit with its worker, or set KTJIT_LLVM_WORKER");
  }
  for (const TargetFacts& facts : findings.targets) {
    if (!facts.compilers.empty() || !facts.target.is_cuda()) continue;
    add(fmt::format("no compiler for {}", facts.target.name()), nvrtc_advice());
  }
  if (!findings.cache_enabled) {
    add("the kernel cache is off: every start compiles again", "leave --no-cache and KTJIT_CACHE");
  } else if (!findings.cache.problem.empty()) {
    add(fmt::format("the kernel cache is not used: {}", findings.cache.problem),
        "give a folder of your own by --cache-dir or KTJIT_CACHE_DIR");
  } else if (findings.cache.exists && !findings.cache.writable) {
    add(fmt::format("the kernel cache {} is not writable: what is compiled is not kept",
                    findings.cache.path),
        "give another folder by --cache-dir or KTJIT_CACHE_DIR");
  }
}

Json to_json(const DeviceFacts& device) {
  return {{"name", device.name},
          {"description", device.description},
          {"target", device.target.name()},
          {"compute_capability",
           device.target.is_cuda()
               ? Json(fmt::format("{}.{}", device.target.sm / 10, device.target.sm % 10))
               : Json(nullptr)},
          {"features", device.target.cpu_features},
          {"memory_bytes", device.memory_bytes}};
}

Json to_json(const FormatFacts& facts) {
  Json targets = Json::array();
  for (const auto& [target, lowering] : facts.lowerings) {
    const int cost = lowering.instructions_per_4;
    targets.push_back({{"target", target.name()},
                       {"lowering", lowering.summary},
                       {"cost", cost > 0 ? Json(cost) : Json(nullptr)},
                       {"loads", cost > 0 ? Json(lowering.loads_per_4) : Json(nullptr)},
                       {"reason", lowering.reason}});
  }
  return {{"format", facts.format.name()},
          {"aliases", format_aliases(facts.format.id)},
          {"targets", targets}};
}

Json to_json(const Findings& findings) {
  Json devices = Json::array();
  for (const DeviceFacts& gpu : findings.gpus) devices.push_back(to_json(gpu));
  devices.push_back(to_json(findings.cpu));
  devices.push_back(to_json(findings.simulator));
  Json nvrtc = Json::array();
  for (const NvrtcFacts& facts : findings.nvrtc) {
    nvrtc.push_back({{"version", facts.candidate.version.text()},
                     {"path", facts.candidate.library.string()},
                     {"found_by", facts.candidate.found_by},
                     {"usable", facts.candidate.usable()},
                     {"problem", facts.candidate.problem},
                     {"targets", facts.targets},
                     {"serves", facts.serves}});
  }
  Json targets = Json::array();
  for (const TargetFacts& facts : findings.targets) {
    targets.push_back({{"target", facts.target.name()},
                       {"compilers", facts.compilers},
                       {"route", facts.route.empty() ? Json(nullptr) : Json(facts.route)}});
  }
  Json formats = Json::array();
  for (const FormatFacts& facts : findings.formats) formats.push_back(to_json(facts));
  Json problems = Json::array();
  for (const Problem& problem : findings.problems) {
    problems.push_back({{"problem", problem.what}, {"cure", problem.cure}});
  }
  return {{"devices", devices},
          {"nvrtc", nvrtc},
          {"llvm",
           {{"version", findings.llvm},
            {"worker", json_or_null(findings.worker)},
            {"serves", findings.llvm_serves}}},
          {"cache",
           {{"enabled", findings.cache_enabled},
            {"path", findings.cache.path},
            {"exists", findings.cache.exists},
            {"writable", findings.cache.writable},
            {"entries", findings.cache.entries},
            {"allocated_bytes", findings.cache.allocated_bytes}}},
          {"targets", targets},
          {"formats", formats},
          {"problems", problems}};
}

std::string devices_text(const Findings& findings) {
  std::string text;
  for (const DeviceFacts& gpu : findings.gpus) {
    text += fmt::format("GPU    {}: {}, {}, target {}\n", gpu.name, gpu.description,
                        human_bytes(gpu.memory_bytes), gpu.target.name());
  }
  if (findings.gpus.empty()) text += "GPU    none\n";
  text += fmt::format("CPU    {}, {}\n       features: {}\n", findings.cpu.description,
                      human_bytes(findings.cpu.memory_bytes),
                      findings.cpu.target.cpu_features.empty()
                          ? "none that ktjit uses"
                          : fmt::format("{}", fmt::join(findings.cpu.target.cpu_features, " ")));
  text += fmt::format("SIM    --device sim: {}, any CUDA target (default {}){}\n",
                      findings.simulator.description, findings.simulator.target.name(),
                      findings.worker ? "" : ", but the worker it needs is missing");
  return text;
}

std::string list_text(const std::vector<std::string>& names) {
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, " "));
}

std::string compilers_text(const Findings& findings) {
  std::string text;
  for (const NvrtcFacts& facts : findings.nvrtc) {
    const NvrtcCandidate& candidate = facts.candidate;
    if (candidate.usable()) {
      text += fmt::format("NVRTC  {}: {} (by {})\n       compiles for: {}\n       serves: {}\n",
                          candidate.version.text(), candidate.library.string(), candidate.found_by,
                          fmt::join(facts.targets, " "), list_text(facts.serves));
    } else {
      text += fmt::format("NVRTC  not usable: {} (by {}): {}\n", candidate.library.string(),
                          candidate.found_by, candidate.problem);
    }
  }
  if (findings.nvrtc.empty()) text += "NVRTC  none found\n";
  return text + fmt::format("LLVM   {}, worker {}\n       serves: the CPU; as PTX: {}\n",
                            findings.llvm, findings.worker.value_or("missing"),
                            list_text(findings.llvm_serves));
}

std::string cache_text(const Findings& findings) {
  if (!findings.cache_enabled) return "cache  off\n";
  const cache::RootStats& cache = findings.cache;
  const std::string state = !cache.problem.empty() ? "not used"
                            : !cache.exists        ? "not there yet"
                            : !cache.writable      ? "not writable"
                                                   : "writable";
  return fmt::format("cache  {}: {}, {}, {}\n", cache.path, state,
                     cache.entries == 1 ? "1 entry" : fmt::format("{} entries", cache.entries),
                     human_bytes(cache.allocated_bytes));
}

std::string targets_text(const Findings& findings) {
  Table table({{"target"}, {"cards"}, {"kernels"}});
  for (const TargetFacts& facts : findings.targets) {
    table.add_row({facts.target.name(),
                   facts.target.is_cuda() ? std::string(get_cuda_facts(facts.target).chips) : "",
                   facts.route.empty() ? "no compiler found" : facts.route});
  }
  return table.to_text();
}

std::string format_text(const FormatFacts& facts) {
  std::string text = std::string(facts.format.name());
  const auto aliases = format_aliases(facts.format.id);
  if (!aliases.empty()) text += fmt::format(" (also {})", fmt::join(aliases, ", "));
  text += "\n";
  Table table({{"target"}, {"lowering"}, {"instructions per 4", Align::kRight}, {"reason"}});
  bool refused_by_triton = false;
  for (const auto& [target, lowering] : facts.lowerings) {
    const int cost = lowering.instructions_per_4;
    table.add_row({target.name(), lowering.summary, cost > 0 ? fmt::format("{}", cost) : "",
                   lowering.reason});
    refused_by_triton = refused_by_triton || (facts.format.id == FormatId::kFp8E4M3 &&
                                              target.is_cuda() && target.sm < kFirstSmWithFp8Cvt);
  }
  text += table.to_text(2);
  if (refused_by_triton) {
    text +=
        "  Triton refuses fp8e4nv below sm_89 (\"type fp8e4nv not supported in this "
        "architecture\"); ktjit does not.\n";
  }
  return text;
}

/// The formats that are not shown target by target: one row for each way of converting.
std::string other_formats_text(const std::vector<FormatId>& formats,
                               const std::vector<Target>& targets) {
  Table table({{"format"},
               {"targets"},
               {"lowering"},
               {"instructions per 4", Align::kRight},
               {"loads", Align::kRight}});
  for (FormatId format : formats) {
    for (const FormatRow& row : decode_rows(format, false, targets)) {
      table.add_row({std::string(get_format(format).name), row.targets, row.lowering,
                     row.instructions, row.loads});
    }
  }
  return table.empty() ? "" : "\n" + table.to_text();
}

void print_text(const Findings& findings) {
  std::string text = devices_text(findings) + compilers_text(findings) + cache_text(findings);
  text += "\n" + targets_text(findings);
  std::vector<FormatId> others;
  for (const FormatFacts& facts : findings.formats) {
    if (findings.formats.size() > 1 && get_format(facts.format.id).family != FormatFamily::kFp8) {
      others.push_back(facts.format.id);
    } else {
      text += "\n" + format_text(facts);
    }
  }
  std::vector<Target> targets;
  for (const TargetFacts& facts : findings.targets) targets.push_back(facts.target);
  text += other_formats_text(others, targets);
  for (const Problem& problem : findings.problems) {
    text += fmt::format("\nproblem  {}\n  do     {}\n", problem.what, problem.cure);
  }
  if (findings.problems.empty()) text += "\nno problems\n";
  print(text);
}

std::vector<WeightFormat> choose_formats(const SubjectOptions& options) {
  if (options.describes_tensor()) return {get_weight_format(options.format, options.scale_grid())};
  std::vector<WeightFormat> formats;
  for (FormatId id : decoded_formats()) formats.push_back({id, std::nullopt});
  return formats;
}

/// What a described tensor needs, on the first target.
std::string kernels_text(const Subject& subject, const Target& target) {
  const Plan plan = make_plan(subject.model(), target);
  std::string text =
      fmt::format("\n{}: {}, kernels", subject.title(), human_bytes(plan.weight_bytes));
  for (const KernelSpec& kernel : plan.all_kernels()) text += " " + kernel_name(kernel);
  return text + "\n";
}

}  // namespace

int run_doctor(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  bool table = false;
  ArgumentParser parser({"doctor [--target T]... [--format F [--shape RxC]] [options]",
                         "Lists GPUs, compilers, the CPU and the kernel cache, says what is wrong "
                         "and what to do, and\n"
                         "shows for each format (or format F) how each target converts it to f32, "
                         "at what cost in\n"
                         "instructions for four values, and for FP8 why. Compiles nothing.\n",
                         exit_code_help("done, whatever was found"),
                         "ktjit doctor --target sm_86"});
  common.add_targets(parser);
  subject_options.add_description(parser);
  parser.add_flag("table", &table,
                  "print the table of all formats on all targets (docs/FORMATS.md), and no more");
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;
  if (table) {
    if (common.json) throw UsageError("--table is Markdown: leave --json");
    print(formats_page());
    return kDone;
  }
  std::optional<Subject> subject;
  if (!subject_options.shape.empty() || !subject_options.scale_block.empty()) {
    subject.emplace(subject_options);
  }

  Toolchain toolchain = common.make_toolchain();
  Findings findings;
  find_devices(toolchain, findings);
  find_compilers(toolchain, findings);
  findings.cache_enabled =
      toolchain.options().cache_enabled && !toolchain.options().cache_dir.empty();
  if (findings.cache_enabled) {
    findings.cache = cache::Maintenance({toolchain.options().cache_dir.string()}).stats();
  }
  const std::vector<Target> targets = choose_doctor_targets(toolchain, findings, common.targets);
  for (const Target& target : targets) {
    findings.targets.push_back(facts_of(toolchain, target, findings.worker.has_value()));
  }
  findings.formats = find_lowerings(choose_formats(subject_options), targets);
  find_problems(findings);
  if (common.json) {
    print_json(to_json(findings));
  } else {
    print_text(findings);
    if (subject) print(kernels_text(*subject, targets.front()));
  }
  return kDone;
}

}  // namespace ktjit::cli
