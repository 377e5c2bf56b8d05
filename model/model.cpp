#include "model/model.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

/// Levenshtein's: insertions, deletions and substitutions that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

std::vector<std::string> close_names(const std::vector<TensorInfo>& tensors,
                                     std::string_view name) {
  constexpr std::size_t kMostNames = 4;
  constexpr std::size_t kLongestName = 256;  // the search is quadratic in the length
  const std::string_view wanted = name.substr(0, kLongestName);
  std::vector<std::pair<std::size_t, const std::string*>> ranked;
  for (const TensorInfo& tensor : tensors) {
    const auto known = std::string_view(tensor.name).substr(0, kLongestName);
    // A name typed in part ("attn_q") is as good a hint as a small slip.
    const bool contains = !wanted.empty() && known.find(wanted) != std::string_view::npos;
    const std::size_t distance = contains ? 0 : edit_distance(wanted, known);
    if (distance <= wanted.size() / 3 + 1) ranked.emplace_back(distance, &tensor.name);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (const auto& [distance, known] : ranked) {
    if (names.size() == kMostNames) break;
    names.push_back(fmt::format("'{}'", escape_text(*known)));
  }
  return names;
}

}  // namespace

std::string shape_to_text(const TensorInfo& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.ne.begin(), tensor.ne.begin() + tensor.n_dims, ", "));
}

std::uint64_t row_bytes(FormatId id, std::int64_t cols) {
  const Format& format = get_format(id);
  KTJIT_CHECK(cols >= 0 && cols % format.block_elems == 0);
  return static_cast<std::uint64_t>(cols / format.block_elems) *
         static_cast<std::uint64_t>(format.block_bytes);
}

Model::Model(Contents contents) : contents_(std::move(contents)) {
  for (std::size_t i = 0; i < contents_.tensors.size(); ++i) {
    const bool is_new = index_.try_emplace(contents_.tensors[i].name, i).second;
    KTJIT_CHECK(is_new);
  }
}

std::vector<std::filesystem::path> Model::files() const {
  std::vector<std::filesystem::path> paths;
  for (const MappedFile& file : contents_.files) paths.push_back(file.path());
  return paths;
}

std::uint64_t Model::file_bytes() const {
  std::uint64_t sum = 0;
  for (const MappedFile& file : contents_.files) sum += file.size();
  return sum;
}

const TensorInfo* Model::find_tensor(std::string_view name) const {
  const auto at = index_.find(name);
  return at == index_.end() ? nullptr : &contents_.tensors[at->second];
}

const TensorInfo& Model::get_tensor(std::string_view name) const {
  if (const TensorInfo* tensor = find_tensor(name)) return *tensor;
  const std::string where =
      contents_.files.empty() ? "model" : contents_.files.front().path().string();
  const std::vector<std::string> close = close_names(contents_.tensors, name);
  const std::string hint =
      close.empty() ? fmt::format("none of its {} tensors has a name like it", tensors().size())
                    : fmt::format("close names: {}", fmt::join(close, ", "));
  throw InputError(where, fmt::format("has no tensor '{}'; {}", escape_text(name), hint));
}

}  // namespace ktjit::model
