#include "cli/subject.h"

#include <array>
#include <fmt/format.h>
#include <sys/mman.h>
#include <utility>

#include "cli/exit_code.h"
#include "cli/units.h"
#include "core/kernel_spec.h"
#include "core/tensor_layout.h"
#include "model/open_model.h"

namespace po = boost::program_options;

namespace ktjit::cli {

ZeroPages::ZeroPages(std::size_t bytes) {
  if (bytes == 0) return;
  void* pages =
      ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) {
    throw UsageError(fmt::format("a tensor of {} is too large", human_bytes(bytes)));
  }
  bytes_ = {static_cast<const std::byte*>(pages), bytes};
}

ZeroPages::~ZeroPages() {
  if (bytes_.empty()) return;
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

ZeroPages::ZeroPages(ZeroPages&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

void SubjectOptions::add_model(ArgumentParser& parser) { parser.add_positional("MODEL", &model); }

void SubjectOptions::add_scales(ArgumentParser& parser) {
  parser.add_options()("scale-block", po::value(&scale_block)->value_name("RxC"),
                       "rows and columns that share one scale, or 'row' or 'tensor' (FP8 formats)")(
      "scale-type", po::value(&scale_type)->value_name("TYPE"), "f32, bf16 or e8m0 (default: f32)");
}

void SubjectOptions::add_description(ArgumentParser& parser) {
  parser.add_options()(
      "format", po::value(&format)->value_name("F"),
      "number format of one tensor, in place of a model: fp8e4nv, q4_K, bf16, ...")(
      "shape", po::value(&shape)->value_name("RxC"), "its rows and columns, such as 4096x14336");
  add_scales(parser);
}

std::optional<ScaleGrid> SubjectOptions::scale_grid() const {
  const ScaleType type = scale_type.empty() ? ScaleType::kF32 : get_scale_type(scale_type);
  if (!scale_block.empty()) return parse_scale_block(scale_block, type);
  if (!scale_type.empty()) throw UsageError("--scale-type needs --scale-block");
  return std::nullopt;
}

Subject::Subject(const SubjectOptions& options) {
  if (options.describes_tensor()) {
    if (!options.model.empty()) throw UsageError("give MODEL or --format, not both");
    open_described(options);
    return;
  }
  if (!options.shape.empty() || !options.scale_block.empty() || !options.scale_type.empty()) {
    throw UsageError("--shape, --scale-block and --scale-type need --format");
  }
  if (options.model.empty()) throw UsageError("MODEL is missing");
  title_ = options.model;
  model_ = model::open_model(options.model);
}

void Subject::open_described(const SubjectOptions& options) {
  const WeightFormat weight = get_weight_format(options.format, options.scale_grid());
  const Format& format = get_format(weight.id);
  if (options.shape.empty()) throw UsageError("--format needs --shape");
  const Shape shape = parse_shape("--shape", options.shape);

  model::TensorInfo tensor;
  tensor.name = "w";
  tensor.format = format.id;
  tensor.ne = {shape.cols, shape.rows, 1, 1};
  tensor.n_dims = 2;
  tensor.scale_grid = weight.scale;
  KernelSpec spec;  // the checks of formats, columns and scales are the spec's
  spec.weight = format.id;
  spec.scale = tensor.scale_grid;
  spec.layout.cols = shape.cols;
  validate(spec);

  const auto make_pages = [&](std::int64_t count, std::int64_t each_bytes,
                              std::int64_t header_bytes = 0) {
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(count, each_bytes, &bytes) ||
        __builtin_add_overflow(bytes, header_bytes, &bytes)) {
      throw UsageError(fmt::format("--shape {} is too large", options.shape));
    }
    return pages_.emplace_back(static_cast<std::size_t>(bytes)).bytes();
  };
  tensor.data = make_pages(shape.rows, ktjit::row_bytes(format, shape.cols));
  title_ = fmt::format("{} {}x{}", weight.name(), shape.rows, shape.cols);
  if (tensor.scale_grid) {
    const ScaleGrid& grid = *tensor.scale_grid;
    tensor.scale_data = make_pages(grid.rows_of_scales(shape.rows),
                                   grid.cols_of_scales(shape.cols) * scale_type_bytes(grid.type),
                                   grid.header_bytes());
    title_ += fmt::format(", scales {}", scale_grid_name(grid));
  }
  model::Model::Contents contents{};
  contents.container = "description";
  contents.tensors.push_back(std::move(tensor));
  model_.emplace(std::move(contents));
}

}  // namespace ktjit::cli
