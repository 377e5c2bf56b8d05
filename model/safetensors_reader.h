// Reader of safetensors checkpoints: files, config.json, and what the tensors mean.
#pragma once

#include <filesystem>

#include "model/model.h"

namespace ktjit::model {

/// Opens the checkpoint that `path` belongs to, see open_safetensors_files; config.json and
/// hf_quant_config.json of its folder become metadata, see add_config.
///
/// Errors: InputError, see read_safetensors_part, open_safetensors_files and
/// make_checkpoint_tensors.
Model::Contents read_safetensors_contents(const std::filesystem::path& path);

}  // namespace ktjit::model
