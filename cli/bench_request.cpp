#include "cli/bench_request.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/format.h>
#include <optional>

#include "cli/exit_code.h"
#include "cli/units.h"
#include "codegen/emitter.h"
#include "codegen/lowering.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/tensor_ops.h"
#include "jit/tuner.h"
#include "model/open_model.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

constexpr std::array kKnobs = {
    TuningKnob{"threads", &Tuning::threads}, TuningKnob{"rows_per_warp", &Tuning::rows_per_warp},
    TuningKnob{"x_tile", &Tuning::x_tile},
    TuningKnob{"ctas_per_multiprocessor", &Tuning::ctas_per_multiprocessor},
    TuningKnob{"stages", &Tuning::stages}};
constexpr std::array kBenchOps = {Op::kDequant, Op::kMatvec,    Op::kMoeMatvec,
                                  Op::kMatmul,  Op::kMoeMatmul, Op::kQuantize};

/// The parts between commas, none empty. Errors: UsageError that names `option`.
std::vector<std::string> split_list(std::string_view option, std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    if (part.empty())
      throw UsageError(fmt::format("{} has an empty part", option), "give A,B,C without spaces");
    parts.emplace_back(part);
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

int parse_count(std::string_view option, std::string_view text) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < 1)
    throw UsageError(fmt::format("{} is '{}'", option, text), "give 1 or more");
  return value;
}

std::string op_names() {
  std::string names;
  for (Op op : kBenchOps) names += fmt::format("{}{}", names.empty() ? "" : ", ", op_name(op));
  return names;
}

Op parse_op(const std::string& name) {
  for (Op op : kBenchOps) {
    if (op_name(op) == name) return op;
  }
  throw UsageError(fmt::format("--op is '{}'", name), "give one or more of " + op_names());
}

/// What is measured: a matrix, or several of equal columns.
struct Matrix {
  WeightFormat format;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<std::int64_t> more_rows = {};
  Gate gate = Gate::kNone;
  int slots_per_x = 1;

  bool operator==(const Matrix&) const = default;
};

/// Reads "4096x14336", or "4096+1024+1024x4096": rows of each matrix. Errors: UsageError.
Matrix parse_matrices(const std::string& text) {
  const std::size_t last_plus = text.rfind('+');
  const std::size_t begin = last_plus == std::string::npos ? 0 : last_plus + 1;
  const Shape last = parse_shape("--shape", text.substr(begin));
  std::vector<std::int64_t> rows;
  for (std::size_t at = 0; at < begin;) {
    const std::size_t plus = text.find('+', at);
    rows.push_back(parse_count("--shape", text.substr(at, plus - at)));
    at = plus + 1;
  }
  rows.push_back(last.rows);
  Matrix matrix;
  matrix.rows = rows.front();
  matrix.cols = last.cols;
  matrix.more_rows.assign(rows.begin() + 1, rows.end());
  return matrix;
}

/// Errors: UsageError unless there is one for all shapes, or one for each.
void check_count(std::string_view option, std::size_t count, std::size_t shapes) {
  if (count == 1 || count == shapes) return;
  throw UsageError(fmt::format("{} has {} parts for {} shapes", option, count, shapes),
                   "give one for all, or one for each");
}

/// Turns options into works.
class RequestBuilder {
 public:
  RequestBuilder(const BenchOptions& options, std::span<const Target> targets)
      : options_(options), targets_(targets) {
    for (const std::string& name : split_list("--op", options.ops)) ops_.push_back(parse_op(name));
    for (const std::string& n : split_list("--n", options.n)) n_.push_back(parse_count("--n", n));
    x_format_ = get_format(options.x_format).id;
    y_format_ = get_format(options.y_format).id;
    for (const std::string& gate : split_list("--gate", options.gate))
      gates_.push_back(get_gate(gate));
    for (const std::string& slots : split_list("--slots-per-x", options.slots_per_x))
      slots_per_x_.push_back(parse_count("--slots-per-x", slots));
    if (!options.residual.empty()) residual_ = get_format(options.residual).id;
    if (!options.tuning.empty()) tuning_ = parse_tuning(options.tuning);
    request_.settings.samples = options.samples;
    request_.settings.use_graph = !options.no_graph;
    request_.settings.in_turn = options.in_turn;
    if (!options.data.empty()) request_.settings.data_bytes = parse_bytes("--data", options.data);
  }

  BenchRequest build() {
    if (options_.model.empty()) {
      add_described();
    } else {
      add_model();
    }
    if (request_.works.empty())
      throw UsageError("there is nothing to measure", "no matrix has a kernel of --op");
    return std::move(request_);
  }

