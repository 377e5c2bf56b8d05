// Writer of safetensors: one file, or the shards of a checkpoint with their index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/format.h"
#include "model/byte_source.h"
#include "model/file_layout.h"

namespace ktjit::model {

/// Collects tensors, then writes one safetensors file. In the file, tensors of large elements come
/// first, so that each is aligned to its elements, and otherwise in the order they were added.
///
/// Errors: SpecError for what a safetensors file can't hold; finish() throws OutputError too.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(std::filesystem::path path);

  /// An entry of __metadata__.
  void set(std::string key, std::string value);

  /// `shape` is row-major, the contiguous dimension last; an empty one is a scalar. `data` must live
  /// until finish().
  void add_tensor(std::string name, FormatId format, std::span<const std::int64_t> shape,
                  std::span<const std::byte> data);
  /// The source is called once, during finish().
  void add_tensor(std::string name, FormatId format, std::span<const std::int64_t> shape,
                  ByteSource source);

  /// Of all tensors so far.
  std::uint64_t data_bytes() const { return data_bytes_; }

  /// Where finish() would put what was added: for files that someone else fills. No source is called.
  FileLayout layout();

  /// Writes the file, which appears whole: temporary name, sync, rename. Call it once, last.
  void finish();

 private:
  struct PlannedTensor {
    std::string name;
    FormatId format;
    std::vector<std::int64_t> shape;
    std::uint64_t bytes;
    ByteSource source;
  };

  void sort_tensors();
  std::string make_header() const;

  std::filesystem::path path_;
  std::map<std::string, std::string> metadata_;
  std::vector<PlannedTensor> tensors_;
  std::set<std::string, std::less<>> names_;
  std::uint64_t data_bytes_ = 0;
};

/// Writes a checkpoint to a folder as Hugging Face's libraries do: shards of at most `shard_bytes`
/// of tensors (a larger tensor has one for itself), named model-00001-of-00003.safetensors, and
/// model.safetensors.index.json; or model.safetensors alone if one shard is enough.
///
/// Errors: as SafetensorsWriter's. The folder must exist.
class ShardedSafetensorsWriter {
 public:
  ShardedSafetensorsWriter(std::filesystem::path folder, std::uint64_t shard_bytes);

  /// As SafetensorsWriter::add_tensor.
  void add_tensor(std::string name, FormatId format, std::span<const std::int64_t> shape,
                  ByteSource source);

  /// Writes all files, the index last.
  void finish();

 private:
  struct PlannedTensor {
    std::string name;
    FormatId format;
    std::vector<std::int64_t> shape;
    ByteSource source;
    std::size_t shard;
  };

  std::filesystem::path folder_;
  std::uint64_t shard_bytes_;
  std::vector<PlannedTensor> tensors_;
  std::set<std::string, std::less<>> names_;
  std::uint64_t bytes_in_shard_ = 0;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace ktjit::model
