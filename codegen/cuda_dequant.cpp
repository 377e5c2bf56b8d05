// Dequant is bound by memory, of which 4 of 4.5 bytes or 2 of 3 are stores: what counts is that each store of a
// warp fills whole lines, that little is done before the loads, and that they are few (docs/DEQUANT.md).
#include "codegen/cuda_dequant.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kVectorBytes = 16;           // of one lane's load or store
constexpr int kStaticSharedBytes = 49152;  // what a CTA has without asking for more

/// How the threads of a CTA lie on the matrix.
struct Tiling {
  int runs = 1;              ///< that one thread decodes
  int threads_per_row = 1;   ///< side by side
  int rows_per_cta = 1;      ///< more than 1 in short rows only
  int column_tiles = 1;      ///< CTAs side by side in one row
  bool fits = true;          ///< no thread of a row is past its end
  bool w_is_staged = false;  ///< the CTA's blocks go to shared memory first
  bool y_is_staged = false;  ///< the results do, and a thread's runs are neighbours; else they lie
                             ///< threads_per_row runs apart

  int threads() const { return threads_per_row * rows_per_cta; }
  int tile_cols() const { return threads_per_row * runs * kRun; }
};

int y_bytes(const KernelSpec& spec) { return get_format(spec.y_format).block_bytes; }
int run_vectors(const KernelSpec& spec) { return kRun * y_bytes(spec) / kVectorBytes; }

/// Threads that work on the same row, whole warps but in short rows: `wanted`, or up to half of that more or
/// fewer where this leaves fewer threads idle at the row's end. `lanes`: threads that a row has work for.
int choose_threads_per_row(std::int64_t lanes, int wanted, bool is_fixed) {
  if (lanes < kWarpThreads) return static_cast<int>(std::bit_ceil(static_cast<unsigned>(lanes)));
  const auto rounded = [](std::int64_t threads) {
    return ceil_div(threads, kWarpThreads) * kWarpThreads;
  };
  if (is_fixed) return static_cast<int>(std::min<std::int64_t>(wanted, rounded(lanes)));
  std::int64_t best = 0, best_cost = 0;
  for (std::int64_t threads = rounded(wanted / 2); threads <= wanted + wanted / 2;
       threads += kWarpThreads) {
    const std::int64_t idle = ceil_div(lanes, threads) * threads - lanes;
    const std::int64_t cost = idle * 4096 / lanes * 1024 + std::abs(threads - wanted);
    if (best == 0 || cost < best_cost) {
      best = threads;
      best_cost = cost;
    }
  }
  return static_cast<int>(std::min(best, rounded(lanes)));
}

