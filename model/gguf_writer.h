// Writer of GGUF files, version 3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/format.h"
#include "model/byte_source.h"
#include "model/file_layout.h"
#include "model/metadata.h"
#include "model/model.h"

namespace ktjit::model {

/// Collects metadata and tensors, then writes them in the order they were added.
///
/// Errors: SpecError for what a GGUF file can't hold; finish() throws OutputError too.
class GgufWriter {
 public:
  /// The alignment of tensor data, a power of two and a multiple of 8. Other than 32, it is
  /// recorded in the file as general.alignment.
  explicit GgufWriter(std::filesystem::path path, std::uint32_t alignment = 32);

  /// general.alignment may be set to the constructor's value only, as u32.
  void set(std::string key, MetadataValue value);

  /// `ne` has 1 to 4 extents in ggml's order. `data` must live until finish().
  void add_tensor(std::string name, FormatId format, std::span<const std::int64_t> ne,
                  std::span<const std::byte> data);
  /// The source is called once, during finish().
  void add_tensor(std::string name, FormatId format, std::span<const std::int64_t> ne,
                  ByteSource source);
  /// A tensor of an open model, which must live until finish().
  void add_tensor(const TensorInfo& tensor);

  /// Where finish() would put what was added: for files that someone else fills. No source is called.
  FileLayout layout() const;

  /// Writes the file, which appears whole: temporary name, sync, rename. Call it once, last.
  void finish();

 private:
  struct PlannedTensor {
    std::string name;
    FormatId format;
    std::vector<std::int64_t> ne;
    std::uint64_t bytes;
    ByteSource source;
  };

  std::string make_header() const;

  std::filesystem::path path_;
  std::uint32_t alignment_;
  Metadata metadata_;
  std::vector<PlannedTensor> tensors_;
  std::set<std::string, std::less<>> tensor_names_;
};

}  // namespace ktjit::model
