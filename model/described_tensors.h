// Tensors that safetensors has no dtype for, in a safetensors file that says what they are: ggml's blocks as they are, and
// weights prepared for a target's matvec. docs/PREPARED.md describes the file.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/format.h"
#include "core/tensor_layout.h"
#include "model/metadata.h"
#include "model/model.h"
#include "model/stored_tensor.h"

namespace ktjit::model {

/// Keys of __metadata__: what the U8 tensors of this file are, and the model's metadata.
constexpr std::string_view kDescriptionsKey = "ktjit.tensors";
constexpr std::string_view kModelMetadataKey = "ktjit.metadata";

/// What a U8 tensor [bytes] holds.
struct TensorDescription {
  FormatId format = FormatId::kF32;
  LayoutKind layout = LayoutKind::kNative;
  std::vector<std::int64_t> ne;  ///< 1 to 4 extents in ggml's order, the contiguous one first
};

TensorDescription description_of(const TensorInfo& tensor);

/// Bytes of such a tensor: of prepared ones matrix by matrix of ne[1] x ne[0], each prepared_bytes.
/// Errors: SpecError if the format has no such layout, or as ktjit::prepared_bytes.
std::int64_t described_bytes(const TensorDescription& description);

/// The value of kDescriptionsKey: a JSON object by the tensors' names.
std::string descriptions_to_text(const std::map<std::string, TensorDescription>& descriptions);

/// Takes the described tensors out of `stored`, which are those of one file.
/// Errors: InputError with the file, and the tensor: if the text is no such object, describes what isn't there or isn't U8,
/// names an unknown format, layout or version, or a size that the tensor's bytes don't have.
std::vector<TensorInfo> take_described_tensors(const std::filesystem::path& path,
                                               std::string_view text,
                                               std::vector<StoredTensor>& stored);

/// The value of kModelMetadataKey: a JSON array of [key, type, value], in order. All values come back as they were, bit for
/// bit, whatever bytes a string holds.
std::string metadata_to_text(const Metadata& metadata);
/// Adds them. Errors: InputError with the file.
void add_metadata_of_text(const std::filesystem::path& path, std::string_view text,
                          Metadata& metadata);

}  // namespace ktjit::model
