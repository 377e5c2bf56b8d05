// One safetensors file: a whole checkpoint, or one shard. safetensors_files.h finds the shards.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "model/mapped_file.h"
#include "model/stored_tensor.h"

namespace ktjit::model {

struct SafetensorsPart {
  explicit SafetensorsPart(const std::filesystem::path& path) : file(path) {}

  MappedFile file;
  std::vector<std::pair<std::string, std::string>> metadata;  ///< __metadata__
  std::vector<StoredTensor> tensors;                          ///< in the order of their bytes
};

/// Reads and checks the header; the tensors' bytes are not touched.
///
/// As the format demands: a header of at most 100 MB that is one JSON object and begins with '{', no
/// key twice, known dtypes, every tensor as large as its shape says, tensors that follow each other
/// without holes or overlaps up to the end of the file, __metadata__ of strings only. Stricter than
/// the reference implementation: a tensor has no other fields than the format's three, names are not
/// empty and have no control characters, and a zero in a shape doesn't excuse 2^63 elements.
///
/// Errors: InputError with the file (and tensor), the value, and what was expected.
SafetensorsPart read_safetensors_part(const std::filesystem::path& path);

}  // namespace ktjit::model
