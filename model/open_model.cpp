#include "model/open_model.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "model/file_kind.h"
#include "model/folder_listing.h"
#include "model/gguf_reader.h"
#include "model/gguf_split.h"
#include "model/safetensors_files.h"
#include "model/safetensors_reader.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

namespace fs = std::filesystem;

struct FolderContent {
  std::vector<std::string> gguf;  ///< file names; of a split model one part, the first there
  bool has_safetensors = false;   ///< files or an index
  std::vector<std::string> pickles;
  std::size_t files = 0;
};

FolderContent look_into(const fs::path& folder) {
  FolderContent content;
  const std::vector<std::string> names = list_files(folder);
  content.files = names.size();
  std::set<std::string> split_models;
  for (const std::string& name : names) {
    content.has_safetensors |= is_safetensors_name(name) || is_safetensors_index_name(name);
    if (has_pickle_extension(name)) content.pickles.push_back(name);
    if (!has_extension(name, ".gguf")) continue;
    const auto split = parse_split_name(name);
    if (split && !split_models.insert(fmt::format("{}/{}", split->prefix, split->count)).second) {
      continue;
    }
    content.gguf.push_back(name);
  }
  return content;
}

[[noreturn]] void fail_without_model(const fs::path& folder, const FolderContent& content) {
  const std::string instead = content.pickles.empty()
                                  ? fmt::format("none of its {} files is one", content.files)
                                  : fmt::format("{} is a Python pickle by its name: {}",
                                                content.pickles.front(), kPickleAdvice);
  throw InputError(
      folder.string(),
      fmt::format("has no model file, looked for *.gguf and *.safetensors; {}", instead));
}

void check_one_gguf(const fs::path& folder, const std::vector<std::string>& models) {
  constexpr std::size_t kMostNames = 8;
  if (models.size() <= 1) return;
  const auto shown = std::min(models.size(), kMostNames);
  throw InputError(
      folder.string(),
      fmt::format("has {} GGUF models, expected one or the path of one of them: {}{}",
                  models.size(), fmt::join(models.begin(), models.begin() + shown, ", "),
                  shown < models.size() ? ", ..." : ""));
}

/// Puts the tensors of a GGUF model behind those of a checkpoint.
void append_gguf(Model::Contents& contents, Model::Contents gguf) {
  std::set<std::string_view> taken;
  for (const TensorInfo& tensor : contents.tensors) taken.insert(tensor.name);
  const auto first_file = static_cast<int>(contents.files.size());
  std::vector<TensorInfo> added;
  std::vector<std::string> clashes;
  for (TensorInfo& tensor : gguf.tensors) {
    if (taken.contains(tensor.name)) {
      clashes.push_back(escape_text(tensor.name));
      continue;
    }
    tensor.part += first_file;
    added.push_back(std::move(tensor));
  }
  std::move(added.begin(), added.end(), std::back_inserter(contents.tensors));
  if (!clashes.empty()) {
    contents.notes.push_back(fmt::format(
        "{} {} in both the safetensors and the GGUF files, those of safetensors are served: '{}'{}",
        clashes.size(), clashes.size() == 1 ? "tensor is" : "tensors are", clashes.front(),
        clashes.size() > 1 ? ", ..." : ""));
  }
  for (const auto& [key, value] : gguf.metadata.entries()) contents.metadata.add(key, value);
  std::move(gguf.files.begin(), gguf.files.end(), std::back_inserter(contents.files));
  std::move(gguf.notes.begin(), gguf.notes.end(), std::back_inserter(contents.notes));
  contents.container += " + GGUF";
  contents.version = gguf.version;
  contents.alignment = std::min(contents.alignment, gguf.alignment);
}

Model open_folder(const fs::path& folder) {
  const FolderContent content = look_into(folder);
  check_one_gguf(folder, content.gguf);
  if (!content.has_safetensors) {
    if (content.gguf.empty()) fail_without_model(folder, content);
    return read_gguf(folder / content.gguf.front());
  }
  Model::Contents contents = read_safetensors_contents(folder);
  if (!content.gguf.empty())
    append_gguf(contents, read_gguf_contents(folder / content.gguf.front()));
  return Model(std::move(contents));
}

bool is_safetensors(const fs::path& path) {
  if (is_safetensors_index_name(path)) return true;
  const MappedFile file(path);
  if (begins_like_gguf(file.bytes())) return false;
  return begins_like_safetensors(file.bytes()) || is_safetensors_name(path);
}

}  // namespace

Model open_model(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    throw InputError(path.string(), "is missing: no such file or folder");
  }
  if (fs::is_directory(status)) return open_folder(path);
  if (is_safetensors(path)) return Model(read_safetensors_contents(path));
  return read_gguf(path);
}

}  // namespace ktjit::model
