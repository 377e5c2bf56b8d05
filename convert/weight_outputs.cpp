#include "convert/weight_outputs.h"

#include <algorithm>
#include <fmt/format.h>

#include "core/error.h"
#include "core/tensor_layout.h"
#include "model/safetensors_format.h"

namespace ktjit::convert {
namespace {

std::uint64_t count(const std::vector<std::int64_t>& shape) {
  std::uint64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= static_cast<std::uint64_t>(extent);
  return elements;
}

OutputTensor plain(std::string name, FormatId dtype, std::vector<std::int64_t> shape) {
  const Format& format = get_format(dtype);
  const std::uint64_t elements = count(shape);
  const auto block = static_cast<std::uint64_t>(format.block_elems);
  return {std::move(name), dtype, std::move(shape),
          elements / block * static_cast<std::uint64_t>(format.block_bytes)};
}

[[noreturn]] void refuse(const WeightSource& source, const WeightFormat& format,
                         std::string_view allowed) {
  throw SpecError(fmt::format("format of tensor '{}'", source.name), format.name(), allowed);
}

void check_columns(const WeightSource& source, const WeightFormat& format) {
  const Format& facts = get_format(format.id);
  const std::int64_t step = facts.block_elems;
  if (source.cols() % step != 0) {
    refuse(source, format,
           fmt::format("one for {} columns: {} needs a multiple of {}", source.cols(),
                       format.name(), step));
  }
}

bool is_block(const ScaleGrid& grid) {
  return grid.block_cols != 0 &&
         !(grid.block_rows == 1 && grid.block_cols == 32 && grid.type == ScaleType::kE8M0);
}

FormatId scale_dtype(const WeightFormat& format) {
  switch (format.scale->type) {
    case ScaleType::kF32:
      return FormatId::kF32;
    case ScaleType::kBF16:
      return FormatId::kBF16;
    case ScaleType::kE8M0:  // bytes where MX's writers have them
      return is_block(*format.scale) ? FormatId::kE8M0 : FormatId::kU8;
    case ScaleType::kE4M3:
      return FormatId::kFp8E4M3;
  }
  KTJIT_UNREACHABLE("a known scale type");
}

std::vector<std::int64_t> scale_shape(const WeightSource& source, const ScaleGrid& grid) {
  if (grid.block_rows == 0 && grid.block_cols == 0) return {1};
  std::vector<std::int64_t> shape = source.shape;
  if (shape.size() < 2) shape.insert(shape.begin(), 1);
  shape[shape.size() - 2] = grid.rows_of_scales(source.rows());
  shape.back() = grid.cols_of_scales(source.cols());
  return shape;
}

/// The dtype that safetensors has for the codes.
FormatId code_dtype(FormatId format) {
  switch (format) {
    case FormatId::kMxfp6E2M3:
      return FormatId::kFp6E2M3;
    case FormatId::kMxfp6E3M2:
      return FormatId::kFp6E3M2;
    case FormatId::kMxfp4:
    case FormatId::kNvfp4:
      return FormatId::kU8;
    default:
      return format;
  }
}

}  // namespace

std::string_view weight_stem(std::string_view name) {
  for (const std::string_view end : {".weight_packed", ".weight", "_blocks", ".blocks"}) {
    if (name.ends_with(end)) return name.substr(0, name.size() - end.size());
  }
  return name;
}

std::vector<OutputTensor> weight_outputs(Container container, const WeightSource& source,
                                         const WeightFormat& format,
                                         std::string_view scale_suffix) {
  check_columns(source, format);
  if (container == Container::kGguf) {
    if (get_format(format.id).ggml_type < 0 || format.scale)
      refuse(source, format, "a format that has a type id in GGUF: f32, f16, bf16, q8_0, q4_0");
    return {plain(source.name, format.id, source.shape)};
  }
  const FormatId dtype = code_dtype(format.id);
  if (model::safetensors::dtype_name(dtype).empty()) {
    refuse(source, format,
           get_format(format.id).ggml_type >= 0
               ? "one that safetensors has a dtype for; a file named .gguf holds ggml's formats"
               : "one that safetensors has a dtype for");
  }
  std::vector<std::int64_t> shape = source.shape;
  std::string name = source.name;
  if (dtype == FormatId::kU8 && format.id != FormatId::kU8) shape.back() /= 2;
  if (format.id == FormatId::kMxfp4) name = fmt::format("{}.weight_packed", weight_stem(name));
  std::vector<OutputTensor> outputs = {plain(name, dtype, std::move(shape))};
  if (dtype == FormatId::kFp6E2M3 || dtype == FormatId::kFp6E3M2) {
    outputs[0].bytes = count(source.shape) * 6 / 8;
  }
  if (!format.scale) return outputs;
  const ScaleGrid& grid = *format.scale;
  std::string scale_name;
  if (format.id == FormatId::kMxfp4) {
    scale_name = fmt::format("{}.weight_scale", weight_stem(name));
  } else if (!scale_suffix.empty()) {
    scale_name = fmt::format("{}{}", name, scale_suffix);
  } else {
    const bool is_fp8_block = get_format(format.id).family == FormatFamily::kFp8 && is_block(grid);
    scale_name = fmt::format("{}{}", name, is_fp8_block ? "_scale_inv" : "_scale");
  }
  outputs.push_back(plain(scale_name, scale_dtype(format), scale_shape(source, grid)));
  if (grid.header_bytes() != 0) {
    outputs.push_back(plain(fmt::format("{}_scale_2", name), FormatId::kF32, {}));
  }
  return outputs;
}

std::vector<OutputTensor> raw_outputs(const WeightSource& source, FormatId id) {
  const Format& format = get_format(id);
  check_columns(source, {id, std::nullopt});
  if (format.ggml_type < 0) refuse(source, {id, std::nullopt}, "one of ggml's");
  OutputTensor bytes = plain(source.name, id, source.shape);
  bytes.dtype = FormatId::kU8;
  bytes.shape = {static_cast<std::int64_t>(bytes.bytes)};
  return {bytes, plain(fmt::format("{}.ggml_type", weight_stem(source.name)), FormatId::kI64, {})};
}

std::uint64_t scale_offset(const WeightSource& source, const ScaleGrid& grid, std::int64_t matrix,
                           std::int64_t row) {
  if (grid.block_rows == 0) return 0;
  const std::int64_t scale_row =
      matrix * grid.rows_of_scales(source.rows()) + row / grid.block_rows;
  return static_cast<std::uint64_t>(scale_row * grid.cols_of_scales(source.cols()) *
                                    scale_type_bytes(grid.type));
}

}  // namespace ktjit::convert
