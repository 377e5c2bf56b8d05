// From models and what was asked for to a Conversion.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "convert/model_conversion.h"
#include "convert/tensor_choice.h"
#include "convert/tensor_names.h"

#include "model/model.h"

namespace ktjit::convert {

struct ConvertRequest {
  const model::Model* input = nullptr;
  /// The hybrid: routed experts are this GGUF model's, as its bytes, and names are GGUF's.
  const model::Model* experts = nullptr;
  /// Tensors that are converted to FP8 get this model's scales of the tensor of the same name.
  const model::Model* scales = nullptr;
  ChooseTensor choose;
  /// What a tensor gets that keeps its format, if the output's files can't hold that: bf16, f16 or f32.
  FormatId rest = FormatId::kBF16;
  std::optional<Naming> names;  ///< nothing: the input's, but GGUF's in a GGUF file
  Container container = Container::kSafetensors;
  OutputKind kind = OutputKind::kFolder;
  std::string file_name;  ///< of the one file, where kind is that
  std::uint64_t shard_bytes = std::uint64_t{5} << 30;
};

/// Decides everything: which tensor becomes what, under which name, made how, at which place of which file. The
/// models must outlive the result.
/// Errors: SpecError that names the tensor where a format doesn't serve its shape or the container; InputError
/// for an architecture whose names are not known, a tensor without a counterpart, experts that don't fit.
Conversion plan_conversion(const ConvertRequest& request);

}  // namespace ktjit::convert
