// Which files belong to a safetensors checkpoint: one file, the shards that an index names, or the
// shards that their own names tell.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/safetensors_part.h"

namespace ktjit::model {

/// "model-00002-of-00003.safetensors".
struct ShardName {
  std::string prefix;  ///< "model"
  int number;
  int count;

  bool operator==(const ShardName&) const = default;
};

/// Nothing if `file_name` (no folder) isn't the name of a shard.
std::optional<ShardName> parse_shard_name(std::string_view file_name);

bool is_safetensors_name(const std::filesystem::path& path);
bool is_safetensors_index_name(const std::filesystem::path& path);

struct SafetensorsFiles {
  std::filesystem::path folder;
  std::vector<SafetensorsPart> parts;
  std::vector<std::string> notes;
};

/// Opens the checkpoint that `path` belongs to: a .safetensors file (alone, or any shard, which
/// opens all), an index (*.safetensors.index.json), or a folder with one checkpoint. Shards without
/// an index are numbered from 1 (Hugging Face) or from 0 (KTransformers' merge script, whose last
/// number is the count) without gaps. Names of tensors are unique in all shards.
///
/// Errors: InputError as of read_safetensors_part; if a shard is missing, if the index names a
/// tensor that its shard lacks or lacks one that a shard has, or if a folder has several
/// checkpoints.
SafetensorsFiles open_safetensors_files(const std::filesystem::path& path);

}  // namespace ktjit::model