 private:
  void add_described() {
    request_.title = fmt::format("{} {}", options_.formats, options_.shapes);
    const bool all = options_.formats == "all";
    const std::vector<WeightFormat> formats = all ? all_bench_formats() : named_formats();
    const std::vector<std::string> shapes = split_list("--shape", options_.shapes);
    check_count("--gate", gates_.size(), shapes.size());
    check_count("--slots-per-x", slots_per_x_.size(), shapes.size());
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      Matrix matrix = parse_matrices(shapes[i]);
      matrix.gate = gates_[gates_.size() == 1 ? 0 : i];
      matrix.slots_per_x = slots_per_x_[slots_per_x_.size() == 1 ? 0 : i];
      for (Op op : ops_) {
        for (const WeightFormat& format : formats) {
          matrix.format = format;
          add_matrix(op, matrix, std::string(format.name()), all);
        }
      }
    }
  }

  void add_model() {
    check_count("--gate", gates_.size(), 1);
    check_count("--slots-per-x", slots_per_x_.size(), 1);
    const model::Model model = model::open_model(options_.model);
    request_.title = options_.model;
    std::vector<Matrix> matrices;
    for (const model::TensorInfo& tensor : model.tensors()) {
      if (tensor.n_dims < 2 || tensor.elements() == 0) continue;  // norms and biases
      const std::string name = fmt::format("{} {}", tensor.name, get_format(tensor.format).name);
      if (!codegen::is_served(tensor.format)) {
        request_.skipped.push_back({name, "no kernel serves the format yet"});
        continue;
      }
      const Matrix matrix{.format = {tensor.format, tensor.scale_grid},
                          .rows = tensor.rows(),
                          .cols = tensor.cols(),
                          .gate = gates_.front(),
                          .slots_per_x = slots_per_x_.front()};
      if (std::find(matrices.begin(), matrices.end(), matrix) != matrices.end()) continue;
      matrices.push_back(matrix);
      for (Op op : ops_) add_matrix(op, matrix, name, /*may_skip=*/true);
    }
  }

  /// `may_skip`: the format was not asked for by name, so an op that doesn't take it, or columns that are
  /// no whole number of its blocks, leave it out.
  void add_matrix(Op op, const Matrix& matrix, const std::string& name, bool may_skip) {
    for (int n : is_product(op) ? n_ : std::vector<int>{1}) {
      for (const Target& target : targets_) {
        try {
          add_work(op, matrix, n, target);
        } catch (const SpecError& error) {
          if (!may_skip) throw;
          skip(op, name, error);
          return;
        }
      }
    }
  }

  /// Called where `error` is handled. Errors: it again, unless the format is its reason.
  void skip(Op op, const std::string& name, const SpecError& error) {
    constexpr std::array<std::string_view, 4> kOfFormat = {"format", "scale", "cols", "layout"};
    if (std::find(kOfFormat.begin(), kOfFormat.end(), error.field()) == kOfFormat.end()) throw;
    request_.skipped.push_back({name, error.field() == "format"
                                          ? fmt::format("{} does not take the format", op_name(op))
                                          : fmt::format("{}: {}", op_name(op), error.what())});
  }

  void add_work(Op op, const Matrix& matrix, int n, const Target& target) {
    BenchWork work;
    work.rows = matrix.rows;
    work.more_rows = matrix.more_rows;
    work.n = n;
    if (has_experts(op)) {
      work.experts = options_.experts;
      work.slots_per_x = matrix.slots_per_x;
    }
    KernelSpec& spec = work.spec;
    spec = make_spec(op, matrix.format.id, matrix.format.scale, matrix.cols, target);
    spec.y_format = y_format_;
    spec.x_format = x_format_;
    spec.dependent_launch = options_.dependent_launch;
    spec.weights_finite =
        options_.weights_finite && get_format(spec.weight).family == FormatFamily::kFp8;
    if (is_matvec(op)) {
      if (op == Op::kMatvec) spec.x_columns = x_columns_for(n);
      spec.gate = matrix.gate;
      spec.matrices = 1 + static_cast<int>(matrix.more_rows.size());
      spec.residual = residual_;
      const bool is_plain = op == Op::kMoeMatvec || !is_fused(spec);
      const bool can_prepare =
          serves_prepared(spec.weight, target) && (is_plain || target.is_cuda());
      if (options_.layout == "prepared" || (options_.layout == "auto" && can_prepare))
        spec.layout.kind = rearranged_layout(target);
      if (options_.activation == activation_name(ActivationPolicy::kA8))
        spec.activation = ActivationPolicy::kA8;
    }
    if (op == Op::kMoeMatmul) spec.gate = matrix.gate;
    if ((op == Op::kDequant || is_matmul(op)) && options_.layout == "prepared")
      spec.layout.kind = LayoutKind::kPrepared;
    if (is_matmul(op)) {
      spec.activation = get_activation(options_.activation);
      spec.tensor_core_precision = options_.tensor_core_precision;
      spec.tuning = op == Op::kMoeMatmul ? moe_matmul_tuning(target, n, options_.experts)
                                         : matmul_tuning(spec, matrix.rows, n);
      if (spec.activation == ActivationPolicy::kAfp8) {
        spec.x_format = FormatId::kFp8E4M3;
        spec.x_scale = ScaleGrid{1, kActivationGroup, ScaleType::kF32};
      }
    }
    // Nothing here writes weights while kernels run.
    spec.constant_weights = spec.dependent_launch && can_request_early(spec);
    if (is_matvec(op)) {
      std::int64_t rows = 0;
      for (const std::int64_t own_rows : work.all_rows()) rows += own_rows;
      spec.tuning = default_tuning(spec, {.rows = rows, .n = n});
    }
    if (tuning_) spec.tuning = *tuning_;
    codegen::emit(spec);  // refuses what can't be, before anything is measured
    bench_bytes(work);
    if (std::find(request_.works.begin(), request_.works.end(), work) == request_.works.end())
      request_.works.push_back(std::move(work));
  }

  std::optional<ScaleGrid> scale_grid() const {
    const ScaleType type =
        options_.scale_type.empty() ? ScaleType::kF32 : get_scale_type(options_.scale_type);
    if (options_.scale_block.empty()) return std::nullopt;
    return parse_scale_block(options_.scale_block, type);
  }

  /// `name` with the scales of --scale-block, if the format can have those.
  WeightFormat format_of(std::string_view name) const {
    const WeightFormat plain = get_weight_format(name);
    const bool takes_scales = !plain.scale && get_format(plain.id).family == FormatFamily::kFp8;
    return takes_scales ? get_weight_format(name, scale_grid()) : plain;
  }

  std::vector<WeightFormat> named_formats() const {
    std::vector<WeightFormat> formats;
    for (const std::string& name : split_list("--format", options_.formats))
      formats.push_back(format_of(name));
    if (!options_.scale_block.empty() &&
        std::none_of(formats.begin(), formats.end(), [](const WeightFormat& format) {
          return get_format(format.id).family == FormatFamily::kFp8;
        })) {
      throw UsageError("--scale-block does not go with these formats",
                       "the FP8 formats keep their scales in a tensor of their own");
    }
    return formats;
  }

  /// What kernels serve, as elements and with the scales that a name implies.
  std::vector<WeightFormat> all_bench_formats() const {
    std::vector<WeightFormat> formats;
    for (const Format& format : all_formats()) {
      if (codegen::is_served(format.id)) formats.push_back(format_of(format.name));
    }
    for (std::string_view name : scaled_format_names()) formats.push_back(get_weight_format(name));
    return formats;
  }

  const BenchOptions& options_;
  std::span<const Target> targets_;
  std::vector<Op> ops_;
  std::vector<int> n_;
  FormatId x_format_ = FormatId::kF32;
  FormatId y_format_ = FormatId::kF32;
  std::vector<Gate> gates_;
  std::vector<int> slots_per_x_;
  std::optional<FormatId> residual_;
  std::optional<Tuning> tuning_;
  BenchRequest request_;
};

}  // namespace

