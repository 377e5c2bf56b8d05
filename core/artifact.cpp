// Names of artefact kinds and the grid of a launch.
#include "core/artifact.h"

#include <fmt/format.h>

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
  constexpr std::int64_t kMaxGridX =
      2147483647;  // CUDA C++ Programming Guide: x dimension of a grid
  KTJIT_CHECK(shape.rows_per_cta > 0);
  const std::int64_t row_ctas = rows <= 0 ? 0 : (rows - 1) / shape.rows_per_cta + 1;
  const std::int64_t most = kMaxGridX / shape.column_tiles;
  if (row_ctas < 1 || row_ctas > most) {
    throw SpecError("rows", fmt::format("{}", rows),
                    fmt::format("1 to {} x {}", most, shape.rows_per_cta));
  }
  const std::int64_t ctas = row_ctas * shape.column_tiles;
  LaunchGrid grid{static_cast<unsigned>(ctas), 1, shape.threads, shape.smem_bytes,
                  shape.dependent_launch};
  if (shape.x_rows_per_cta == 0) return grid;
  constexpr std::int64_t kMaxGridY = 65535;
  const std::int64_t x_ctas = n <= 0 ? 0 : (n - 1) / shape.x_rows_per_cta + 1;
  if (x_ctas < 1 || x_ctas > kMaxGridY) {
    throw SpecError("n", fmt::format("{}", n),
                    fmt::format("1 to {} x {}", kMaxGridY, shape.x_rows_per_cta));
  }
  grid.y = static_cast<unsigned>(x_ctas);
  return grid;
}

}  // namespace ktjit
