// A model: named tensors in mapped files, and metadata. The same type for every kind of model file;
// open_model.h makes one from a path.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/format.h"
#include "core/tensor_layout.h"
#include "model/mapped_file.h"
#include "model/metadata.h"

namespace ktjit::model {

/// One tensor. Its shape is in ggml's order, the contiguous dimension first; dimensions past n_dims
/// are 1. A tensor of zero elements is allowed, as in llama.cpp, and has no bytes.
struct TensorInfo {
  std::string name;
  FormatId format = FormatId::kF32;
  std::array<std::int64_t, 4> ne = {1, 1, 1, 1};
  int n_dims = 1;
  std::span<const std::byte>
      data;  ///< in the map of `part`: rows() * row_bytes() bytes, no padding; prepared: see layout
  int part = 0;  ///< index into Model::files()
  /// Prepared: data are the matrices of ne[1] x ne[0], one after another, each prepared_bytes (core/prepared_layout.h)
  /// long; scales are in them, scale_data is empty.
  LayoutKind layout = LayoutKind::kNative;

  /// FP8 and FP4 checkpoints keep the scales in tensors of their own. GGUF formats have none.
  std::optional<ScaleGrid> scale_grid;
  std::span<const std::byte> scale_data;  ///< as ScaleGrid says, in a map or in Contents::owned
  std::string scale_name;  ///< of the tensor in the files that scale_data comes from; may be empty

  /// Length of a row, a multiple of the format's block.
  std::int64_t cols() const { return ne[0]; }
  /// All dimensions but the first, multiplied: a tensor is served as a matrix [rows, cols].
  std::int64_t rows() const { return ne[1] * ne[2] * ne[3]; }
  std::int64_t elements() const { return rows() * cols(); }
  std::uint64_t bytes() const { return data.size(); }
};

/// "[4096, 32000]", in ggml's order, n_dims numbers.
std::string shape_to_text(const TensorInfo& tensor);

/// Bytes of one row. REQUIRES: cols is a multiple of the format's block, and not negative.
std::uint64_t row_bytes(FormatId format, std::int64_t cols);

/// An open model. Move-only; the tensors' bytes stay valid, at the same addresses, as long as it
/// lives. Threads: const after construction, so safe to read from several.
class Model {
 public:
  /// What a reader of some file format hands over. Names of tensors are unique: the reader has
  /// checked.
  struct Contents {
    std::string container;    ///< "GGUF", "safetensors", "KTransformers hybrid", "... + GGUF"
    std::uint32_t version;    ///< of the container, 0 if it has none
    std::uint32_t alignment;  ///< of tensor data, in bytes
    std::vector<MappedFile> files;
    std::vector<std::vector<std::byte>> owned;  ///< scales that no file holds as they are served
    Metadata metadata;
    std::vector<TensorInfo> tensors;
    std::vector<std::string> notes;
  };
  explicit Model(Contents contents);

  std::string_view container() const { return contents_.container; }
  std::uint32_t version() const { return contents_.version; }
  std::uint32_t alignment() const { return contents_.alignment; }
  const Metadata& metadata() const { return contents_.metadata; }
  /// The parts, in order. One unless the model is split.
  std::vector<std::filesystem::path> files() const;
  /// Sum over the parts.
  std::uint64_t file_bytes() const;

  /// In the order of the files.
  const std::vector<TensorInfo>& tensors() const { return contents_.tensors; }
  const TensorInfo* find_tensor(std::string_view name) const;
  /// Errors: InputError that lists the names closest to `name`.
  const TensorInfo& get_tensor(std::string_view name) const;

  /// What is odd about the files but no reason to refuse them, one sentence each.
  const std::vector<std::string>& notes() const { return contents_.notes; }

 private:
  Contents contents_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

}  // namespace ktjit::model
