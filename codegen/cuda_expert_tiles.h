// Where a skeleton of matmul has its tile of y from: the block's index, or, with experts, ids on the device, tile after
// tile. Also what a gate, whose two matrices share a tile, changes in such texts.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/source_writer.h"
#include "core/artifact.h"
#include "core/kernel_spec.h"
#include "core/launch_order.h"

namespace ktjit::codegen {

/// A CTA's tile, as the skeletons name it.
struct TileOfY {
  int w_rows = 0;      ///< rows of w, with a gate of both matrices
  int x_rows = 0;      ///< rows of x
  int threads = 0;     ///< of the CTA
  std::string x_type;  ///< of the elements that x points to in the text
  std::string
      weight_stride;  ///< bytes from an expert's weights to the next one's, in the text's words
  /// The declaration of where the tile begins: "first_row", or "first_tile" in 16 rows.
  bool counts_unit_rows = false;
  unsigned smem_bytes = 0;  ///< dynamic shared memory
  int ctas = 1;             ///< with experts: that share a multiprocessor
};

/// Rows of y that a tile has: half of the rows of w with a gate.
std::int64_t y_rows_of_tile(const KernelSpec& spec, int w_rows);

/// The launch of such tiles: one a CTA, or with experts CTAs that go on to others.
LaunchShape tiles_launch(const KernelSpec& spec, const TileOfY& tile);

/// Static shared memory that choosing tiles by experts takes.
std::int64_t expert_tiles_smem_bytes(int x_rows, int threads);

/// The kernel's parameters, one a line.
std::string tile_parameters(const KernelSpec& spec, const TileOfY& tile);

/// Lines, moved right by `spaces`, that move the pointers of these roles on from expert `expert` to the one that `to` names.
std::string move_to_expert(const KernelSpec& spec, std::initializer_list<ArgumentRole> roles,
                           const std::string& to, const std::string& weight_stride, int spaces);

/// What the pieces that look for tiles use. `threads`: how many do.
void add_expert_constants(const KernelSpec& spec, const TileOfY& tile, const std::string& threads,
                          std::vector<Constant>& constants);

constexpr int kUnitRowsOfTile = 16;  ///< rows of w of a warp's tile

/// Sets "tensor_descriptions", "parameters", "grid", "begin_tiles" and "end_tiles" of a skeleton; constants and pieces
/// that those use.
void add_tile_values(const KernelSpec& spec, const TileOfY& tile, TemplateValues& values,
                     std::vector<Constant>& constants, FragmentVariants& variants,
                     std::vector<std::string>& names);

/// The text of a tile, as far in as the skeleton has it.
std::string placed_tile(const KernelSpec& spec, const std::string& text);

/// The row of x behind the tile's row `row`; past the last one, that again.
std::string x_row_of_tile(const KernelSpec& spec, const std::string& row);
/// What of the text stores a tile: `first_x` before the number of a row of x in the tile, `last_x` that it is below, the
/// `type` of such a number, and `y_row`, the row of y of the one that is named `row`.
struct StoredRows {
  std::string first_x, last_x, type, y_row;
};
StoredRows stored_rows(const KernelSpec& spec, const std::string& row);

/// With a gate: lines, moved right by `spaces`, that name the matrix `w` and its `scale`, where `is_up` says which; else "".
std::string select_gate_matrix(const KernelSpec& spec, const std::string& is_up, int spaces);

/// What is stored of `total`, or of `gate` and `up` with a gate, where the text has the row's number `row`; with their
/// bias. `names` gets the pieces that it calls.
std::string product_result(const KernelSpec& spec, const std::string& total, const std::string& row,
                           std::vector<std::string>& names);

}  // namespace ktjit::codegen
