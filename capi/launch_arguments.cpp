#include "capi/launch_arguments.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <initializer_list>
#include <string>

#include "core/error.h"
#include "core/format.h"
#include "core/interleaved_layout.h"
#include "core/prepared_layout.h"
#include "core/tensor_layout.h"

namespace ktjit::capi {
namespace {

/// The field of an address.
template <class Arguments>
auto& field_of(Arguments& arguments, const LaunchArgument& argument) {
  const int more = argument.matrix - 1;
  switch (argument.role) {
    case ArgumentRole::kWeights:
      return more < 0 ? arguments.w : arguments.w_more[more];
    case ArgumentRole::kScale:
      return more < 0 ? arguments.scale : arguments.scale_more[more];
    case ArgumentRole::kBias:
      return more < 0 ? arguments.bias : arguments.bias_more[more];
    case ArgumentRole::kY:
      return more < 0 ? arguments.y : arguments.y_more[more];
    case ArgumentRole::kX:
      return arguments.x;
    case ArgumentRole::kXScale:
      return arguments.x_scale;
    case ArgumentRole::kIds:
      return arguments.ids;
    case ArgumentRole::kResidual:
      return arguments.residual;
    case ArgumentRole::kFound:
      return arguments.found;
    default:
      KTJIT_UNREACHABLE("an address");
  }
}

bool is_address(ArgumentRole role) { return role < ArgumentRole::kRows; }

// Every address there is.
constexpr LaunchArgument kAddresses[] = {
    {ArgumentRole::kWeights, 0}, {ArgumentRole::kScale, 0},   {ArgumentRole::kX, 0},
    {ArgumentRole::kXScale, 0},  {ArgumentRole::kBias, 0},    {ArgumentRole::kY, 0},
    {ArgumentRole::kFound, 0},   {ArgumentRole::kIds, 0},     {ArgumentRole::kResidual, 0},
    {ArgumentRole::kWeights, 1}, {ArgumentRole::kWeights, 2}, {ArgumentRole::kWeights, 3},
    {ArgumentRole::kScale, 1},   {ArgumentRole::kScale, 2},   {ArgumentRole::kScale, 3},
    {ArgumentRole::kBias, 1},    {ArgumentRole::kBias, 2},    {ArgumentRole::kBias, 3},
    {ArgumentRole::kY, 1},       {ArgumentRole::kY, 2},       {ArgumentRole::kY, 3}};

std::uint64_t bit_of(const LaunchArgument& argument) {
  return std::uint64_t{1} << (static_cast<int>(argument.role) * 4 + argument.matrix);
}

/// "w", "w_more[0]": the field's name.
std::string field_name(const LaunchArgument& argument) {
  const KernelSpec plain;  // names without numbers
  const std::string name = argument_name(plain, {argument.role, 0});
  return argument.matrix == 0 ? name : fmt::format("{}_more[{}]", name, argument.matrix - 1);
}

/// Bytes that the address has to be a multiple of.
std::int64_t alignment_of(const KernelSpec& spec, ArgumentRole role) {
  constexpr std::int64_t kVectorBytes = 16;  // that readers of prepared weights load
  if (spec.op == Op::kPrepare && role == ArgumentRole::kY) return kVectorBytes;
  switch (role) {
    case ArgumentRole::kScale:
      return std::max<std::int64_t>(spec.scale->header_bytes(), scale_type_bytes(spec.scale->type));
    case ArgumentRole::kXScale:
    case ArgumentRole::kFound:
    case ArgumentRole::kIds:
      return 4;
    case ArgumentRole::kBias:
      return get_format(*spec.bias).block_bytes;
    case ArgumentRole::kResidual:
      return get_format(*spec.residual).block_bytes;
    default:
      return spec.layout.base_alignment_bytes;
  }
}

void check_address(const KernelSpec& spec, const LaunchArgument& argument, ktjit_address address) {
  if (address == 0) {
    throw SpecError(field_name(argument), "0",
                    fmt::format("an address, which {} needs", kernel_name(spec)));
  }
  const auto alignment = static_cast<ktjit_address>(alignment_of(spec, argument.role));
  if (address % alignment != 0) {
    throw SpecError(field_name(argument), fmt::format("{:#x}", address),
                    fmt::format("a multiple of {} bytes", alignment));
  }
}

/// Refuses what grids would refuse less clearly.
void check_counts(const KernelSpec& spec, const ktjit_counts& counts) {
  if (counts.rows < 1) throw SpecError("rows", fmt::format("{}", counts.rows), "1 and more");
  const bool is_moe = has_experts(spec.op);
  for (int i = 0; i < 3; ++i) {
    const bool is_used = i + 1 < spec.matrices;
    if (is_used ? counts.rows_more[i] >= 1 : counts.rows_more[i] == 0) continue;
    throw SpecError(
        fmt::format("rows_more[{}]", i), fmt::format("{}", counts.rows_more[i]),
        is_used ? "1 and more" : fmt::format("0: {} has no such matrix", kernel_name(spec)));
  }
  const auto check_moe = [&](const char* name, std::int64_t count) {
    if (is_moe ? count >= 1 : count == 0) return;
    throw SpecError(name, fmt::format("{}", count),
                    is_moe ? fmt::format("1 and more with {} (ktjit_kernel_launch_counts takes it)",
                                         op_name(spec.op))
                           : fmt::format("0 with {}", op_name(spec.op)));
  };
  check_moe("experts", counts.experts);
  check_moe("slots_per_x", counts.slots_per_x);
  if (!is_product(spec.op)) return;
  if (counts.n < 1)
    throw SpecError("n", fmt::format("{}", counts.n),
                    is_moe ? "1 and more slots" : "1 and more rows of x");
  if (spec.op == Op::kMatvec && counts.n > spec.x_columns) {
    throw SpecError("n", fmt::format("{}", counts.n),
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

/// What lies behind an address.
std::uint64_t bytes_behind(const KernelSpec& spec, const ktjit_counts& counts,
                           const LaunchArgument& argument) {
  const std::int64_t cols = spec.layout.cols;
  const bool is_moe = has_experts(spec.op);
  const bool has_own_rows = spec.gate == Gate::kNone && argument.matrix > 0;
  const std::int64_t rows = has_own_rows ? counts.rows_more[argument.matrix - 1] : counts.rows;
  const std::int64_t experts = is_moe ? counts.experts : 1;
  const std::int64_t x_rows = is_moe ? (counts.n - 1) / counts.slots_per_x + 1 : counts.n;
  switch (argument.role) {
    case ArgumentRole::kWeights:
      if (spec.layout.kind != LayoutKind::kNative && spec.op != Op::kPrepare)
        return bytes_of({experts, laid_out_bytes(spec.layout.kind, spec.weight, rows, cols)});
      return bytes_of({experts, rows, row_bytes(get_format(spec.weight), cols)});
    case ArgumentRole::kScale:
      return bytes_of({experts - 1, expert_scale_bytes(*spec.scale, rows, cols)}) +
             static_cast<std::uint64_t>(spec.scale->plane_bytes(rows, cols));
    case ArgumentRole::kIds:
      return bytes_of({counts.n, sizeof(std::int32_t)});
    case ArgumentRole::kX:
      return bytes_of(
          {spec.op == Op::kQuantize ? rows : x_rows, row_bytes(get_format(spec.x_format), cols)});
    case ArgumentRole::kXScale:
      return static_cast<std::uint64_t>(spec.x_scale->plane_bytes(x_rows, cols));
    case ArgumentRole::kBias:
      return bytes_of({experts, rows, get_format(*spec.bias).block_bytes});
    case ArgumentRole::kResidual:
      return bytes_of({counts.n, rows, get_format(*spec.residual).block_bytes});
    case ArgumentRole::kY:
      if (spec.op == Op::kPrepare)
        return static_cast<std::uint64_t>(spec.layout.kind == LayoutKind::kInterleaved
                                              ? interleaved_bytes(spec.weight, rows, cols)
                                              : prepared_bytes(spec.weight, rows, cols));
      if (spec.op == Op::kRestore)
        return bytes_of({rows, row_bytes(get_format(spec.weight), cols)});
      return bytes_of(
          {is_product(spec.op) ? counts.n : cols, rows, get_format(spec.y_format).block_bytes});
    default:
      return sizeof(std::uint32_t);  // found
  }
}

std::int64_t count_of(const ktjit_counts& counts, const LaunchArgument& argument) {
  switch (argument.role) {
    case ArgumentRole::kRows:
      return argument.matrix == 0 ? counts.rows : counts.rows_more[argument.matrix - 1];
    case ArgumentRole::kSlotsPerX:
      return counts.slots_per_x;
    case ArgumentRole::kExperts:
      return counts.experts;
    default:
      return counts.n;  // rows of x, or slots
  }
}

}  // namespace

ktjit_counts counts_of(std::int64_t rows, std::int64_t n) {
  ktjit_counts counts = ktjit_counts_init();
  counts.rows = rows;
  counts.n = n;
  return counts;
}

ktjit_arguments argument_bytes(const KernelSpec& spec, const ktjit_counts& counts) {
  check_counts(spec, counts);
  ktjit_arguments bytes = ktjit_arguments_init();
  for (const LaunchArgument& argument : launch_order(spec)) {
    if (is_address(argument.role)) field_of(bytes, argument) = bytes_behind(spec, counts, argument);
  }
  return bytes;
}

LaunchArguments::LaunchArguments(const KernelSpec& spec, const ktjit_counts& counts,
                                 const ktjit_arguments& given) {
  check_counts(spec, counts);
  std::uint64_t used = 0;
  for (const LaunchArgument& argument : launch_order(spec)) {
    if (!is_address(argument.role)) {
      values_[count_++] = static_cast<std::uint64_t>(count_of(counts, argument));
      continue;
    }
    const ktjit_address address = field_of(given, argument);
    check_address(spec, argument, address);
    values_[count_++] = address;
    used |= bit_of(argument);
  }
  for (const LaunchArgument& argument : kAddresses) {
    const ktjit_address address = field_of(given, argument);
    if (address == 0 || (used & bit_of(argument)) != 0) continue;
    throw SpecError(field_name(argument), fmt::format("{:#x}", address),
                    fmt::format("0: {} has no such argument", kernel_name(spec)));
  }
  matrices_ = static_cast<std::size_t>(spec.matrices);
  rows_ = {counts.rows, counts.rows_more[0], counts.rows_more[1], counts.rows_more[2]};
  if (is_product(spec.op)) n_ = counts.n;
}

}  // namespace ktjit::capi
