// ktjit exec: one op on one tensor, f32 in and out.
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/subject.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "core/tensor_layout.h"
#include "jit/expert_stack.h"
#include "jit/prepared_ops.h"
#include "jit/tensor_ops.h"
#include "model/mapped_file.h"
#include "model/open_model.h"
#include "model/output_file.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian f32");

struct ExecOptions {
  SubjectOptions subject;
  CommonOptions common;
  std::string tensor;
  std::string raw;
  std::string scale;
  std::string op;
  std::string x;
  std::int64_t n = 0;
  std::string activation = "a16";
  std::string out;
  std::string scale_out;
  std::string tensor_scale;
  bool no_saturate = false;
  std::string ids;
  std::int64_t experts = 0;
  std::int64_t slots_per_x = 0;
};

/// The tensor's bytes, and the files they lie in.
struct Operand {
  std::optional<model::Model> model;
  std::optional<model::MappedFile> raw;
  std::optional<model::MappedFile> scale;
  ScaledTensorView view;
  std::int64_t experts = 0;  ///< that a model's tensor stacks, as its dimensions say; 0: it has two
  std::optional<PreparedTensorView>
      prepared;            ///< if it is so in the file: then the view has no bytes
  NativeWeights restored;  ///< of these, where an op reads native weights
};

void check_file_size(const model::MappedFile& file, std::int64_t count, std::int64_t each_bytes,
                     std::string_view what) {
  std::int64_t expected = 0;
  const bool overflows = __builtin_mul_overflow(count, each_bytes, &expected);
  if (!overflows && file.size() == static_cast<std::uint64_t>(expected)) return;
  throw InputError(
      file.path().string(),
      fmt::format("has {} bytes, expected {} ({})", file.size(),
                  overflows ? std::string("more than memory holds") : std::to_string(expected),
                  what));
}

void open_raw(const ExecOptions& options, Operand& operand) {
  const SubjectOptions& description = options.subject;
  if (!description.model.empty() || !options.tensor.empty()) {
    throw UsageError("give MODEL with --tensor, or --raw, not both");
  }
  if (description.format.empty() || description.shape.empty()) {
    throw UsageError("--raw needs --format and --shape");
  }
  const WeightFormat weight = get_weight_format(description.format, description.scale_grid());
  const Format& format = get_format(weight.id);
  const Shape shape = parse_shape("--shape", description.shape);
  ScaledTensorView& view = operand.view;
  view = {format.id, shape.rows, shape.cols, {}, weight.scale, {}};
  if (view.scale_grid.has_value() == options.scale.empty()) {
    throw UsageError(view.scale_grid && !description.scale_grid()
                         ? fmt::format("--format {} needs --scale", weight.name())
                         : "--scale and --scale-block go together");
  }
  if (view.scale_grid && !has_separate_scales(format.id)) {
    throw UsageError(
        fmt::format("--scale does not go with {}", format.name),
        "only the FP8, MX and NVFP4 formats keep their scales in a tensor of their own");
  }
  const std::int64_t bytes_per_row = row_bytes(format, shape.cols);
  operand.raw.emplace(options.raw);
  check_file_size(*operand.raw, shape.rows, bytes_per_row,
                  fmt::format("{} {}x{}", weight.name(), shape.rows, shape.cols));
  view.data = operand.raw->bytes();
  if (!view.scale_grid) return;
  const ScaleGrid& grid = *view.scale_grid;
  operand.scale.emplace(options.scale);
  check_file_size(*operand.scale, 1, grid.plane_bytes(shape.rows, shape.cols),
                  fmt::format("{} scales {}x{}", scale_type_name(grid.type),
                              grid.rows_of_scales(shape.rows), grid.cols_of_scales(shape.cols)));
  view.scale_data = operand.scale->bytes();
}

