// Names of artefact kinds and the grid of a launch.
#include "core/artifact.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace ktjit {

std::string_view artifact_kind_name(ArtifactKind kind) {
  switch (kind) {
    case ArtifactKind::kCubin:
      return "cubin";
    case ArtifactKind::kPtx:
      return "ptx";
    case ArtifactKind::kSharedObject:
      return "shared object";
    case ArtifactKind::kSimulatorObject:
      return "simulator object";
    case ArtifactKind::kAssembly:
      return "assembly";
    case ArtifactKind::kLlvmIr:
      return "llvm ir";
  }
  KTJIT_UNREACHABLE("a known artefact kind");
}

LaunchGrid grid_for(const LaunchShape& shape, std::int64_t rows, std::int64_t n) {
  return grid_for(shape, std::span(&rows, 1), n);
}

LaunchGrid grid_for(const LaunchShape& shape, std::span<const std::int64_t> rows, std::int64_t n) {
  constexpr std::int64_t kMaxGridX =
      2147483647;  // CUDA C++ Programming Guide: x dimension of a grid
  KTJIT_CHECK(shape.rows_per_cta > 0 && !rows.empty());
  const std::int64_t most = kMaxGridX / shape.column_tiles;
  std::int64_t all_row_ctas = 0;
  for (const std::int64_t count : rows) {
    const std::int64_t row_ctas = count <= 0 ? 0 : (count - 1) / shape.rows_per_cta + 1;
    if (row_ctas < 1 || row_ctas > most - all_row_ctas) {
      throw SpecError("rows", fmt::format("{}", fmt::join(rows, " + ")),
                      fmt::format("1 to {} x {}", most, shape.rows_per_cta));
    }
    all_row_ctas += row_ctas;
  }
  const std::int64_t ctas = all_row_ctas * shape.column_tiles;
  LaunchGrid grid{static_cast<unsigned>(ctas),
                  1,
                  shape.threads,
                  shape.smem_bytes,
                  shape.dependent_launch,
                  shape.ctas_per_multiprocessor,
                  shape.tensor_maps};
  if (shape.x_rows_per_cta == 0) return grid;
  constexpr std::int64_t kMaxGridY = 65535;
  const std::int64_t x_ctas = n <= 0 ? 0 : (n - 1) / shape.x_rows_per_cta + 1;
  if (x_ctas < 1 || x_ctas > kMaxGridY) {
    throw SpecError("n", fmt::format("{}", n),
                    fmt::format("1 to {} x {}", kMaxGridY, shape.x_rows_per_cta));
  }
  if (!shape.is_flat) {
    grid.y = static_cast<unsigned>(x_ctas);
    return grid;
  }
  if (ctas > kMaxGridX / x_ctas) {
    throw SpecError("n", fmt::format("{}", n),
                    fmt::format("at most {} tiles of {} x {}", kMaxGridX, shape.rows_per_cta,
                                shape.x_rows_per_cta));
  }
  grid.x = static_cast<unsigned>(ctas * x_ctas);
  return grid;
}

unsigned LaunchGrid::limited_x(unsigned multiprocessors) const {
  if (ctas_per_multiprocessor == 0) return x;
  return std::min(x, std::max(ctas_per_multiprocessor * multiprocessors / y, 1u));
}

}  // namespace ktjit
