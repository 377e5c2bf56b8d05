// Reader of GGUF files, versions 2 and 3, whole or split.
#pragma once

#include <filesystem>

#include "model/model.h"

namespace ktjit::model {

/// Opens a GGUF model; any part of a split model opens all its parts, which lie in the same folder.
///
/// Every number of the file is checked before it is used, and before memory is taken for it; tensor
/// data is not touched. Stricter than llama.cpp in this: the alignment is a multiple of 8, a tensor
/// has 1 to 4 dimensions, a bool is 0 or 1, names and keys are UTF-8 without control characters. As
/// llama.cpp: no gaps between tensors, zero-sized tensors are allowed, arrays of arrays are
/// refused. More lenient: tensors may lie in another order than they are listed, names may be
/// longer than 63 bytes. Text values must be UTF-8 except under "tokenizer.", where vocabularies
/// hold arbitrary bytes: those are counted in Model::notes().
///
/// Errors: InputError with the file (and tensor), the value, and what was expected.
Model read_gguf(const std::filesystem::path& path);

/// As read_gguf, for those who put more beside it.
Model::Contents read_gguf_contents(const std::filesystem::path& path);

}  // namespace ktjit::model