void open_tensor(const ExecOptions& options, Operand& operand) {
  const SubjectOptions& subject = options.subject;
  if (subject.model.empty()) throw UsageError("MODEL is missing, or --raw");
  if (options.tensor.empty()) throw UsageError("--tensor is missing");
  if (!subject.format.empty() || !subject.shape.empty() || !subject.scale_block.empty() ||
      !subject.scale_type.empty() || !options.scale.empty()) {
    throw UsageError("--format, --shape, --scale, --scale-block and --scale-type go with --raw");
  }
  operand.model = model::open_model(subject.model);
  const model::TensorInfo& tensor = operand.model->get_tensor(options.tensor);
  operand.view = {tensor.format, tensor.rows(),     tensor.cols(),
                  tensor.data,   tensor.scale_grid, tensor.scale_data};
  if (tensor.layout == LayoutKind::kPrepared) {
    operand.view.data = {};
    operand.prepared = prepared_view(tensor);
  }
  if (tensor.n_dims > 2) operand.experts = tensor.ne[2] * tensor.ne[3];
}

/// x, [n, cols], and n.
std::pair<std::vector<float>, std::int64_t> read_x(const ExecOptions& options, std::int64_t cols) {
  const model::MappedFile file(options.x);
  const std::int64_t bytes_per_column = cols * std::int64_t{sizeof(float)};
  const std::int64_t n =
      options.n > 0 ? options.n : static_cast<std::int64_t>(file.size()) / bytes_per_column;
  check_file_size(file, std::max<std::int64_t>(n, 1), bytes_per_column,
                  fmt::format("f32 {}x{}, one row for each of n columns of the product",
                              std::max<std::int64_t>(n, 1), cols));
  std::vector<float> x(file.size() / sizeof(float));
  std::memcpy(x.data(), file.bytes().data(), file.size());
  return {std::move(x), n};
}

/// The ids of the slots, int32.
std::vector<std::int32_t> read_ids(const ExecOptions& options) {
  const model::MappedFile file(options.ids);
  const auto slots = static_cast<std::int64_t>(file.size() / sizeof(std::int32_t));
  check_file_size(file, std::max<std::int64_t>(slots, 1), sizeof(std::int32_t),
                  fmt::format("int32, one for each of {} slots", std::max<std::int64_t>(slots, 1)));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(slots));
  std::memcpy(ids.data(), file.bytes().data(), file.size());
  return ids;
}

