// Models made in memory: tensors with bytes, or with an extent only.
#pragma once

#include <deque>
#include <string>
#include <sys/mman.h>
#include <utility>
#include <vector>

#include "core/error.h"
#include "model/model.h"

namespace ktjit::test {

class MadeModel {
 public:
  MadeModel() { contents_.container = "made"; }
  ~MadeModel() {
    for (const auto& [pages, bytes] : pages_) ::munmap(pages, bytes);
  }
  MadeModel(const MadeModel&) = delete;
  MadeModel& operator=(const MadeModel&) = delete;

  void set(std::string key, model::MetadataValue value) {
    KTJIT_CHECK(contents_.metadata.add(std::move(key), std::move(value)));
  }

  /// A matrix [rows, cols] of zeros that takes no memory; `copies` > 1 makes it [copies, rows, cols].
  model::TensorInfo& add(std::string name, FormatId format, std::int64_t rows, std::int64_t cols,
                         std::int64_t copies = 1) {
    model::TensorInfo tensor;
    tensor.name = std::move(name);
    tensor.format = format;
    tensor.ne = {cols, rows, copies, 1};
    tensor.n_dims = copies > 1 ? 3 : rows > 1 ? 2 : 1;
    tensor.data = zeros(static_cast<std::size_t>(rows * copies) * model::row_bytes(format, cols));
    return contents_.tensors.emplace_back(std::move(tensor));
  }

  /// An FP8 matrix with its scales.
  model::TensorInfo& add_fp8(std::string name, FormatId format, std::int64_t rows,
                             std::int64_t cols, const ScaleGrid& grid) {
    model::TensorInfo& tensor = add(std::move(name), format, rows, cols);
    tensor.scale_grid = grid;
    tensor.scale_data = zeros(static_cast<std::size_t>(grid.plane_bytes(rows, cols)));
    return tensor;
  }

  /// Bytes that live as long as this.
  std::span<const std::byte> keep(std::vector<std::byte> bytes) {
    return kept_.emplace_back(std::move(bytes));
  }

  /// Once, last.
  model::Model make() { return model::Model(std::move(contents_)); }

 private:
  std::span<const std::byte> zeros(std::size_t bytes) {
    if (bytes == 0) return {};
    void* pages =
        ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    KTJIT_CHECK(pages != MAP_FAILED);
    pages_.emplace_back(pages, bytes);
    return {static_cast<const std::byte*>(pages), bytes};
  }

  model::Model::Contents contents_{};
  std::vector<std::pair<void*, std::size_t>> pages_;
  std::deque<std::vector<std::byte>> kept_;
};

}  // namespace ktjit::test
