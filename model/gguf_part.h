// One GGUF file: a whole model, or one part of a split model. gguf_reader.h puts the parts
// together.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/mapped_file.h"
#include "model/metadata.h"
#include "model/model.h"

namespace ktjit::model {

struct GgufPart {
  explicit GgufPart(const std::filesystem::path& path) : file(path) {}

  MappedFile file;
  std::uint32_t version = 0;
  std::uint32_t alignment = 0;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::vector<std::string> notes;
};

/// Errors: InputError, see read_gguf.
GgufPart read_gguf_part(const std::filesystem::path& path);

/// "PATH: tensor 'NAME'", for InputError.
std::string tensor_place(const std::filesystem::path& path, std::string_view name);

}  // namespace ktjit::model
