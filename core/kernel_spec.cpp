// Names and checks of kernel specs.
#include "core/kernel_spec.h"

#include <array>
#include <bit>
#include <fmt/format.h>
#include <utility>

#include "core/error.h"

namespace ktjit {
namespace {

constexpr std::array<std::pair<Op, std::string_view>, 3> kOps = {
    {{Op::kDequant, "dequant"}, {Op::kMatvec, "matvec"}, {Op::kReadTest, "read_test"}}};
constexpr std::array<std::pair<ActivationPolicy, std::string_view>, 3> kActivations = {
    {{ActivationPolicy::kA16, "a16"},
     {ActivationPolicy::kA8, "a8"},
     {ActivationPolicy::kAfp8, "afp8"}}};

template <typename Table>
std::string names_of(const Table& table) {
  std::string names;
  for (const auto& [value, name] : table)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  return names;
}

bool is_io_format(FormatId id) {
  return id == FormatId::kF32 || id == FormatId::kF16 || id == FormatId::kBF16;
}

std::string quoted(std::string_view text) { return fmt::format("'{}'", text); }

}  // namespace

std::string_view op_name(Op op) {
  for (const auto& [value, name] : kOps) {
    if (value == op) return name;
  }
  KTJIT_UNREACHABLE("a known op");
}

Op get_op(std::string_view name) {
  for (const auto& [value, known] : kOps) {
    if (known == name) return value;
  }
  throw SpecError("op", quoted(name), names_of(kOps));
}

std::string_view activation_name(ActivationPolicy policy) {
  for (const auto& [value, name] : kActivations) {
    if (value == policy) return name;
  }
  KTJIT_UNREACHABLE("a known activation policy");
}

ActivationPolicy get_activation(std::string_view name) {
  for (const auto& [value, known] : kActivations) {
    if (known == name) return value;
  }
  throw SpecError("activation", quoted(name), names_of(kActivations));
}

int x_columns_for(int n) {
  for (int columns : {1, 2, 4, 8}) {
    if (n >= 1 && n <= columns) return columns;
  }
  throw SpecError("n", fmt::format("{}", n), "1 to 8 activation columns");
}

KernelSpec make_spec(Op op, FormatId weight, const std::optional<ScaleGrid>& scale,
                     std::int64_t cols, const Target& target) {
  KernelSpec spec;
  spec.op = op;
  spec.weight = weight;
  spec.scale = scale;
  spec.layout.cols = cols;
  spec.target = target;
  return spec;
}

KernelSpec make_read_test_spec(const Target& target) {
  return make_spec(Op::kReadTest, FormatId::kI8, std::nullopt, kReadTestRowBytes, target);
}

void validate(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  row_bytes(format, spec.layout.cols);  // refuses columns that are no whole number of blocks
  const int alignment = spec.layout.base_alignment_bytes;
  if (alignment < 1 || !std::has_single_bit(unsigned(alignment))) {
    throw SpecError("base_alignment_bytes", fmt::format("{}", alignment), "powers of two");
  }
  if (spec.scale) {
    if (format.family != FormatFamily::kFp8) {
      throw SpecError("scale", scale_grid_name(spec.scale),
                      fmt::format("none with {}", format.name));
    }
    if (spec.scale->block_rows < 0 || spec.scale->block_cols < 0) {
      throw SpecError("scale", scale_grid_name(spec.scale),
                      "blocks of positive size, 0 for the whole extent");
    }
  }
  if (!is_io_format(spec.y_format)) {
    throw SpecError("y_format", get_format(spec.y_format).name, "f32, f16, bf16");
  }
  if (spec.op == Op::kReadTest &&
      (spec.weight != FormatId::kI8 || spec.layout.cols != kReadTestRowBytes)) {
    throw SpecError("read_test", fmt::format("{} x {}", format.name, spec.layout.cols),
                    fmt::format("i8 x {}", kReadTestRowBytes));
  }
  if (spec.op == Op::kMatvec) {
    if (!is_io_format(spec.x_format)) {
      throw SpecError("x_format", get_format(spec.x_format).name, "f32, f16, bf16");
    }
    if (spec.y_format != FormatId::kF32) {
      throw SpecError("y_format", get_format(spec.y_format).name, "f32 for matvec");
    }
    if (spec.x_columns < 1 || spec.x_columns > 8 ||
        !std::has_single_bit(unsigned(spec.x_columns))) {
      throw SpecError("x_columns", fmt::format("{}", spec.x_columns), "1, 2, 4, 8");
    }
  }
  if (spec.target.is_cuda())
    make_cuda_target(spec.target.sm, spec.target.suffix);  // refuses others
}

std::string to_text(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  std::string text;
  const auto line = [&text](std::string_view field, std::string_view value) {
    text += fmt::format("{}: {}\n", field, value);
  };
  line("op", op_name(spec.op));
  line("weight", format.name);
  line("scale", scale_grid_name(spec.scale));
  line("layout", "native");
  line("cols", fmt::format("{}", spec.layout.cols));
  line("base_alignment_bytes", fmt::format("{}", spec.layout.base_alignment_bytes));
  if (spec.op == Op::kMatvec) {
    line("activation", activation_name(spec.activation));
    line("x_format", get_format(spec.x_format).name);
    line("x_columns", fmt::format("{}", spec.x_columns));
  }
  line("y_format", get_format(spec.y_format).name);
  line("threads", spec.tuning.threads == 0 ? "default" : fmt::format("{}", spec.tuning.threads));
  line("rows_per_warp",
       spec.tuning.rows_per_warp == 0 ? "default" : fmt::format("{}", spec.tuning.rows_per_warp));
  line("target", spec.target.name());
  if (spec.target.is_cpu())
    line("cpu_features", fmt::format("{}", fmt::join(spec.target.cpu_features, ",")));
  return text;
}

std::string kernel_name(const KernelSpec& spec) {
  const std::string_view format = get_format(spec.weight).name;
  std::string scale;
  if (spec.scale) {
    scale = fmt::format("_s{}x{}_{}", spec.scale->block_rows, spec.scale->block_cols,
                        scale_type_name(spec.scale->type));
  }
  switch (spec.op) {
    case Op::kDequant:
      return fmt::format("dequant_{}{}_y_{}_c{}", format, scale, get_format(spec.y_format).name,
                         spec.layout.cols);
    case Op::kMatvec: {
      const bool is_default = spec.activation == ActivationPolicy::kA16;
      const std::string policy =
          is_default ? "" : fmt::format("_{}", activation_name(spec.activation));
      return fmt::format("matvec_{}{}{}_x_{}_c{}_n{}", format, scale, policy,
                         get_format(spec.x_format).name, spec.layout.cols, spec.x_columns);
    }
    case Op::kReadTest:
      return "read_test";
  }
  KTJIT_UNREACHABLE("a known op");
}

}  // namespace ktjit
