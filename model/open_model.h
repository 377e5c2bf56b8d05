// The way in: from a path that a user gave to an open model.
#pragma once

#include <filesystem>

#include "model/model.h"

namespace ktjit::model {

/// Opens the model at `path`: a GGUF file, any part of a split one, a safetensors file, any shard or
/// the index of a sharded checkpoint, or a folder with exactly one model (folders inside it are not
/// searched). A folder with a safetensors checkpoint and a GGUF model is one model of both: where a
/// name is in both, the safetensors tensor is served and a note says so. A file is told by its
/// content, whatever it is called.
///
/// Errors: InputError if nothing is there, if the file is something else (it says what), if a
/// folder has no model or several (it lists them), or for any reason of the file's reader.
Model open_model(const std::filesystem::path& path);

}  // namespace ktjit::model
