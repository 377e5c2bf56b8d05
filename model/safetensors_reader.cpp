#include "model/safetensors_reader.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <utility>

#include "model/checkpoint_config.h"
#include "model/checkpoint_tensors.h"
#include "model/described_tensors.h"
#include "model/safetensors_files.h"

namespace ktjit::model {
namespace {

/// The largest power of two, up to a page, that every tensor's place in its file is a multiple of.
std::uint32_t common_alignment(const std::vector<SafetensorsPart>& parts) {
  std::uint64_t places = 4096;
  for (const SafetensorsPart& part : parts) {
    for (const StoredTensor& tensor : part.tensors) {
      if (tensor.data.empty()) continue;
      places |= static_cast<std::uint64_t>(tensor.data.data() - part.file.bytes().data());
    }
  }
  return static_cast<std::uint32_t>(places & (~places + 1));
}

}  // namespace

Model::Contents read_safetensors_contents(const std::filesystem::path& path) {
  SafetensorsFiles files = open_safetensors_files(path);
  Model::Contents contents{};
  contents.alignment = common_alignment(files.parts);
  add_config(files.folder / "config.json", "config", contents.metadata);
  add_config(files.folder / "hf_quant_config.json", "hf_quant_config", contents.metadata);
  contents.notes = std::move(files.notes);

  std::vector<StoredTensor> stored;
  std::vector<std::filesystem::path> paths;
  std::vector<TensorInfo> described;
  for (SafetensorsPart& part : files.parts) {
    for (StoredTensor& tensor : part.tensors) tensor.part = static_cast<int>(paths.size());
    for (auto& [key, value] : part.metadata) {  // as a rule all shards have the same
      if (key == kModelMetadataKey) {
        add_metadata_of_text(part.file.path(), value, contents.metadata);
      } else if (key == kDescriptionsKey) {
        std::ranges::move(take_described_tensors(part.file.path(), value, part.tensors),
                          std::back_inserter(described));
      } else {
        contents.metadata.add(fmt::format("safetensors.{}", key), std::move(value));
      }
    }
    std::ranges::move(part.tensors, std::back_inserter(stored));
    paths.push_back(part.file.path());
    contents.files.push_back(std::move(part.file));
  }
  CheckpointTensors made = make_checkpoint_tensors(stored, paths, contents.metadata);
  contents.container = made.is_hybrid ? "KTransformers hybrid" : "safetensors";
  contents.tensors = std::move(made.tensors);
  std::ranges::move(described, std::back_inserter(contents.tensors));
  contents.owned = std::move(made.owned);
  std::move(made.notes.begin(), made.notes.end(), std::back_inserter(contents.notes));
  return contents;
}

}  // namespace ktjit::model
