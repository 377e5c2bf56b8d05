// Zero pages stand for bytes that nobody has made yet: one mapping, as large as the largest plane.
#include "jit/ruled_model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <fmt/format.h>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <utility>

#include "rules/conversion.h"

#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/reference_encode.h"
#include "jit/reference_ops.h"
#include "runtime/host_limits.h"

namespace ktjit {
namespace {

using model::TensorInfo;

ScaledTensorView view_of(const TensorInfo& tensor) {
  if (tensor.layout != LayoutKind::kNative) {
    throw SpecError(fmt::format("layout of tensor '{}'", tensor.name), "prepared in the file",
                    "native where another format is asked for: restore the model first");
  }
  return {tensor.format, tensor.rows(),     tensor.cols(),
          tensor.data,   tensor.scale_grid, tensor.scale_data};
}

/// Rows at a time, each time decoded to f32: whole blocks of scales.
std::int64_t rows_at_a_time(const TensorInfo& tensor, const WeightFormat& format) {
  constexpr std::int64_t kValues = std::int64_t{1} << 18;
  const std::int64_t block = format.scale ? format.scale->block_rows : 1;
  if (block == 0) return tensor.rows();
  const std::int64_t wanted = std::max<std::int64_t>(1, kValues / tensor.cols());
  return (wanted + block - 1) / block * block;
}

/// Calls `use(piece, values, rows)` with the rows of the tensor in f32, so many at a time, on all threads that
/// the process may use.
/// Errors: the first of a piece's.
template <class Use>
void for_rows(const TensorInfo& tensor, std::int64_t rows_each, Use use) {
  const std::int64_t pieces = (tensor.rows() + rows_each - 1) / rows_each;
  std::atomic<std::int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto take = [&] {
    std::vector<float> values;
    try {
      for (std::int64_t piece = next++; piece < pieces; piece = next++) {
        const std::int64_t row = piece * rows_each;
        const std::int64_t rows = std::min(rows_each, tensor.rows() - row);
        values.resize(static_cast<std::size_t>(rows * tensor.cols()));
        decode_rows(view_of(tensor), row, rows, values);
        use(static_cast<std::size_t>(piece), std::span<const float>(values), rows);
      }
    } catch (...) {
      next = pieces;
      const std::scoped_lock lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    const auto wanted = std::min<std::int64_t>(runtime::usable_threads(), pieces);
    for (std::int64_t i = 1; i < wanted; ++i) threads.emplace_back(take);
    take();
  }
  if (failure) std::rethrow_exception(failure);
}

std::size_t pieces_of(const TensorInfo& tensor, std::int64_t rows_each) {
  return static_cast<std::size_t>((tensor.rows() + rows_each - 1) / rows_each);
}

void append(std::vector<std::byte>& to, std::span<const std::byte> from) {
  to.insert(to.end(), from.begin(), from.end());
}

/// nvfp4_tensor_scale of a tensor that is not in memory as f32.
float tensor_scale_of(const TensorInfo& tensor, std::int64_t rows_each) {
  std::vector<float> largest(pieces_of(tensor, rows_each));
  for_rows(tensor, rows_each, [&](std::size_t piece, std::span<const float> values, std::int64_t) {
    for (const float value : values) {
      if (std::isfinite(value)) largest[piece] = std::max(largest[piece], std::fabs(value));
    }
  });
  return nvfp4_tensor_scale(largest);
}

}  // namespace

OwnedTensor convert_tensor(const TensorInfo& tensor, const WeightFormat& format) {
  OwnedTensor result;
  result.tensor = tensor;
  result.tensor.format = format.id;
  result.tensor.scale_grid = format.scale;
  const std::int64_t rows_each = rows_at_a_time(tensor, format);
  std::vector<QuantizedRows> made(pieces_of(tensor, rows_each));
  if (get_format(format.id).family == FormatFamily::kFloat) {
    const auto each = static_cast<std::size_t>(get_format(format.id).block_bytes);
    for_rows(tensor, rows_each,
             [&](std::size_t piece, std::span<const float> values, std::int64_t) {
               made[piece].codes.resize(values.size() * each);
               round_output(format.id, values, made[piece].codes);
             });
  } else {
    QuantizeRules quantize{format.id, format.scale};
    if (format.scale && format.scale->header_bytes() != 0)
      quantize.tensor_scale = tensor_scale_of(tensor, rows_each);
    for_rows(tensor, rows_each,
             [&](std::size_t piece, std::span<const float> values, std::int64_t rows) {
               made[piece] = quantize_reference(quantize, values, rows, tensor.cols());
             });
  }
  for (QuantizedRows& piece : made) {
    append(result.codes, piece.codes);
    const bool is_first = result.scales.empty();
    const std::size_t header =  // each piece has the tensor's scale in front: once is enough
        format.scale && !is_first ? static_cast<std::size_t>(format.scale->header_bytes()) : 0;
    append(result.scales, std::span(piece.scales).subspan(header));
    piece = {};
  }
  result.tensor.data = result.codes;
  result.tensor.scale_data = result.scales;
  return result;
}

class RuledModel::Zeros {
 public:
  explicit Zeros(std::size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    pages_ = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages_ == MAP_FAILED)
      throw SpecError("tensor", fmt::format("{} bytes", bytes),
                      "what the address space has room for");
  }
  ~Zeros() {
    if (bytes_ != 0) ::munmap(pages_, bytes_);
  }
  Zeros(const Zeros&) = delete;
  Zeros& operator=(const Zeros&) = delete;

