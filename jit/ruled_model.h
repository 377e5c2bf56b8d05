// A model as rules make it: tensors in the formats that were chosen, sorted by the device they go to.
// Planning needs no converted bytes; running converts a tensor when it is its turn.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/rules.h"

#include "jit/planner.h"
#include "model/model.h"

namespace ktjit {

/// A tensor with the bytes that it refers to.
struct OwnedTensor {
  model::TensorInfo tensor;
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
};

/// The tensor converted to the format, decoded and quantised by the plain reference, rows on all threads.
///
/// Math:    v as decode_rows; f32, f16, bf16: rounded once, to nearest even, no scale; else as
///          quantize_reference: scales chosen from the largest |v| of a block, codes saturating.
///          nvfp4's tensor scale is nvfp4_tensor_scale of all v.
/// Memory:  the result twice, and f32 values of some rows; of the whole tensor where one scale is of all rows.
/// Errors:  SpecError for a format or scales that the reference doesn't quantise to.
/// REQUIRES: no rules::conversion_problem.
OwnedTensor convert_tensor(const model::TensorInfo& tensor, const WeightFormat& format);

/// Threads: const after construction.
class RuledModel {
 public:
  /// Both must outlive this.
  /// Errors: as Rules::check; InputError with the rule and the tensor for activations that no kernel takes.
  RuledModel(const model::Model& source, const rules::Rules& rules);
  ~RuledModel();

  struct Tensor {
    const model::TensorInfo* planned = nullptr;  ///< of model()
    const model::TensorInfo* source = nullptr;
    rules::TensorChoice choice;
  };

  /// Names, shapes and metadata of the source, formats and sizes as the rules choose. Tensors that stay as
  /// they are have the source's bytes; the bytes of others are zeros: load makes the real ones.
  const model::Model& model() const { return *planned_; }
  const rules::Rules& rules() const { return rules_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// Whether a rule converts any tensor.
  bool converts() const;

  /// What rules name, in the order of the tensors; "" first if some tensors are left to the command.
  std::vector<std::string> devices() const;
  /// The tensors of these devices, with their layouts and activations; `matvec_layout` where no rule says.
  /// Errors: InputError with the rule and the tensor if it asks for prepared weights that the target doesn't
  /// have.
  std::vector<PlannedTensor> tensors_on(const std::vector<std::string>& devices,
                                        LayoutKind matvec_layout, const Target& target) const;

  /// The converted tensor; nothing if it stays as it is. `planned` is one of model()'s.
  /// Errors: as convert_tensor, with the rule and the tensor.
  std::optional<OwnedTensor> load(const model::TensorInfo& planned) const;

 private:
  class Zeros;

  LayoutKind layout_of(const Tensor& tensor, LayoutKind matvec_layout, const Target& target) const;

  const rules::Rules& rules_;
  std::unique_ptr<Zeros> zeros_;  // before the model, whose tensors point into them
  std::unique_ptr<model::Model> planned_;
  std::vector<Tensor> tensors_;
  std::map<const model::TensorInfo*, std::size_t> place_of_;  // of a planned tensor in tensors_
};

}  // namespace ktjit