/// What is written, and what it is for the last line.
struct Result {
  std::vector<std::byte> bytes;
  std::string_view format = "f32";
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

Result as_result(std::span<const float> values, std::int64_t rows, std::int64_t cols) {
  const auto bytes = std::as_bytes(values);
  return {{bytes.begin(), bytes.end()}, "f32", rows, cols};
}

void write_result(const std::string& path, const Result& result) {
  model::OutputFile file(path);
  file.write(result.bytes);
  file.commit();
  print(fmt::format("wrote {}: {} {}x{}, {}\n", path, result.format, result.rows, result.cols,
                    human_bytes(file.bytes_written())));
}

/// Whether the op reads the weights as they are in the file; restores them if it can't.
bool stays_prepared(Op op, ActivationPolicy activation, Operand& operand, Toolchain& toolchain,
                    const Place& place) {
  if (!operand.prepared) return false;
  if (activation == ActivationPolicy::kA16 &&
      reads_prepared(op, operand.view.format, place.target)) {
    return true;
  }
  operand.restored = restore(toolchain.engine(), *place.device, place.target, *operand.prepared);
  operand.view.data = operand.restored.data;
  operand.view.scale_data = operand.restored.scales;
  return false;
}

Result compute(const ExecOptions& options, Op op, Operand& operand,
               const std::pair<std::vector<float>, std::int64_t>& x) {
  const ActivationPolicy activation = get_activation(options.activation);
  Toolchain toolchain = options.common.make_toolchain();
  const Place place = choose_place(toolchain, options.common.device, options.common.target);
  const ScaledTensorView& view = operand.view;
  if (stays_prepared(op, activation, operand, toolchain, place)) {
    if (op == Op::kDequant) {
      return as_result(
          dequantize_prepared(toolchain.engine(), *place.device, place.target, *operand.prepared),
          view.rows, view.cols);
    }
    return as_result(multiply_prepared(toolchain.engine(), *place.device, place.target,
                                       *operand.prepared, x.first, x.second),
                     x.second, view.rows);
  }
  if (op == Op::kDequant) {
    return as_result(dequantize(toolchain.engine(), *place.device, place.target, view), view.rows,
                     view.cols);
  }
  return as_result(multiply_by(op, toolchain.engine(), *place.device, place.target, view, x.first,
                               x.second, activation),
                   x.second, view.rows);
}

Result compute_experts(const ExecOptions& options, Op op, Operand& operand) {
  const std::int64_t experts = options.experts > 0 ? options.experts : operand.experts;
  if (experts == 0)
    throw UsageError(fmt::format("--op {} needs --experts for a matrix", op_name(op)),
                     "how many matrices of equal height lie one after another in it");
  if (operand.experts > 0 && experts != operand.experts) {
    throw UsageError(fmt::format("--experts is {}", experts),
                     fmt::format("the tensor has {}", operand.experts));
  }
  std::optional<ExpertStack> stack;
  if (!operand.prepared) stack = split_into_experts(operand.view, experts);
  const std::vector<std::int32_t> ids = read_ids(options);
  const auto slots = static_cast<std::int64_t>(ids.size());
  const std::int64_t slots_per_x = options.slots_per_x > 0 ? options.slots_per_x : 1;
  const std::int64_t x_rows = (slots + slots_per_x - 1) / slots_per_x;
  const model::MappedFile file(options.x);
  check_file_size(file, x_rows, operand.view.cols * std::int64_t{sizeof(float)},
                  fmt::format("f32 {}x{}, one row for each {} of {} slots", x_rows,
                              operand.view.cols, slots_per_x, slots));
  std::vector<float> x(file.size() / sizeof(float));
  std::memcpy(x.data(), file.bytes().data(), file.size());

  Toolchain toolchain = options.common.make_toolchain();
  const Place place = choose_place(toolchain, options.common.device, options.common.target);
  const bool is_whole = operand.prepared && operand.prepared->matrices == experts;
  if (is_whole && stays_prepared(op, ActivationPolicy::kA16, operand, toolchain, place)) {
    return as_result(multiply_prepared_experts(op, toolchain.engine(), *place.device, place.target,
                                               *operand.prepared, ids, x, slots_per_x),
                     slots, operand.prepared->rows);
  }
  if (operand.prepared && !is_whole) {
    throw UsageError(fmt::format("--experts is {}", experts),
                     "a matrix that is prepared in the file isn't cut: restore the model first");
  }
  if (!stack) stack = split_into_experts(operand.view, experts);
  return as_result(multiply_experts(op, toolchain.engine(), *place.device, place.target,
                                    stack->view, ids, x, slots_per_x),
                   slots, stack->view.rows);
}

/// --tensor-scale, if it is given.
std::optional<float> tensor_scale_of(const ExecOptions& options, const WeightFormat& weight) {
  if (options.tensor_scale.empty()) return std::nullopt;
  if (!weight.scale || weight.scale->header_bytes() == 0)
    throw UsageError("--tensor-scale goes with --format nvfp4");
  const char* end = options.tensor_scale.data() + options.tensor_scale.size();
  float value = 0;
  const auto [at, error] = std::from_chars(options.tensor_scale.data(), end, value);
  if (error != std::errc() || at != end || !(value > 0) || !std::isfinite(value)) {
    throw UsageError(fmt::format("--tensor-scale is '{}'", options.tensor_scale),
                     "give a positive number");
  }
  return value;
}

/// x to codes of a format, and scales if the format has its own or blocks were asked for.
int run_quantize(const ExecOptions& options) {
  if (options.subject.format.empty() || options.subject.shape.empty() || options.x.empty())
    throw UsageError("--op quantize needs --format, --shape and --x");
  if (!options.subject.model.empty() || !options.tensor.empty() || !options.raw.empty() ||
      !options.scale.empty() || options.n > 0) {
    throw UsageError("--op quantize takes its input from --x alone");
  }
  const WeightFormat weight =
      get_weight_format(options.subject.format, options.subject.scale_grid());
  const Shape shape = parse_shape("--shape", options.subject.shape);
  if (weight.scale && options.scale_out.empty()) {
    throw UsageError(options.subject.scale_grid()
                         ? "--scale-block needs --scale-out with --op quantize"
                         : fmt::format("--format {} needs --scale-out", weight.name()));
  }
  if (!weight.scale && !options.scale_out.empty()) {
    throw UsageError(fmt::format("--scale-out does not go with {} without scales", weight.name()),
                     has_separate_scales(weight.id) ? "give --scale-block" : "");
  }
  if (weight.scale && options.no_saturate)
    throw UsageError("--no-saturate goes with a plain cast, not with scales");
  const std::optional<float> tensor_scale = tensor_scale_of(options, weight);
  row_bytes(get_format(weight.id), shape.cols);  // refuses columns that are no whole blocks

  const model::MappedFile file(options.x);
  check_file_size(file, shape.rows, shape.cols * std::int64_t{sizeof(float)},
                  fmt::format("f32 {}x{}", shape.rows, shape.cols));
  std::vector<float> x(file.size() / sizeof(float));
  std::memcpy(x.data(), file.bytes().data(), file.size());

  Toolchain toolchain = options.common.make_toolchain();
  const Place place = choose_place(toolchain, options.common.device, options.common.target);
  QuantizedTensor result = quantize(toolchain.engine(), *place.device, place.target, weight, x,
                                    shape.rows, shape.cols, !options.no_saturate, tensor_scale);
  write_result(options.out, {std::move(result.codes), weight.name(), shape.rows, shape.cols});
  if (weight.scale) {
    const ScaleGrid& grid = *weight.scale;
    write_result(options.scale_out,
                 {std::move(result.scales), scale_type_name(grid.type),
                  grid.rows_of_scales(shape.rows), grid.cols_of_scales(shape.cols)});
  }
  return kDone;
}

Op get_exec_op(const std::string& name) {
  constexpr std::string_view kAdvice =
      "give dequant, matvec, matmul, moe_matvec, moe_matmul or quantize";
  if (name.empty()) throw UsageError("--op is missing", std::string(kAdvice));
  for (std::string_view known :
       {"dequant", "matvec", "matmul", "moe_matvec", "moe_matmul", "quantize"}) {
    if (name == known) return get_op(name);
  }
  throw UsageError(fmt::format("--op is '{}'", name), std::string(kAdvice));
}

}  // namespace