  std::span<const std::byte> first(std::uint64_t bytes) const {
    KTJIT_CHECK(bytes <= bytes_);
    return {static_cast<const std::byte*>(pages_), static_cast<std::size_t>(bytes)};
  }

 private:
  std::size_t bytes_;
  void* pages_ = nullptr;
};

RuledModel::RuledModel(const model::Model& source, const rules::Rules& rules) : rules_(rules) {
  rules.check(source);
  std::uint64_t largest = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    const rules::TensorChoice choice = rules.choose(tensor);
    if (choice.convert_to) {
      largest = std::max({largest, rules::converted_code_bytes(tensor, *choice.convert_to),
                          rules::converted_scale_bytes(tensor, *choice.convert_to)});
    }
    tensors_.push_back({nullptr, &tensor, choice});
  }
  zeros_ = std::make_unique<Zeros>(static_cast<std::size_t>(largest));

  model::Model::Contents contents{};
  contents.container = source.container();
  contents.version = source.version();
  contents.alignment = source.alignment();
  contents.metadata = source.metadata();
  for (const Tensor& tensor : tensors_) {
    TensorInfo planned = *tensor.source;
    if (tensor.choice.convert_to) {
      const WeightFormat& format = *tensor.choice.convert_to;
      planned.format = format.id;
      planned.scale_grid = format.scale;
      planned.data = zeros_->first(rules::converted_code_bytes(*tensor.source, format));
      planned.scale_data = zeros_->first(rules::converted_scale_bytes(*tensor.source, format));
      planned.scale_name.clear();
    }
    if (tensor.choice.activation) {
      const std::string problem = activation_problem(planned.format, *tensor.choice.activation);
      if (!problem.empty()) {
        throw InputError(
            rules.describe(*tensor.choice.activation_rule),
            fmt::format("activation is '{}' for tensor '{}', expected a16: {}",
                        activation_name(*tensor.choice.activation), planned.name, problem));
      }
    }
    contents.tensors.push_back(std::move(planned));
  }
  planned_ = std::make_unique<model::Model>(std::move(contents));
  for (std::size_t at = 0; at < tensors_.size(); ++at) {
    tensors_[at].planned = &planned_->tensors()[at];
    place_of_.emplace(tensors_[at].planned, at);
  }
}

RuledModel::~RuledModel() = default;

bool RuledModel::converts() const {
  return std::ranges::any_of(
      tensors_, [](const Tensor& tensor) { return tensor.choice.convert_to.has_value(); });
}

std::vector<std::string> RuledModel::devices() const {
  std::vector<std::string> names;
  for (const Tensor& tensor : tensors_) {
    const std::string name = tensor.choice.device.value_or("");
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  std::ranges::stable_partition(names, [](const std::string& name) { return name.empty(); });
  return names;
}

LayoutKind RuledModel::layout_of(const Tensor& tensor, LayoutKind matvec_layout,
                                 const Target& target) const {
  if (!tensor.choice.layout) return matvec_layout;
  if (*tensor.choice.layout == rules::LayoutChoice::kNative) return LayoutKind::kNative;
  const bool is_served = serves_prepared(tensor.planned->format, target);
  if (*tensor.choice.layout == rules::LayoutChoice::kPrepared && !is_served) {
    throw InputError(
        rules_.describe(*tensor.choice.layout_rule),
        fmt::format("layout is 'prepared' for tensor '{}', which is {} on {}, expected "
                    "native or auto: no kernel there reads such weights prepared",
                    tensor.planned->name, get_format(tensor.planned->format).name, target.name()));
  }
  return LayoutKind::kPrepared;
}

std::vector<PlannedTensor> RuledModel::tensors_on(const std::vector<std::string>& devices,
                                                  LayoutKind matvec_layout,
                                                  const Target& target) const {
  std::vector<PlannedTensor> planned;
  for (const Tensor& tensor : tensors_) {
    if (std::ranges::find(devices, tensor.choice.device.value_or("")) == devices.end()) continue;
    planned.push_back({tensor.planned, layout_of(tensor, matvec_layout, target),
                       tensor.choice.activation.value_or(ActivationPolicy::kA16)});
  }
  return planned;
}

std::optional<OwnedTensor> RuledModel::load(const TensorInfo& planned) const {
  const Tensor& tensor = tensors_.at(place_of_.at(&planned));
  if (!tensor.choice.convert_to) return std::nullopt;
  try {
    return convert_tensor(*tensor.source, *tensor.choice.convert_to);
  } catch (const SpecError& error) {
    throw InputError(rules_.describe(*tensor.choice.format_rule),
                     fmt::format("tensor '{}' can't be converted when it is loaded: {}",
                                 planned.name, error.what()));
  }
}

}  // namespace ktjit
