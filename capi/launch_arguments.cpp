#include "capi/launch_arguments.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <initializer_list>

#include "core/error.h"
#include "core/format.h"
#include "core/tensor_layout.h"

namespace ktjit::capi {
namespace {

using Field = ktjit_address ktjit_arguments::*;

struct Argument {
  const char* name;
  Field field;
};

// In the order that kernels take them; quantize begins with x.
constexpr Argument kInOrder[] = {
    {"w", &ktjit_arguments::w},        {"scale", &ktjit_arguments::scale},
    {"x", &ktjit_arguments::x},        {"x_scale", &ktjit_arguments::x_scale},
    {"bias", &ktjit_arguments::bias},  {"y", &ktjit_arguments::y},
    {"found", &ktjit_arguments::found}};
constexpr Argument kInOrderOfQuantize[] = {
    {"x", &ktjit_arguments::x}, {"w", &ktjit_arguments::w}, {"scale", &ktjit_arguments::scale}};

bool is_product(const KernelSpec& spec) { return spec.op == Op::kMatvec || spec.op == Op::kMatmul; }

bool is_used(const KernelSpec& spec, Field field) {
  if (field == &ktjit_arguments::w) return true;
  if (field == &ktjit_arguments::scale) return spec.scale && spec.op != Op::kNanScan;
  if (field == &ktjit_arguments::x) return is_product(spec) || spec.op == Op::kQuantize;
  if (field == &ktjit_arguments::x_scale) return spec.x_scale.has_value();
  if (field == &ktjit_arguments::bias) return spec.bias.has_value();
  if (field == &ktjit_arguments::y) return is_product(spec) || spec.op == Op::kDequant;
  return spec.op == Op::kNanScan;
}

/// Bytes that the address has to be a multiple of.
std::int64_t alignment_of(const KernelSpec& spec, Field field) {
  if (field == &ktjit_arguments::scale)
    return std::max<std::int64_t>(spec.scale->header_bytes(), scale_type_bytes(spec.scale->type));
  if (field == &ktjit_arguments::x_scale || field == &ktjit_arguments::found) return 4;
  if (field == &ktjit_arguments::bias) return get_format(*spec.bias).block_bytes;
  return spec.layout.base_alignment_bytes;
}

void check_address(const KernelSpec& spec, const Argument& argument, ktjit_address address) {
  if (!is_used(spec, argument.field)) {
    if (address == 0) return;
    throw SpecError(argument.name, fmt::format("{:#x}", address),
                    fmt::format("0: {} has no such argument", kernel_name(spec)));
  }
  if (address == 0) {
    throw SpecError(argument.name, "0",
                    fmt::format("an address, which {} needs", kernel_name(spec)));
  }
  const auto alignment = static_cast<ktjit_address>(alignment_of(spec, argument.field));
  if (address % alignment != 0) {
    throw SpecError(argument.name, fmt::format("{:#x}", address),
                    fmt::format("a multiple of {} bytes", alignment));
  }
}

/// Refuses what grids would refuse less clearly.
void check_counts(const KernelSpec& spec, std::int64_t rows, std::int64_t n) {
  if (rows < 1) throw SpecError("rows", fmt::format("{}", rows), "1 and more");
  if (!is_product(spec)) return;
  if (n < 1) throw SpecError("n", fmt::format("{}", n), "1 and more rows of x");
  if (spec.op == Op::kMatvec && n > spec.x_columns) {
    throw SpecError("n", fmt::format("{}", n),
                    fmt::format("1 to {}, the kernel's x_columns", spec.x_columns));
  }
}

/// Errors: SpecError if the product of these positive numbers is too large for the result.
std::uint64_t bytes_of(std::initializer_list<std::int64_t> factors) {
  std::uint64_t product = 1;
  for (std::int64_t factor : factors) {
    if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(factor), &product)) {
      throw SpecError("size", fmt::format("{} bytes", fmt::join(factors, " x ")),
                      "less than 2^64 bytes");
    }
  }
  return product;
}

}  // namespace

ktjit_arguments argument_bytes(const KernelSpec& spec, std::int64_t rows, std::int64_t n) {
  check_counts(spec, rows, n);
  const std::int64_t cols = spec.layout.cols;
  const std::int64_t x_rows = spec.op == Op::kQuantize ? rows : n;
  ktjit_arguments bytes = ktjit_arguments_init();
  for (const Argument& argument : kInOrder) {
    if (!is_used(spec, argument.field)) continue;
    std::uint64_t& field = bytes.*(argument.field);
    if (argument.field == &ktjit_arguments::w) {
      field = bytes_of({rows, row_bytes(get_format(spec.weight), cols)});
    } else if (argument.field == &ktjit_arguments::scale) {
      field = static_cast<std::uint64_t>(spec.scale->plane_bytes(rows, cols));
    } else if (argument.field == &ktjit_arguments::x) {
      field = bytes_of({x_rows, row_bytes(get_format(spec.x_format), cols)});
    } else if (argument.field == &ktjit_arguments::x_scale) {
      field = static_cast<std::uint64_t>(spec.x_scale->plane_bytes(n, cols));
    } else if (argument.field == &ktjit_arguments::bias) {
      field = bytes_of({rows, get_format(*spec.bias).block_bytes});
    } else if (argument.field == &ktjit_arguments::y) {
      field = bytes_of({is_product(spec) ? n : cols, rows, get_format(spec.y_format).block_bytes});
    } else {
      field = sizeof(std::uint32_t);
    }
  }
  return bytes;
}

LaunchArguments::LaunchArguments(const KernelSpec& spec, std::int64_t rows, std::int64_t n,
                                 const ktjit_arguments& given) {
  check_counts(spec, rows, n);
  for (const Argument& argument : kInOrder) check_address(spec, argument, given.*(argument.field));
  const std::span<const Argument> order =
      spec.op == Op::kQuantize ? std::span<const Argument>(kInOrderOfQuantize) : kInOrder;
  for (const Argument& argument : order) {
    if (is_used(spec, argument.field)) add(given.*(argument.field));
  }
  add(static_cast<std::uint64_t>(rows));
  if (!is_product(spec)) return;
  n_ = n;
  add(static_cast<std::uint64_t>(n));
}

}  // namespace ktjit::capi