Tiling choose_tiling(const KernelSpec& spec) {
  const Tuning& tuning = spec.tuning;
  const Format& format = get_format(spec.weight);
  const std::int64_t cols = spec.layout.cols;
  const bool is_narrow = spec.y_format != FormatId::kF32;
  constexpr int kDefaultRuns = 2;
  constexpr int kDefaultThreads = 256, kNarrowThreads = 128;  // results of 16 bits

  Tiling tiling;
  tiling.runs = tuning.runs_per_thread == 0 ? kDefaultRuns : tuning.runs_per_thread;
  const int wanted = tuning.threads != 0 ? tuning.threads
                     : is_narrow         ? kNarrowThreads
                                         : kDefaultThreads;
  const std::int64_t lanes = ceil_div(cols, tiling.runs * kRun);
  tiling.threads_per_row = choose_threads_per_row(lanes, wanted, tuning.threads != 0);
  tiling.rows_per_cta = std::max(1, wanted / tiling.threads_per_row);
  tiling.column_tiles = static_cast<int>(ceil_div(lanes, tiling.threads_per_row));
  tiling.fits = std::int64_t{tiling.column_tiles} * tiling.tile_cols() == cols;

  const bool has_warps = tiling.threads_per_row % kWarpThreads == 0;
  const bool can_stage_y =
      has_warps && rows_allow_vectors(spec.y_format, spec.layout) && !has_tail(spec);
  const bool has_whole_vectors = tiling.tile_cols() % format.block_elems == 0 &&
                                 row_bytes(format, tiling.tile_cols()) % kVectorBytes == 0;
  const bool can_stage_w = has_warps && tiling.rows_per_cta == 1 && format.block_elems > 1 &&
                           rows_allow_vectors(spec.weight, spec.layout) && has_whole_vectors;
  if (tuning.y_path == DataPath::kShared && !can_stage_y) {
    throw SpecError("y_path", "shared",
                    "direct where a row is shorter than a warp's part, or no multiple of 16 bytes");
  }
  if (tuning.w_path == DataPath::kShared && !can_stage_w) {
    throw SpecError("w_path", "shared",
                    "direct where w has no blocks, or a CTA's part of a row, or a row, is no "
                    "multiple of 16 bytes");
  }
  tiling.y_is_staged = tuning.y_path == DataPath::kDefault ? can_stage_y && !is_narrow
                                                           : tuning.y_path == DataPath::kShared;
  tiling.w_is_staged = tuning.w_path == DataPath::kShared;
  const std::int64_t staged_bytes =
      (tiling.y_is_staged ? std::int64_t{tiling.threads()} * tiling.runs * kRun * y_bytes(spec)
                          : 0) +
      (tiling.w_is_staged ? row_bytes(format, tiling.tile_cols()) : 0);
  if (staged_bytes > kStaticSharedBytes) {
    throw SpecError("runs_per_thread", fmt::format("{}", tiling.runs),
                    fmt::format("fewer with {} threads: {} bytes of shared memory, at most {}",
                                tiling.threads(), staged_bytes, kStaticSharedBytes));
  }
  return tiling;
}

/// Statements that copy the blocks of this CTA to `staged`, all threads together.
std::string stage_statements(const Tiling& tiling) {
  return fmt::format(
      "  const unsigned char* const blocks = w + row * kRowBytes + tile * kTileBytes;\n"
      "#pragma unroll\n"
      "  for (unsigned i = 0; i < (kTileVectors + kThreads - 1) / kThreads; ++i) {{\n"
      "    const unsigned at = i * kThreads + threadIdx.x;\n"
      "    if (at < {}) staged[at] = ((const Words4*)blocks)[at];\n"
      "  }} // i: vectors of this thread\n"
      "  __syncthreads();\n\n",
      tiling.fits ? "kTileVectors"
                  : "min_of(kTileVectors, (kRowBytes - (long long)tile * kTileBytes) / 16)");
}

/// Statements that store the runs from `value`, each by the thread that decoded it.
std::string direct_store(const KernelSpec& spec, const Tiling& tiling) {
  const std::string_view y_name = get_format(spec.y_format).name;
  const std::string store =
      !has_tail(spec)
          ? fmt::format("store_run_{}(y + row * kCols + col, value[r]);", y_name)
          : fmt::format(
                "if (col + kRun <= kCols) {{\n"
                "  store_run_{}(y + row * kCols + col, value[r]);\n"
                "}} else {{\n"
                "#pragma unroll\n"
                "  for (int i = 0; i < kRun; ++i) {{\n"
                "    if (col + i < kCols) store_element(y + row * kCols + col + i, value[r][i]);\n"
                "  }} // i: elements\n"
                "}}",
                y_name);
  return fmt::format(
      "#pragma unroll\n"
      "  for (int r = 0; r < kRuns; ++r) {{\n"
      "    const int col = first_col + r * kRunDistance;\n"
      "{}    {}\n"
      "  }} // r: runs of this thread\n",
      tiling.fits ? "" : "    if (col >= kCols) break;\n", indented(store, 4));
}

