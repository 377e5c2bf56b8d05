// ktjit emit: a kernel in any of its forms, printed.
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <optional>
#include <string_view>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/subject.h"
#include "cli/verbs.h"
#include "codegen/emitter.h"
#include "core/prepared_layout.h"
#include "jit/disassembler.h"
#include "jit/planner.h"
#include "jit/tensor_ops.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

enum class Stage { kSpec, kCuda, kCpp, kLlvm, kPtx, kSass, kAsm, kResources };

struct StageFacts {
  Stage stage;
  std::string_view name;
  bool for_cuda;
  bool for_cpu;
};

constexpr std::array kStages = {
    StageFacts{Stage::kSpec, "spec", true, true},
    StageFacts{Stage::kCuda, "cuda", true, false},
    StageFacts{Stage::kCpp, "cpp", false, true},
    StageFacts{Stage::kLlvm, "llvm", true, true},
    StageFacts{Stage::kPtx, "ptx", true, false},
    StageFacts{Stage::kSass, "sass", true, false},
    StageFacts{Stage::kAsm, "asm", false, true},
    StageFacts{Stage::kResources, "resources", true, true},
};

std::string stages_of(const Target& target) {
  std::string names;
  for (const StageFacts& facts : kStages) {
    if (target.is_cuda() ? !facts.for_cuda : !facts.for_cpu) continue;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", facts.name);
  }
  return names;
}

/// Reads "spec,cuda". Errors: UsageError for a stage that the target doesn't have.
std::vector<StageFacts> parse_stages(std::string_view list, const Target& target) {
  std::vector<StageFacts> stages;
  while (true) {
    const std::size_t comma = std::min(list.find(','), list.size());
    const std::string_view name = list.substr(0, comma);
    const auto facts = std::find_if(kStages.begin(), kStages.end(), [&](const StageFacts& known) {
      return known.name == name && (target.is_cuda() ? known.for_cuda : known.for_cpu);
    });
    if (facts == kStages.end()) {
      throw UsageError(fmt::format("--stage is '{}'", name),
                       fmt::format("{} has {}", target.name(), stages_of(target)));
    }
    stages.push_back(*facts);
    if (comma == list.size()) return stages;
    list.remove_prefix(comma + 1);
  }
}

std::string as_text(const Artifact& artifact) {
  std::string text(reinterpret_cast<const char*>(artifact.bytes.data()), artifact.bytes.size());
  while (!text.empty() && text.back() == '\0') text.pop_back();  // NVRTC counts the end of PTX
  return text;
}

std::string resources_text(const BuiltKernel& built) {
  const KernelResources& resources = built.artifact.resources;
  std::string text = fmt::format("kernel: {}\ntarget: {}\ncompiler: {}\n", built.emitted.entry_name,
                                 built.spec.target.name(), built.compiler);
  const auto line = [&text](std::string_view name, const std::optional<int>& value) {
    text += fmt::format("{}: {}\n", name, value ? fmt::format("{}", *value) : "not known");
  };
  line("registers", resources.registers);
  line("spill_bytes", resources.spill_bytes);
  line("stack_bytes", resources.stack_bytes);
  line("static_smem_bytes", resources.static_smem_bytes);
  text += fmt::format("{}_bytes: {}\n", artifact_kind_name(built.artifact.kind),
                      built.artifact.bytes.size());
  const LaunchShape& launch = built.emitted.launch;
  return text + fmt::format("threads: {}\nrows_per_cta: {}\ndynamic_smem_bytes: {}\n",
                            launch.threads, launch.rows_per_cta, launch.smem_bytes);
}

std::string stage_text(Toolchain& toolchain, const KernelSpec& spec, Stage stage) {
  Engine& engine = toolchain.engine();
  switch (stage) {
    case Stage::kSpec:
      return to_text(spec);
    case Stage::kCuda:
    case Stage::kCpp:
      return codegen::emit(spec).source;
    case Stage::kLlvm:
      return as_text(engine.build(spec, ArtifactKind::kLlvmIr).artifact);
    case Stage::kPtx:
      return as_text(engine.build(spec, ArtifactKind::kPtx).artifact);
    case Stage::kSass:
      return disassemble(toolchain.options(),
                         engine.build(spec, ArtifactKind::kCubin).artifact.bytes);
    case Stage::kAsm:
      return as_text(engine.build(spec, ArtifactKind::kAssembly).artifact);
    case Stage::kResources:
      return resources_text(engine.build(spec, native_artifact_kind(spec.target)));
  }
  KTJIT_UNREACHABLE("a known stage");
}

}  // namespace

