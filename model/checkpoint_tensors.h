// From the tensors of safetensors files to the tensors of a model: scales go to the weights that
// they belong to. docs/CHECKPOINTS.md lists the conventions.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model/metadata.h"
#include "model/model.h"
#include "model/stored_tensor.h"

namespace ktjit::model {

struct CheckpointTensors {
  std::vector<TensorInfo> tensors;            ///< in the order of `stored`
  std::vector<std::vector<std::byte>> owned;  ///< scales that had to be put together
  std::vector<std::string> notes;
  bool is_hybrid = false;  ///< KTransformers': ggml's bytes beside FP8
};

/// `paths` are the files, by StoredTensor::part; names are unique; `metadata` has config.json.
///
/// Errors: InputError with the file and the tensor, if scales are missing, have a shape that doesn't
/// fit, are NaN or infinite, or if raw ggml bytes don't fit their type.
CheckpointTensors make_checkpoint_tensors(std::span<const StoredTensor> stored,
                                          std::span<const std::filesystem::path> paths,
                                          const Metadata& metadata);

}  // namespace ktjit::model