/// Statements that store the runs by way of `tile`, each store of a warp 512 bytes side by side.
std::string staged_store(const Tiling& tiling) {
  return fmt::format(
      "  Words4 (&vectors)[kWarpThreads * kLaneVectors] = tiles[threadIdx.x / kWarpThreads];\n"
      "#pragma unroll\n"
      "  for (int r = 0; r < kRuns; ++r) {{\n"
      "    Words4 packed[kRunVectors];\n"
      "    pack_run(value[r], packed);\n"
      "#pragma unroll\n"
      "    for (int v = 0; v < kRunVectors; ++v) {{\n"
      "      vectors[own_vector(lane, r * kRunVectors + v)] = packed[v];\n"
      "    }} // v: vectors of 16 bytes\n"
      "  }} // r: runs of this thread\n"
      "  __syncwarp();\n"
      "#pragma unroll\n"
      "  for (unsigned v = 0; v < kLaneVectors; ++v) {{\n"
      "    const unsigned col = warp_col + (v * kWarpThreads + lane) * kVectorElems;\n"
      "    {}stream_16_bytes(y + row * kCols + col, vectors[neighbour_vector(lane, v)]);\n"
      "  }} // v: vectors of 16 bytes\n",
      tiling.fits ? "" : "if (col < kCols) ");
}

std::vector<Constant> tiling_constants(const KernelSpec& spec, const Tiling& tiling) {
  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  std::vector<Constant> constants = {
      {"kThreads", number(tiling.threads()), "threads per CTA"},
      {"kThreadsPerRow", number(tiling.threads_per_row), "threads side by side in one row"},
      {"kColumnTiles", number(tiling.column_tiles), "CTAs side by side in one row"},
      {"kRuns", number(tiling.runs), "runs of one thread"}};
  if (tiling.rows_per_cta > 1)
    constants.push_back({"kRowsPerCta", "kThreads / kThreadsPerRow", ""});
  if (tiling.w_is_staged) {
    constants.push_back({"kTileCols", "kThreadsPerRow * kRuns * kRun", "columns of one CTA"});
    constants.push_back({"kTileBytes",
                         number(row_bytes(get_format(spec.weight), tiling.tile_cols())),
                         "bytes of their blocks"});
    constants.push_back({"kTileVectors", "kTileBytes / 16", ""});
  }
  if (tiling.y_is_staged) {
    constants.push_back({"kWarpThreads", number(kWarpThreads), "threads of one warp"});
    constants.push_back({"kWarpCols", "kWarpThreads * kRuns * kRun", "columns of one warp"});
    constants.push_back(
        {"kRunVectors", number(run_vectors(spec)), "vectors of 16 bytes in a run of y"});
    constants.push_back({"kVectorElems", "kRun / kRunVectors", "elements in one of them"});
    constants.push_back({"kLaneVectors", "kRuns * kRunVectors", ""});
  } else {
    constants.push_back(
        {"kRunDistance", "kThreadsPerRow * kRun", "columns between the runs of a thread"});
  }
  return constants;
}

/// Where this thread works: `row` and `first_col`, and for staged results `warp_col` and `lane`.
std::string place_statements(const Tiling& tiling) {
  const bool is_one_row = tiling.rows_per_cta == 1;
  std::string text = is_one_row ? "  const long long row = blockIdx.x / kColumnTiles;\n"
                                : "  const long long row =\n"
                                  "      (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta + "
                                  "threadIdx.x / kThreadsPerRow;\n";
  text += "  const unsigned tile = blockIdx.x % kColumnTiles;\n";
  text += fmt::format("  const unsigned thread = threadIdx.x{};\n",
                      is_one_row ? "" : " % kThreadsPerRow");
  if (tiling.y_is_staged) {
    text +=
        "  const unsigned lane = thread % kWarpThreads;\n"
        "  const unsigned warp_col =\n"
        "      (tile * (kThreadsPerRow / kWarpThreads) + thread / kWarpThreads) * kWarpCols;\n"
        "  const int first_col = (int)(warp_col + lane * (kRuns * kRun));\n";
  } else {
    text += "  const int first_col = (int)((tile * kThreadsPerRow * kRuns + thread) * kRun);\n";
  }
  text += "  __builtin_assume(first_col >= 0); // so that divisions by powers of two are shifts\n";
  if (!is_one_row) text += "  if (row >= rows) return;\n";
  return text + "\n";
}

}  // namespace

