// config.json of a checkpoint, as metadata.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "model/metadata.h"

namespace ktjit::model {

/// Adds every value of the JSON file as "<prefix>.<path>", such as "config.num_hidden_layers" or
/// "config.quantization_config.quant_method": integers as i64 (u64 where they need it), other
/// numbers as f64, texts as str. A list whose items are of one kind becomes an array; of another
/// list each item is added, as "<path>.0", "<path>.1". Nulls and empty lists are left out. Nothing
/// is added if there is no such file.
///
/// Errors: InputError if the file can't be read or is no JSON object.
void add_config(const std::filesystem::path& path, std::string_view prefix, Metadata& metadata);

/// The value of config.json at `path`, at the top or under "text_config", where models of several
/// kinds of input keep it.
const MetadataValue* find_config(const Metadata& metadata, std::string_view path);
std::optional<std::uint64_t> find_config_uint(const Metadata& metadata, std::string_view path);

/// Blocks, in rows and columns, that share a scale.
struct BlockShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  bool operator==(const BlockShape&) const = default;
};

/// quantization_config's weight_block_size, or a block_structure of its config_groups; nothing if
/// none is given.
/// Errors: InputError with `where` if it isn't two positive numbers.
std::optional<BlockShape> find_weight_block(const Metadata& metadata, std::string_view where);

/// Whether config.json says that weights are quantised, in whatever way.
bool announces_quantisation(const Metadata& metadata);

}  // namespace ktjit::model