int run_exec(const Arguments& arguments) {
  ExecOptions options;
  ArgumentParser parser(
      {"exec MODEL --tensor NAME --op OP --out FILE [options]\n"
       "       ktjit exec --raw FILE --format F --shape RxC --op OP --out FILE [options]",
       "Runs one op on one tensor of a model, or on bare bytes. Files in and out are "
       "little-endian\n"
       "f32, row-major, without a header:\n"
       "  dequant  y [rows, cols], the decoded tensor\n"
       "  matvec   y [n, rows] = x [n, cols] times the tensor, eight rows of x at a time\n"
       "  matmul   the same for any n; with --activation afp8 x is first quantised to fp8_e4m3, a "
       "scale\n"
       "           for each 128 columns\n"
       "  moe_matvec y [slots, rows]: slot s multiplies row s / slots-per-x of x by the expert "
       "that --ids\n"
       "           (int32) names; NaN where there is no such expert\n"
       "  moe_matmul the same, for many slots: those of an expert are multiplied together\n"
       "  quantize x [rows, cols] in the format: FP8, with --scale-block RxN also scales, to "
       "--scale-out;\n"
       "           mxfp8_*, mxfp6_*, mxfp4 and nvfp4 with their own scales; q8_0, q4_0; bare "
       "fp6_*, fp4_*\n"
       "A tensor of more than two dimensions is taken as [all others, contiguous one].\n"
       "The output file appears whole or not at all.\n",
       exit_code_help("the output file is there", {},
                      "a file is missing or has another size than the shapes ask for",
                      "no such device, or no compiler for the target"),
       "ktjit exec --raw w.bin --format fp8e4nv --shape 4096x14336 --scale s.bin \\\n"
       "        --scale-block 128x128 --op dequant --out y.f32"});
  options.subject.add_model(parser);
  parser.add_options()("tensor", po::value(&options.tensor)->value_name("NAME"),
                       "which tensor of the model")(
      "op", po::value(&options.op)->value_name("OP"),
      "dequant, matvec, matmul, moe_matvec, moe_matmul or quantize")(
      "out", po::value(&options.out)->value_name("FILE"), "where the result goes")(
      "x", po::value(&options.x)->value_name("FILE"),
      "products: the activations, f32 [n, cols]; quantize: f32 [rows, cols]")(
      "n", po::value(&options.n)->value_name("N"), "products: rows of x (default: by its size)")(
      "activation", po::value(&options.activation)->value_name("POLICY"),
      "products: a16, a8 or afp8 (default: a16)")(
      "ids", po::value(&options.ids)->value_name("FILE"), "MoE: the expert of each slot, int32")(
      "slots-per-x", po::value(&options.slots_per_x)->value_name("N"),
      "MoE: slots that share a row of x (default: 1)")(
      "experts", po::value(&options.experts)->value_name("N"),
      "MoE, of a matrix: how many experts its rows are")(
      "raw", po::value(&options.raw)->value_name("FILE"), "bare bytes in place of a model");
  options.subject.add_description(parser);
  parser.add_options()("scale", po::value(&options.scale)->value_name("FILE"),
                       "scales of the raw bytes, row-major (FP8 and MX formats)")(
      "scale-out", po::value(&options.scale_out)->value_name("FILE"),
      "quantize: where the scales go")(
      "tensor-scale", po::value(&options.tensor_scale)->value_name("S"),
      "quantize to nvfp4: the tensor's scale (default: largest |x| / 2688)");
  parser.add_flag("no-saturate", &options.no_saturate,
                  "quantize: overflow gives NaN or infinity, as the format has it");
  options.common.add_device(parser);
  options.common.add_target(parser);
  options.common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  const Op op = get_exec_op(options.op);
  if (options.out.empty()) throw UsageError("--out is missing");
  if (options.n < 0) throw UsageError(fmt::format("--n is {}", options.n), "give 1 or more");
  if (op != Op::kQuantize &&
      (!options.scale_out.empty() || !options.tensor_scale.empty() || options.no_saturate)) {
    throw UsageError("--scale-out, --tensor-scale and --no-saturate go with --op quantize");
  }
  const bool is_moe = has_experts(op);
  if (!is_moe && (!options.ids.empty() || options.experts != 0 || options.slots_per_x != 0))
    throw UsageError(
        "--ids, --experts and --slots-per-x go with --op moe_matvec and --op moe_matmul");
  if (is_moe) {
    if (options.ids.empty()) throw UsageError(fmt::format("--op {} needs --ids", options.op));
    if (options.n > 0)
      throw UsageError(fmt::format("--n does not go with --op {}", options.op), "the ids count");
    if (get_activation(options.activation) != ActivationPolicy::kA16)
      throw UsageError(fmt::format("--activation is {}", options.activation),
                       fmt::format("exec {} has a16", options.op));
    if (options.experts < 0 || options.slots_per_x < 0)
      throw UsageError("--experts or --slots-per-x is negative", "give 1 or more");
  }
  if (op == Op::kQuantize) return run_quantize(options);
  if (is_product(op) && options.x.empty())
    throw UsageError(fmt::format("--op {} needs --x", options.op));
  if (op == Op::kDequant && (!options.x.empty() || options.n > 0)) {
    throw UsageError("--x and --n go with products");
  }
  Operand operand;
  if (options.raw.empty()) {
    open_tensor(options, operand);
  } else {
    open_raw(options, operand);
  }
  if (is_moe) {
    write_result(options.out, compute_experts(options, op, operand));
    return kDone;
  }
  std::pair<std::vector<float>, std::int64_t> x;
  if (is_product(op)) x = read_x(options, operand.view.cols);

  write_result(options.out, compute(options, op, operand, x));
  return kDone;
}

}  // namespace ktjit::cli
