#include "rules/conversion.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace ktjit::rules {
namespace {

using enum FormatId;

constexpr std::array kTargets = {kF32,      kF16,         kBF16,        kFp8E4M3,   kFp8E5M2,
                                 kFp8E4B15, kFp8E4M3Fnuz, kFp8E5M2Fnuz, kMxfp6E2M3, kMxfp6E3M2,
                                 kMxfp4,    kNvfp4,       kQ8_0,        kQ4_0};

/// Whether the values are weights: floats, or what decodes to them.
bool holds_weights(FormatId format) {
  const FormatFamily family = get_format(format).family;
  return family != FormatFamily::kInteger && family != FormatFamily::kStored;
}

}  // namespace

std::span<const FormatId> conversion_targets() { return kTargets; }

bool has_format(const model::TensorInfo& tensor, const WeightFormat& format) {
  return tensor.format == format.id && (!format.scale || tensor.scale_grid == format.scale);
}

std::string conversion_problem(const model::TensorInfo& tensor, const WeightFormat& format) {
  const Format& to = get_format(format.id);
  const std::string_view from = get_format(tensor.format).name;
  if (!holds_weights(tensor.format))
    return fmt::format("is {}, only floating-point weights can be converted", from);
  if (to.family == FormatFamily::kFloat) return {};
  if (tensor.n_dims < 2) return fmt::format("is a vector, only matrices can be {}", format.name());
  const std::int64_t block = std::max<std::int64_t>(
      to.block_elems, fixed_scale_grid(format.id) ? format.scale->block_cols : 1);
  if (tensor.cols() % block != 0)
    return fmt::format("has {} columns, {} takes a multiple of {}", tensor.cols(), format.name(),
                       block);
  return {};
}

std::uint64_t converted_code_bytes(const model::TensorInfo& tensor, const WeightFormat& format) {
  return static_cast<std::uint64_t>(tensor.rows()) * model::row_bytes(format.id, tensor.cols());
}

std::uint64_t converted_scale_bytes(const model::TensorInfo& tensor, const WeightFormat& format) {
  if (!format.scale) return 0;
  return static_cast<std::uint64_t>(format.scale->plane_bytes(tensor.rows(), tensor.cols()));
}

}  // namespace ktjit::rules
