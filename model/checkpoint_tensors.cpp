// In three passes: find out which tensors are scales of which, and set them aside; tell what each
// weight is; say in the notes what is odd, once for many tensors.
#include "model/checkpoint_tensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "core/error.h"
#include "model/checkpoint_config.h"
#include "model/checkpoint_scales.h"
#include "model/gguf_part.h"
#include "model/half_float.h"
#include "model/hybrid_shapes.h"
#include "model/safetensors_format.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

constexpr std::string_view kTypeSuffix = ".ggml_type";

bool is_fp8(FormatId format) { return get_format(format).family == FormatFamily::kFp8; }
bool is_byte(FormatId format) { return format == FormatId::kU8 || format == FormatId::kI8; }
/// E8M0 has had a dtype since 2025 only: others write its codes as U8.
bool is_e8m0(FormatId format) { return format == FormatId::kE8M0 || format == FormatId::kU8; }

/// `name` without `suffix`; nothing if it has another end.
std::optional<std::string_view> without_suffix(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

/// Counts tensors of which there is one thing to say.
struct Tally {
  std::size_t tensors = 0;
  std::string first;

  void add(std::string_view name) {
    if (tensors++ == 0) first = name;
  }
};

/// The tensors that belong to a weight.
struct Companions {
  const StoredTensor* scale = nullptr;
  const StoredTensor* tensor_scale = nullptr;  ///< the second level of NVFP4
  bool tensor_scale_divides = false;
  bool is_inverse = false;   ///< "_scale_inv", which is per block if a block is announced
  std::string wanted_scale;  ///< the name to ask for in messages
};

class Builder {
 public:
  Builder(std::span<const StoredTensor> stored, std::span<const std::filesystem::path> paths,
          const Metadata& metadata)
      : stored_(stored),
        paths_(paths),
        metadata_(metadata),
        shapes_([this](std::string_view name) { return find(name); }, metadata) {
    for (const StoredTensor& tensor : stored) by_name_.emplace(tensor.name, &tensor);
    const std::string where =
        paths.empty() ? "config.json" : (paths[0].parent_path() / "config.json").string();
    block_ = find_weight_block(metadata, where);
  }

  CheckpointTensors build() {
    for (const StoredTensor& tensor : stored_) {
      if (find_type_tensor(tensor) != nullptr) result_.is_hybrid = true;
    }
    for (const StoredTensor& tensor : stored_) set_companions_aside(tensor);
    for (const StoredTensor& tensor : stored_) {
      if (!aside_.contains(tensor.name)) add(tensor);
    }
    for (const StoredTensor& tensor : stored_) note_lone_scale(tensor);
    write_notes();
    return std::move(result_);
  }

 private:
  // ---- which tensors belong together

  const StoredTensor* find(std::string_view name) const {
    const auto at = by_name_.find(name);
    return at == by_name_.end() ? nullptr : at->second;
  }

  std::string where(const StoredTensor& tensor) const {
    return tensor_place(paths_[static_cast<std::size_t>(tensor.part)], tensor.name);
  }

  /// KTransformers': the scalar with the type of the ggml bytes in `tensor`.
  const StoredTensor* find_type_tensor(const StoredTensor& tensor) const {
    if (tensor.name.ends_with(kTypeSuffix)) return nullptr;
    const auto stem = without_suffix(tensor.name, ".weight");
    return find(fmt::format("{}{}", stem.value_or(tensor.name), kTypeSuffix));
  }

  /// The first of the names that is there.
  const StoredTensor* find_first(std::initializer_list<std::string> names) const {
    for (const std::string& name : names) {
      if (const StoredTensor* tensor = find(name)) return tensor;
    }
    return nullptr;
  }

  Companions find_companions(const StoredTensor& weight) const {
    const std::string& name = weight.name;
    Companions found;
    if (const auto stem = without_suffix(name, ".weight_packed")) {
      found.wanted_scale = fmt::format("{}.weight_scale", *stem);
      found.scale = find(found.wanted_scale);
      found.tensor_scale = find(fmt::format("{}.weight_global_scale", *stem));
      found.tensor_scale_divides = true;
      return found;
    }
    for (std::string_view blocks : {"_blocks", ".blocks"}) {
      if (const auto stem = without_suffix(name, blocks)) {
        found.wanted_scale = fmt::format("{}{}scales", *stem, blocks[0]);
        found.scale = find(found.wanted_scale);
        return found;
      }
    }
    const auto stem = without_suffix(name, ".weight");
    found.wanted_scale = name + "_scale_inv";
    found.scale = find(found.wanted_scale);
    found.is_inverse = found.scale != nullptr;
    if (found.scale == nullptr) {
      found.scale = find_first(
          {name + "_scale", stem ? fmt::format("{}.scale", *stem) : name + "_weight_scale"});
    }
    found.tensor_scale =
        find_first({name + "_scale_2", stem ? std::string() : name + "_weight_scale_2"});
    return found;
  }

  /// What the weight is decoded as: FP8 with scales, FP6, FP4 as packed bytes or as F4, or itself.
  FormatId weight_format(const StoredTensor& weight, const Companions& with) const {
    if (with.scale == nullptr) return weight.format;
    if (weight.format == FormatId::kFp6E2M3 && is_e8m0(with.scale->format))
      return FormatId::kMxfp6E2M3;
    if (weight.format == FormatId::kFp6E3M2 && is_e8m0(with.scale->format))
      return FormatId::kMxfp6E3M2;
    const bool is_packed = is_byte(weight.format) || weight.format == FormatId::kFp4E2M1;
    if (!is_packed) return weight.format;
    if (with.scale->format == FormatId::kFp8E4M3) return FormatId::kNvfp4;
    if (!is_e8m0(with.scale->format)) return weight.format;
    // Bytes with bytes beside them may be anything: MXFP4 only if 16 bytes share a scale.
    const std::int64_t per_scale = weight.format == FormatId::kFp4E2M1 ? 32 : 16;
    const StackShape weights = stack_shape(weight.shape);
    const StackShape scales = stack_shape(with.scale->shape);
    const bool fits = is_blocks(weight) ? !weight.shape.empty() && weight.shape.back() == 16
                                        : weights.all_rows() == scales.all_rows() &&
                                              weights.cols == scales.cols * per_scale;
    return fits ? FormatId::kMxfp4 : weight.format;
  }

  /// gpt-oss': [experts, rows, blocks of a row, 16 bytes].
  static bool is_blocks(const StoredTensor& weight) {
    return weight.name.ends_with("_blocks") || weight.name.ends_with(".blocks");
  }

  /// Whether the companions are the weight's, not tensors of their own with such names.
  bool is_scaled(const StoredTensor& weight, const Companions& with) const {
    return with.scale != nullptr && has_separate_scales(weight_format(weight, with));
  }

  void set_companions_aside(const StoredTensor& weight) {
    if (const StoredTensor* type = find_type_tensor(weight)) {
      aside_.insert(type->name);
      return;
    }
    const Companions with = find_companions(weight);
    if (!is_scaled(weight, with)) return;
    aside_.insert(with.scale->name);
    ++scaled_tensors_;
    if (with.tensor_scale != nullptr) aside_.insert(with.tensor_scale->name);
    std::string_view stem = weight.name;
    for (std::string_view end : {".weight", ".weight_packed"})
      stem = without_suffix(weight.name, end).value_or(stem);
    // Scales of activations: weights alone are quantised here, so nothing needs them.
    for (std::string_view input : {".input_scale", ".input_global_scale", ".input_scale_ub",
                                   ".activation_scale", "_input_scale"}) {
      const StoredTensor* scale = find(fmt::format("{}{}", stem, input));
      if (scale == nullptr) continue;
      aside_.insert(scale->name);
      input_scales_.add(scale->name);
    }
  }

  // ---- one tensor

  void add(const StoredTensor& tensor) {
    if (const StoredTensor* type = find_type_tensor(tensor)) return add_ggml(tensor, *type);
    if (result_.is_hybrid && tensor.shape.size() == 1 && tensor.name.ends_with("_exps.weight"))
      return add_ggml_f32(tensor);
    const Companions with = find_companions(tensor);
    if (is_scaled(tensor, with)) return add_scaled(tensor, with);
    check_may_lack_scale(tensor, with);
    add_plain(tensor);
  }

  TensorInfo info_of(const StoredTensor& tensor, FormatId format) const {
    TensorInfo info;
    info.name = tensor.name;
    info.format = format;
    info.data = tensor.data;
    info.part = tensor.part;
    return info;
  }

  void add_plain(const StoredTensor& tensor) {
    TensorInfo info = info_of(tensor, tensor.format);
    set_shape(info, tensor);
    result_.tensors.push_back(std::move(info));
  }

  /// Turns the order of a file's shape around. ggml has four dimensions: the outer ones are
  /// multiplied. Packed elements whose rows end inside a byte become one row.
  void set_shape(TensorInfo& info, const StoredTensor& tensor) {
    const std::vector<std::int64_t>& shape = tensor.shape;
    const StackShape all = stack_shape(shape);
    if (all.cols % get_format(info.format).block_elems != 0) {
      info.ne[0] = all.all_rows() * all.cols;
      flattened_.add(tensor.name);
      return;
    }
    const std::size_t rank = shape.size();
    info.n_dims = static_cast<int>(std::clamp<std::size_t>(rank, 1, info.ne.size()));
    for (std::size_t i = 0; i < rank; ++i)
      info.ne[std::min(i, info.ne.size() - 1)] *= shape[rank - 1 - i];
    if (rank > info.ne.size()) folded_.add(tensor.name);
  }

  void check_may_lack_scale(const StoredTensor& tensor, const Companions& with) {
    const bool is_packed = tensor.format == FormatId::kU8 &&
                           (is_blocks(tensor) || tensor.name.ends_with(".weight_packed"));
    const bool is_matrix = is_fp8(tensor.format) && tensor.shape.size() >= 2;
    if ((!is_packed && !is_matrix) || tensor.data.empty()) return;
    const std::string what =
        fmt::format("is {} {} without scales", safetensors::dtype_name(tensor.format),
                    shape_to_text(tensor.shape));
    if (is_packed && with.scale == nullptr && scaled_tensors_ == 0 &&
        !announces_quantisation(metadata_)) {
      return;  // bytes with a common name
    }
    if (with.scale != nullptr && !is_e8m0(with.scale->format)) return;  // integers, say
    if (with.scale != nullptr) {
      throw InputError(
          where(tensor),
          fmt::format("is {} {}, and its scale '{}' is {} {}, which goes with no known "
                      "kind of quantisation",
                      safetensors::dtype_name(tensor.format), shape_to_text(tensor.shape),
                      escape_text(with.scale->name), safetensors::dtype_name(with.scale->format),
                      shape_to_text(with.scale->shape)));
    }
    if (announces_quantisation(metadata_)) {
      throw InputError(where(tensor),
                       fmt::format("{}, but config.json announces them: expected '{}'", what,
                                   escape_text(with.wanted_scale)));
    }
    if (scaled_tensors_ > 0) {
      throw InputError(where(tensor),
                       fmt::format("{}, but {} other tensors have theirs: expected '{}'", what,
                                   scaled_tensors_, escape_text(with.wanted_scale)));
    }
    unscaled_.add(tensor.name);
  }

  // ---- weights with scales

  void add_scaled(const StoredTensor& weight, const Companions& with) {
    const FormatId format = weight_format(weight, with);
    TensorInfo info = info_of(weight, format);
    StoredTensor elements = weight;  // with the shape that its elements have
    if (is_blocks(weight) && format == FormatId::kMxfp4) {
      elements.shape.pop_back();
      elements.shape.back() *= 32;
    } else if (is_byte(weight.format) && !elements.shape.empty()) {
      elements.shape.back() *= 2;
    }
    const StackShape stack = stack_shape(elements.shape);
    if (get_format(format).family == FormatFamily::kMx &&
        stack.cols % get_format(format).block_elems != 0) {
      throw InputError(where(weight), fmt::format("has {} columns, not a multiple of {}, the block "
                                                  "of {}",
                                                  stack.cols, get_format(format).block_elems,
                                                  get_format(format).name));
    }
    set_shape(info, elements);
    info.scale_name = with.scale->name;
    if (weight.data.empty()) {
      result_.tensors.push_back(std::move(info));
      return;
    }
    ScaleCover cover = cover_of(weight, elements, format, *with.scale, with.is_inverse);
    if (format == FormatId::kNvfp4) {
      add_nvfp4(std::move(info), weight, stack, with);
      return;
    }
    const std::span<const std::byte> plane = scale_plane(weight, *with.scale);
    note_odd(weight, check_scales(where(weight), *with.scale, cover.grid.type, plane));
    if (const auto flat = flatten_grid(cover, stack)) {
      info.scale_grid = *flat;
      info.scale_grid->type = cover.grid.type;
      info.scale_data = plane;
      result_.tensors.push_back(std::move(info));
      return;
    }
    add_experts(info, stack, [&](TensorInfo& expert, std::int64_t index) {
      const auto bytes = static_cast<std::size_t>(cover.grid.plane_bytes(stack.rows, stack.cols));
      expert.scale_grid = cover.grid;
      expert.scale_data = plane.subspan(static_cast<std::size_t>(index) * bytes, bytes);
    });
  }

  ScaleCover cover_of(const StoredTensor& weight, const StoredTensor& elements, FormatId format,
                      const StoredTensor& scale, bool is_inverse) {
    const StackShape stack = stack_shape(elements.shape);
    if (const auto fixed = fixed_scale_grid(format)) {
      const BlockShape block{fixed->block_rows, fixed->block_cols};
      ScaleCover cover =
          find_cover(where(weight), stack, elements.shape.size(), scale, block, true);
      cover.grid.type = fixed->type;
      return cover;
    }
    ScaleCover cover =
        find_cover(where(weight), stack, elements.shape.size(), scale, block_, is_inverse);
    cover.grid.type = scale_type(weight, scale);
    if (cover.is_guess) guessed_[scale_grid_name(cover.grid)].add(weight.name);
    return cover;
  }

  ScaleType scale_type(const StoredTensor& weight, const StoredTensor& scale) const {
    switch (scale.format) {
      case FormatId::kF32:
      case FormatId::kF16:  // widened
        return ScaleType::kF32;
      case FormatId::kBF16:
        return ScaleType::kBF16;
      case FormatId::kE8M0:
      case FormatId::kU8:
        return ScaleType::kE8M0;
      default:
        throw InputError(
            where(weight),
            fmt::format("its scale '{}' is {}, expected F32, BF16, F16, F8_E8M0 or U8 "
                        "(E8M0 codes)",
                        escape_text(scale.name), safetensors::dtype_name(scale.format)));
    }
  }

  /// The scales' bytes, as they lie in the file where that is as they are served.
  std::span<const std::byte> scale_plane(const StoredTensor& weight, const StoredTensor& scale) {
    if (scale.format != FormatId::kF16) return scale.data;
    std::vector<std::byte> wide(scale.data.size() * 2);
    for (std::size_t i = 0; i < scale.data.size() / 2; ++i) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, scale.data.data() + 2 * i, sizeof bits);
      const float value = half_to_float(bits);
      std::memcpy(wide.data() + 4 * i, &value, sizeof value);
    }
    widened_.add(weight.name);
    return own(std::move(wide));
  }

  std::span<const std::byte> own(std::vector<std::byte> bytes) {
    return result_.owned.emplace_back(std::move(bytes));
  }

  /// One tensor for each matrix of the stack, where one grid can't serve them together.
  template <typename SetScale>
  void add_experts(const TensorInfo& stacked, const StackShape& stack, SetScale set_scale) {
    const std::size_t bytes =
        static_cast<std::size_t>(stack.rows) * row_bytes(stacked.format, stack.cols);
    for (std::int64_t i = 0; i < stack.experts; ++i) {
      TensorInfo expert = stacked;
      expert.name = fmt::format("{}[{}]", stacked.name, i);
      expert.ne = {stack.cols, stack.rows, 1, 1};
      expert.n_dims = 2;
      expert.data = stacked.data.subspan(static_cast<std::size_t>(i) * bytes, bytes);
      set_scale(expert, i);
      result_.tensors.push_back(std::move(expert));
    }
    divided_.add(stacked.name);
  }

  // ---- NVFP4

  /// The second level of scales: one for all, or one for each matrix of the stack.
  std::vector<float> tensor_scales(const StoredTensor& weight, const StackShape& stack,
                                   const Companions& with) {
    const StoredTensor* scale = with.tensor_scale;
    if (scale == nullptr) {
      one_level_.add(weight.name);
      return {1.0f};
    }
    const auto count = static_cast<std::int64_t>(scale->data.size() / sizeof(float));
    if (scale->format != FormatId::kF32 || (count != 1 && count != stack.experts)) {
      throw InputError(
          where(weight),
          fmt::format("its scale '{}' is {} {}, expected F32, one for all{}",
                      escape_text(scale->name), safetensors::dtype_name(scale->format),
                      shape_to_text(scale->shape),
                      stack.experts == 1 ? std::string()
                                         : fmt::format(" or for each of {}", stack.experts)));
    }
    check_scales(where(weight), *scale, ScaleType::kF32, scale->data);
    std::vector<float> scales(static_cast<std::size_t>(count));
    std::memcpy(scales.data(), scale->data.data(), scale->data.size());
    for (float& value : scales) {
      if (with.tensor_scale_divides) value = 1.0f / value;
      if (!(value > 0.0f) || !std::isfinite(value)) {
        throw InputError(where(weight),
                         fmt::format("its scale '{}' {} {}, expected a finite number above 0",
                                     escape_text(scale->name),
                                     with.tensor_scale_divides ? "has the inverse" : "is", value));
      }
    }
    return scales;
  }

  /// As core/format.h lays out a plane of E4M3 scales.
  std::span<const std::byte> make_plane(float tensor_scale, std::span<const std::byte> codes) {
    const std::int64_t header = fixed_scale_grid(FormatId::kNvfp4)->header_bytes();
    std::vector<std::byte> plane(static_cast<std::size_t>(header) + codes.size());
    std::memcpy(plane.data(), &tensor_scale, sizeof tensor_scale);
    std::ranges::copy(codes, plane.begin() + header);
    return own(std::move(plane));
  }

  void add_nvfp4(TensorInfo info, const StoredTensor& weight, const StackShape& stack,
                 const Companions& with) {
    note_odd(weight, check_e4m3_scales(where(weight), *with.scale));
    const std::vector<float> scales = tensor_scales(weight, stack, with);
    const std::span<const std::byte> codes = with.scale->data;
    const bool is_one = std::ranges::all_of(scales, [&](float s) { return s == scales[0]; });
    if (is_one) {
      info.scale_grid = fixed_scale_grid(FormatId::kNvfp4);
      info.scale_data = make_plane(scales[0], codes);
      result_.tensors.push_back(std::move(info));
      return;
    }
    const std::size_t codes_each = codes.size() / static_cast<std::size_t>(stack.experts);
    add_experts(info, stack, [&](TensorInfo& expert, std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      expert.scale_grid = fixed_scale_grid(FormatId::kNvfp4);
      expert.scale_data = make_plane(scales[i], codes.subspan(i * codes_each, codes_each));
    });
  }

  // ---- ggml's bytes

  std::uint32_t read_type_id(const StoredTensor& type) const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(type.data.data());
    const Format& format = get_format(type.format);
    if (format.family != FormatFamily::kInteger ||
        type.data.size() != static_cast<std::size_t>(format.block_bytes)) {
      throw InputError(where(type), fmt::format("is {} {}, expected one integer, a type id of ggml",
                                                safetensors::dtype_name(type.format),
                                                shape_to_text(type.shape)));
    }
    std::uint64_t id = 0;  // little-endian; a negative one is larger than any type id
    std::memcpy(&id, bytes, type.data.size());
    return id > std::numeric_limits<std::uint32_t>::max()
               ? std::numeric_limits<std::uint32_t>::max()
               : static_cast<std::uint32_t>(id);
  }

  void add_ggml(const StoredTensor& tensor, const StoredTensor& type) {
    const std::uint32_t id = read_type_id(type);
    const Format* format = find_ggml_format(id);
    if (format == nullptr) {
      throw InputError(where(type), fmt::format("is {}, which is no type id of ggml", id));
    }
    // The merge script keeps the dtype of plain numbers and makes bytes of the rest.
    if (tensor.format != FormatId::kU8 && tensor.format != format->id) {
      throw InputError(where(tensor), fmt::format("is {}, but '{}' says {}, expected U8 or that",
                                                  safetensors::dtype_name(tensor.format),
                                                  escape_text(type.name), format->name));
    }
    add_raw(tensor, *format);
  }

  /// The merge script leaves the type out if it is 0, f32.
  void add_ggml_f32(const StoredTensor& tensor) {
    if (tensor.format != FormatId::kF32 && tensor.format != FormatId::kU8) return add_plain(tensor);
    untyped_.add(tensor.name);
    add_raw(tensor, get_format(FormatId::kF32));
  }

  void add_raw(const StoredTensor& tensor, const Format& format) {
    const auto block_bytes = static_cast<std::size_t>(format.block_bytes);
    if (tensor.data.size() % block_bytes != 0) {
      throw InputError(where(tensor),
                       fmt::format("has {} bytes, not a multiple of {}, a block of {}",
                                   tensor.data.size(), block_bytes, format.name));
    }
    const auto elements =
        static_cast<std::int64_t>(tensor.data.size() / block_bytes) * format.block_elems;
    TensorInfo info = info_of(tensor, format.id);
    std::optional<RawShape> shape;
    if (tensor.shape.size() == 1) shape = shapes_.find_shape(where(tensor), tensor.name, elements);
    if (!shape) {
      shape = shape_as_rows(format.id, elements);
      shapeless_.add(tensor.name);
    }
    info.ne = shape->ne;
    info.n_dims = shape->n_dims;
    if (info.cols() % format.block_elems != 0) {
      throw InputError(where(tensor), fmt::format("has {} columns, not a multiple of {}, the block "
                                                  "of {}",
                                                  info.cols(), format.block_elems, format.name));
    }
    result_.tensors.push_back(std::move(info));
  }

  // ---- notes

  void note_odd(const StoredTensor& weight, const OddScales& odd) {
    if (odd.zeros > 0) zero_scales_.add(weight.name);
    if (odd.negatives > 0) negative_scales_.add(weight.name);
  }

  void note_lone_scale(const StoredTensor& tensor) {
    if (tensor.name.ends_with("_scale_inv") && !aside_.contains(tensor.name))
      lone_scales_.add(tensor.name);
  }

  void note(const Tally& tally, std::string_view what) {
    if (tally.tensors == 0) return;
    const std::string name = escape_text(tally.first);
    result_.notes.push_back(tally.tensors == 1 ? fmt::format("'{}' {}", name, what)
                                               : fmt::format("{} tensors, the first '{}': each {}",
                                                             tally.tensors, name, what));
  }

  void write_notes() {
    for (const auto& [grid, tally] : guessed_) {
      note(tally, fmt::format("has scales {}: no config.json says so, their shapes fit", grid));
    }
    note(unscaled_, "is FP8 without scales, and nothing announces some");
    note(untyped_, "has no '.ggml_type', taken as f32, the type that the merge script leaves out");
    note(shapeless_,
         "has no shape that can be told, served as rows of its elements in their order");
    note(divided_, "is served matrix by matrix, as NAME[0] and so on: its scales need that");
    note(one_level_, "is NVFP4 without a scale of the tensor, taken as 1");
    note(widened_, "has F16 scales, served as f32");
    note(zero_scales_, "has scales that are 0");
    note(negative_scales_, "has negative scales");
    note(input_scales_, "scales activations; not needed and not listed");
    note(lone_scales_, "is a scale without an FP8 weight of its name, listed as a tensor");
    note(folded_, "has more than 4 dimensions, the outer ones shown multiplied");
    note(flattened_, "has rows that end inside a byte, shown as one row");
  }

  std::span<const StoredTensor> stored_;
  std::span<const std::filesystem::path> paths_;
  const Metadata& metadata_;
  std::map<std::string_view, const StoredTensor*> by_name_;
  HybridShapes shapes_;
  std::optional<BlockShape> block_;
  std::set<std::string_view> aside_;  ///< names of tensors that belong to others
  std::size_t scaled_tensors_ = 0;
  CheckpointTensors result_;

  std::map<std::string, Tally> guessed_;  ///< by the grid
  Tally unscaled_, untyped_, shapeless_, divided_, one_level_, widened_, zero_scales_,
      negative_scales_, input_scales_, lone_scales_, folded_, flattened_;
};

}  // namespace

CheckpointTensors make_checkpoint_tensors(std::span<const StoredTensor> stored,
                                          std::span<const std::filesystem::path> paths,
                                          const Metadata& metadata) {
  return Builder(stored, paths, metadata).build();
}

}  // namespace ktjit::model
