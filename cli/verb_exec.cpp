// ktjit exec: one op on one tensor, f32 in and out.
#include <bit>
#include <cstring>
#include <fmt/format.h>
#include <optional>
#include <span>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/subject.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "core/tensor_layout.h"
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
};

/// The tensor's bytes, and the files they lie in.
struct Operand {
  std::optional<model::Model> model;
  std::optional<model::MappedFile> raw;
  std::optional<model::MappedFile> scale;
  ScaledTensorView view;
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
  const Format& format = get_format(description.format);
  const Shape shape = parse_shape("--shape", description.shape);
  ScaledTensorView& view = operand.view;
  view = {format.id, shape.rows, shape.cols, {}, description.scale_grid(), {}};
  if (view.scale_grid.has_value() == options.scale.empty()) {
    throw UsageError("--scale and --scale-block go together");
  }
  if (view.scale_grid && format.family != FormatFamily::kFp8) {
    throw UsageError(fmt::format("--scale does not go with {}", format.name),
                     "only FP8 formats keep their scales in a tensor of their own");
  }
  const std::int64_t bytes_per_row = row_bytes(format, shape.cols);
  operand.raw.emplace(options.raw);
  check_file_size(*operand.raw, shape.rows, bytes_per_row,
                  fmt::format("{} {}x{}", format.name, shape.rows, shape.cols));
  view.data = operand.raw->bytes();
  if (!view.scale_grid) return;
  const ScaleGrid& grid = *view.scale_grid;
  operand.scale.emplace(options.scale);
  check_file_size(*operand.scale, grid.rows_of_scales(shape.rows),
                  grid.cols_of_scales(shape.cols) * scale_type_bytes(grid.type),
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

/// What is written, and its shape for the last line.
struct Result {
  std::vector<float> values;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

Result compute(const ExecOptions& options, Op op, const ScaledTensorView& view,
               const std::pair<std::vector<float>, std::int64_t>& x) {
  const ActivationPolicy activation = get_activation(options.activation);
  Toolchain toolchain = options.common.make_toolchain();
  const Place place = choose_place(toolchain, options.common.device, options.common.target);
  if (op == Op::kDequant) {
    return {dequantize(toolchain.engine(), *place.device, place.target, view), view.rows,
            view.cols};
  }
  return {multiply(toolchain.engine(), *place.device, place.target, view, x.first, x.second,
                   activation),
          x.second, view.rows};
}

Op get_exec_op(const std::string& name) {
  if (name.empty()) throw UsageError("--op is missing", "give dequant or matvec");
  if (name != "dequant" && name != "matvec") {
    throw UsageError(fmt::format("--op is '{}'", name), "give dequant or matvec");
  }
  return get_op(name);
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
       "  matvec   y [n, rows] = x [n, cols] times the tensor\n"
       "A tensor of more than two dimensions is taken as [all others, contiguous one].\n"
       "The output file appears whole or not at all.\n",
       exit_code_help("the output file is there", {},
                      "a file is missing or has another size than the shapes ask for",
                      "no such device, or no compiler for the target"),
       "ktjit exec --raw w.bin --format fp8e4nv --shape 4096x14336 --scale s.bin \\\n"
       "        --scale-block 128x128 --op dequant --out y.f32"});
  options.subject.add_model(parser);
  parser.add_options()("tensor", po::value(&options.tensor)->value_name("NAME"),
                       "which tensor of the model")("op", po::value(&options.op)->value_name("OP"),
                                                    "dequant or matvec")(
      "out", po::value(&options.out)->value_name("FILE"), "where the result goes")(
      "x", po::value(&options.x)->value_name("FILE"), "matvec: the activations, f32 [n, cols]")(
      "n", po::value(&options.n)->value_name("N"), "matvec: rows of x (default: by its size)")(
      "activation", po::value(&options.activation)->value_name("POLICY"),
      "matvec: a16, a8 or afp8 (default: a16)")("raw", po::value(&options.raw)->value_name("FILE"),
                                                "bare bytes in place of a model");
  options.subject.add_description(parser);
  parser.add_options()("scale", po::value(&options.scale)->value_name("FILE"),
                       "scales of the raw bytes, row-major (FP8 formats)");
  options.common.add_device(parser);
  options.common.add_target(parser);
  options.common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  const Op op = get_exec_op(options.op);
  if (options.out.empty()) throw UsageError("--out is missing");
  if (options.n < 0) throw UsageError(fmt::format("--n is {}", options.n), "give 1 or more");
  if (op == Op::kMatvec && options.x.empty()) throw UsageError("--op matvec needs --x");
  if (op == Op::kDequant && (!options.x.empty() || options.n > 0)) {
    throw UsageError("--x and --n go with --op matvec");
  }
  Operand operand;
  if (options.raw.empty()) {
    open_tensor(options, operand);
  } else {
    open_raw(options, operand);
  }
  std::pair<std::vector<float>, std::int64_t> x;
  if (op == Op::kMatvec) x = read_x(options, operand.view.cols);

  const Result result = compute(options, op, operand.view, x);
  model::OutputFile file(options.out);
  file.write(std::as_bytes(std::span(result.values)));
  file.commit();
  print(fmt::format("wrote {}: f32 {}x{}, {}\n", options.out, result.rows, result.cols,
                    human_bytes(file.bytes_written())));
  return kDone;
}

}  // namespace ktjit::cli