std::span<const TuningKnob> tuning_knobs() { return kKnobs; }

Tuning parse_tuning(std::string_view text) {
  Tuning tuning;
  for (const std::string& part : split_list("--tuning", text)) {
    const std::size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    const auto knob = std::find_if(kKnobs.begin(), kKnobs.end(),
                                   [&](const TuningKnob& known) { return known.name == name; });
    if (equals == std::string::npos || knob == kKnobs.end()) {
      std::string names;
      for (const TuningKnob& known : kKnobs)
        names += fmt::format("{}{}=N", names.empty() ? "" : ", ", known.name);
      throw UsageError(fmt::format("--tuning has '{}'", part), "give " + names);
    }
    tuning.*knob->value =
        parse_count("--tuning " + name, std::string_view(part).substr(equals + 1));
  }
  return tuning;
}

void BenchOptions::add_to(ArgumentParser& parser) {
  parser.add_positional("MODEL", &model);
  parser.add_options()(
      "op", po::value(&ops)->value_name("OP[,OP]"),
      "dequant, matvec, moe_matvec, matmul, moe_matmul, quantize (default: matvec)")(
      "format", po::value(&formats)->value_name("F[,F]"),
      "number formats, in place of a model: fp8e4nv, q4_K, bf16, ...; or all")(
      "shape", po::value(&shapes)->value_name("RxC[,RxC]"),
      "rows and columns, such as 4096x14336; matvec of several matrices in one launch: "
      "4096+1024x4096")(
      "scale-block", po::value(&scale_block)->value_name("RxC"),
      "rows and columns that share one scale, or 'row' or 'tensor', of the FP8 formats given")(
      "scale-type", po::value(&scale_type)->value_name("TYPE"), "f32, bf16 or e8m0 (default: f32)")(
      "n", po::value(&n)->value_name("N[,N]"),
      "products: rows of x; moe_matvec, moe_matmul: slots (default: 1)")(
      "activation", po::value(&activation)->value_name("POLICY"),
      "matmul: a16, a8 or afp8; matvec of prepared weights on CPUs: a16 or a8 (default: a16)")(
      "x-format", po::value(&x_format)->value_name("F"),
      "products, quantize: f32, f16 or bf16 (default: f32)")(
      "y-format", po::value(&y_format)->value_name("F"),
      "dequant, products: f32, f16 or bf16 (default: f32)")(
      "layout", po::value(&layout)->value_name("L"),
      "of matvec's weights: native, prepared, or auto: prepared where the target and format have "
      "it; dequant's are prepared if it says so (default: auto)")(
      "gate", po::value(&gate)->value_name("G[,G]"),
      "matvec, moe_matvec, moe_matmul of a gate and an up matrix: none, silu or gelu_tanh "
      "(default: none); one for all shapes, or one for each")(
      "residual", po::value(&residual)->value_name("F"), "matvec: f32, f16 or bf16 values to add")(
      "experts", po::value(&experts)->value_name("N"),
      "moe_matvec, moe_matmul: matrices in a stack")(
      "slots-per-x", po::value(&slots_per_x)->value_name("N[,N]"),
      "moe_matvec, moe_matmul: slots that share a row of x (default: 1); one for all shapes, or "
      "one "
      "for each")(
      "tuning", po::value(&tuning)->value_name("KEY=N[,..]"),
      "knobs of the kernels: threads, rows_per_warp, x_tile, ctas_per_multiprocessor, stages "
      "(default: the emitter's)")("samples", po::value(&samples)->value_name("N"),
                                  "timed replays (default: 15)")(
      "data", po::value(&data)->value_name("SIZE"),
      "bytes of operands to walk over (default: 1G, or four times the last level of cache)");
  parser.add_flag("tune", &tune,
                  "measure the knobs first, and take and record the fastest, as 'ktjit tune' does");
  parser.add_flag("weights-finite", &weights_finite,
                  "FP8: kernels for weights that a scan found to have no NaN");
  parser.add_flag("dependent-launch", &dependent_launch,
                  "launches overlap the end of the one before, from sm_90 on");
  parser.add_flag(
      "tensor-core-precision", &tensor_core_precision,
      "matmul from sm_80 on, moe_matmul on sm_90a: of weights rounded once to the format of x, "
      "bf16 "
      "or f16; sm_90a: or afp8; CPUs with AMX: matmul of native weights with --x-format bf16");
  parser.add_flag("no-graph", &no_graph, "launch one by one, not as a CUDA graph");
  parser.add_flag("in-turn", &in_turn,
                  "all works once more as one sequence, a launch of each after another, as the "
                  "kernels of a model's layers come");
}