EmittedKernel emit_dequant(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view y_name = get_format(spec.y_format).name;
  const Tiling tiling = choose_tiling(spec);
  const LaunchShape shape{tiling.rows_per_cta, static_cast<unsigned>(tiling.column_tiles),
                          static_cast<unsigned>(tiling.threads()), 0};

  std::vector<std::string> names = decode_fragments(spec);
  if (tiling.y_is_staged) {
    names.insert(names.end(), {fmt::format("pack_run_{}", y_name), "own_vector", "neighbour_vector",
                               "stream_16_bytes"});
  } else {
    names.push_back(fmt::format("store_run_{}", y_name));
    if (has_tail(spec)) names.push_back(fmt::format("store_element_{}", y_name));
  }
  if (tiling.w_is_staged) {
    names.push_back("Words4");
    if (!tiling.fits) names.push_back("min_of");
  }

  TemplateValues values = header_values(spec);
  add_common_values(spec, lowering, values);
  add_wait(spec, values, names);
  values["y_name"] = y_name;
  values["y_type"] = io_type(spec.y_format);
  values["threads"] = fmt::format("{}", tiling.threads());
  values["rows_per_cta"] = fmt::format("{}", shape.rows_per_cta);
  values["column_tiles"] = fmt::format("{}", shape.column_tiles);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  for (Constant& constant : tiling_constants(spec, tiling))
    constants.push_back(std::move(constant));
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants_for(spec, lowering));

  values["shared_memory"] = "";
  if (tiling.w_is_staged)
    values["shared_memory"] += "  __shared__ Words4 staged[kTileVectors]; // w of this CTA\n";
  if (tiling.y_is_staged) {
    values["shared_memory"] +=
        "  __shared__ Words4 tiles[kThreads / kWarpThreads][kWarpThreads * kLaneVectors]; // y of "
        "each warp\n";
  }
  values["place"] = place_statements(tiling);
  values["stage"] = tiling.w_is_staged ? stage_statements(tiling) : "";
  // Neighbours in a block of ggml's share what its first column says: see the head of decode_ggml.cuh.in.
  const bool shares_blocks =
      tiling.y_is_staged && get_format(spec.weight).family == FormatFamily::kGgml;
  const std::string_view distance = tiling.y_is_staged ? "kRun" : "kRunDistance";
  values["col"] =
      shares_blocks ? "" : fmt::format("    const int col = first_col + r * {};\n", distance);
  const std::string_view col = shares_blocks ? "first_col" : "col";
  values["guard"] = tiling.fits ? "" : fmt::format("    if ({} >= kCols) break;\n", col);
  std::string decode = decode_statements(spec, "w + row * kRowBytes", "value[r]");
  if (shares_blocks || tiling.w_is_staged) {
    decode = fmt::format(
        "decode_run({}, {}{}, value[r]{});",
        tiling.w_is_staged ? "(const unsigned char*)staged" : "w + row * kRowBytes", col,
        tiling.w_is_staged ? " - (int)tile * kTileCols" : "", shares_blocks ? ", r * kRun" : "");
  }
  values["decode"] = indented(decode, 4);
  values["apply_scale"] = apply_scale_statements(spec, "row", "value[r]", 4);
  values["store"] = tiling.y_is_staged ? staged_store(tiling) : direct_store(spec, tiling);
  return {fill_template(get_template("cuda/dequant.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

}  // namespace ktjit::codegen
