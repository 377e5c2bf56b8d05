// The way in: from a path that a user gave to an open model.
#pragma once

#include <filesystem>

#include "model/model.h"

namespace ktjit::model {

/// Opens the model at `path`: a GGUF file, any part of a split one, or a folder with exactly one
/// model (the parts of a split model are one; folders inside it are not searched).
///
/// Errors: InputError if nothing is there, if the file is something else (it says what), if a
/// folder has no model or several (it lists them), or for any reason of the file's reader.
Model open_model(const std::filesystem::path& path);

}  // namespace ktjit::model