void BenchOptions::check() const {
  if (!model.empty() && (!formats.empty() || !shapes.empty())) {
    throw UsageError("give MODEL, or --format and --shape, not both",
                     "a file for JSON is given as --json=FILE");
  }
  if (model.empty() && formats.empty()) throw UsageError("MODEL is missing, or --format");
  if (model.empty() && shapes.empty()) throw UsageError("--format needs --shape");
  if (!model.empty() && (!scale_block.empty() || !scale_type.empty()))
    throw UsageError("--scale-block and --scale-type go with --format");
  if (!scale_type.empty() && scale_block.empty())
    throw UsageError("--scale-type needs --scale-block");
  if (layout != "auto" && layout != "native" && layout != "prepared")
    throw UsageError(fmt::format("--layout is '{}'", layout), "give auto, native or prepared");
  const bool has_experts = ops.find("moe_") != std::string::npos;
  if (has_experts && experts < 1)
    throw UsageError(fmt::format("--op {} needs --experts", ops), "give 1 or more");
  if (!has_experts && (experts != 0 || slots_per_x != "1"))
    throw UsageError("--experts and --slots-per-x go with --op moe_matvec and moe_matmul");
  if (tune && !tuning.empty())
    throw UsageError("--tune and --tuning do not go together", "give one of them");
  if (samples < 1) throw UsageError(fmt::format("--samples is {}", samples), "give 1 or more");
}

BenchRequest make_bench_request(const BenchOptions& options, std::span<const Target> targets) {
  return RequestBuilder(options, targets).build();
}

}  // namespace ktjit::cli