int run_emit(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  std::string tensor_name, stage_list;
  std::string op = "dequant", x_format = "f32", y_format = "f32", activation = "a16";
  std::string bias, gate = "none", residual, layout;
  int n = 0, matrices = 1;
  bool tensor_core_precision = false;
  ArgumentParser parser(
      {"emit MODEL --tensor NAME [options]  |  emit --format F --shape RxC [options]",
       "Prints the kernel of an op on a tensor in one or more of its forms. Several are separated "
       "by\n"
       "a line '==== stage ===='. spec and source need no compiler, sass needs NVIDIA's "
       "nvdisasm.\n",
       exit_code_help("printed", {}, "the model is missing, damaged or something else",
                      "no compiler for the target, or no nvdisasm"),
       "ktjit emit --format fp8e4nv --shape 4096x14336 --scale-block 128x128 --target sm_86"});
  subject_options.add_model(parser);
  parser.add_options()("tensor", po::value(&tensor_name)->value_name("NAME"),
                       "which tensor of the model")(
      "op", po::value(&op)->value_name("OP"),
      "dequant, matvec, matmul, moe_matvec, moe_matmul, quantize, "
      "nan_scan, prepare or restore (default: dequant)")(
      "stage", po::value(&stage_list)->value_name("S,..."),
      "spec, cuda (GPU), cpp (CPU), llvm, ptx (GPU), sass (GPU), asm (CPU), resources "
      "(default: cuda or cpp)")("x-format", po::value(&x_format)->value_name("F"),
                                "products, quantize: f32, f16 or bf16 activations (default: f32)")(
      "y-format", po::value(&y_format)->value_name("F"),
      "dequant, products: f32, f16 or bf16 output (default: f32)")(
      "n", po::value(&n)->value_name("N"),
      "matvec: 1, 2, 4 or 8 columns of activations (default: 1); matmul: about how many there are "
      "(default: many); moe_matmul: about how many slots an expert has (default: many)")(
      "activation", po::value(&activation)->value_name("POLICY"),
      "products: a16, a8 or afp8 (default: a16)")("bias", po::value(&bias)->value_name("F"),
                                                  "products: f32, f16 or bf16 (default: none)")(
      "gate", po::value(&gate)->value_name("ACT"),
      "matvec, moe_matvec, moe_matmul: act(gate x) * (up x), silu or gelu_tanh (default: none)")(
      "matrices", po::value(&matrices)->value_name("M"),
      "matvec: 1 to 4 matrices that share x in one launch (default: 1)")(
      "layout", po::value(&layout)->value_name("L"),
      "products, dequant: of the weights, native or prepared (default: native; restore's are "
      "prepared)")("residual", po::value(&residual)->value_name("F"),
                   "matvec: adds f32, f16 or bf16 numbers to y (default: none)");
  parser.add_flag("tensor-core-precision", &tensor_core_precision,
                  "matmul from sm_80 on and on CPUs with AMX, moe_matmul on sm_90a: of weights "
                  "rounded once to the format of x; sm_90a: or afp8");
  subject_options.add_description(parser);
  common.add_device(parser);
  common.add_target(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  const Subject subject(subject_options);
  if (subject.described() && !tensor_name.empty()) throw UsageError("--tensor needs MODEL");
  if (!subject.described() && tensor_name.empty()) throw UsageError("--tensor is missing");
  const model::TensorInfo& tensor = subject.described() ? subject.model().tensors().front()
                                                        : subject.model().get_tensor(tensor_name);
  Toolchain toolchain = common.make_toolchain();
  // Without a device knobs are the default's: records are of devices.
  std::optional<Place> place;
  if (common.target.empty() || !common.device.empty())
    place = choose_place(toolchain, common.device, common.target);
  const Target target = place ? place->target : toolchain.get_target(common.target);
  KernelSpec spec = spec_for(tensor, get_op(op), target);
  spec.x_format = get_format(x_format).id;
  spec.y_format = get_format(y_format).id;
  spec.activation = get_activation(activation);
  if (spec.op == Op::kMoeMatmul) {
    if (n != 0) spec.tuning = moe_matmul_tuning(target, n, 1);
  } else if (spec.op != Op::kMatmul) {
    spec.x_columns = n == 0 ? 1 : n;
  } else if (n != 0) {
    spec.tensor_core_precision = tensor_core_precision;
    spec.tuning = matmul_tuning(spec, tensor.rows(), n);
  }
  if (!bias.empty()) spec.bias = get_format(bias).id;
  spec.gate = get_gate(gate);
  spec.matrices = matrices;
  if (!residual.empty()) spec.residual = get_format(residual).id;
  if (spec.activation == ActivationPolicy::kAfp8) {
    spec.x_format = FormatId::kFp8E4M3;
    spec.x_scale = ScaleGrid{1, kActivationGroup, ScaleType::kF32};
  }
  spec.tensor_core_precision = tensor_core_precision;
  spec.layout.kind = spec.op == Op::kRestore ? LayoutKind::kPrepared : LayoutKind::kNative;
  if (!layout.empty()) spec.layout.kind = get_layout(layout);
  if (spec.op == Op::kNanScan) spec.scale.reset();  // it reads codes only
  validate(spec);
  if (place) {
    const std::optional<TunedKnobs> tuned = toolchain.engine().tuned_knobs(
        *place->device, spec, {tensor.rows(), is_product(spec.op) ? std::max(n, 1) : 0});
    if (tuned && tuned->tuning != spec.tuning) {
      spec.tuning = tuned->tuning;
      print_to_stderr(fmt::format("ktjit: {}; --no-tuning leaves them out", tuned_text(*tuned)));
    }
  }

  if (stage_list.empty()) stage_list = target.is_cuda() ? "cuda" : "cpp";
  const std::vector<StageFacts> stages = parse_stages(stage_list, target);
  for (const StageFacts& stage : stages) {
    std::string text = stage_text(toolchain, spec, stage.stage);
    if (!text.empty() && text.back() != '\n') text += '\n';
    if (stages.size() > 1) print(fmt::format("==== {} ====\n", stage.name));
    print(text);
  }
  return kDone;
}

}  // namespace ktjit::cli
