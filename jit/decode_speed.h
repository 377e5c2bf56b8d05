// How fast a card can decode, batch 1: each token reads the weights it touches once and issues the
// instructions of their lowering once. An estimate from data sheets and counts; nothing runs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "codegen/lowering.h"
#include "core/format.h"
#include "jit/gpu_cards.h"
#include "model/model.h"

namespace ktjit {

/// The part of a data sheet's bandwidth that a kernel which only reads reaches. H200, our read test:
/// 4340 to 4430 of 4800 GB/s (docs/STATUS.md); others report 83 % of an A100's, 95 % of an RTX 4090's.
constexpr double kAttainableFraction = 0.9;

/// Lanes for which a multiprocessor issues an instruction in a clock: four schedulers, 32 lanes each
/// (on sm_60, two that issue two). Integer instructions run at half of this on some architectures.
constexpr int kIssueLanesPerSm = 128;

/// Bytes a second that kernels get from the card's memory.
double attainable_bandwidth(const GpuCard& card);

/// Lane-instructions that the card issues while its memory, at the data sheet's rate, delivers the
/// bytes. Formula: 128 lanes * SMs * clock / bandwidth * bytes.
double issue_budget(const GpuCard& card, double bytes);

/// Instructions that one weight of a matrix-vector product costs: its conversion to f32 and one
/// multiply-add; loads not counted. Nothing if the lowering's count is unknown. For CUDA targets.
std::optional<double> instructions_per_weight(const codegen::Lowering& lowering);

/// Weights of one format that a token reads.
struct WeightUse {
  FormatId format = FormatId::kF32;
  double weights = 0;  ///< elements read
  double bytes = 0;    ///< of them and their scales
  /// In LayoutKind::kPrepared: multiplied as integers, at a cost that is not known here.
  bool prepared = false;
};

struct DecodeSpeed {
  double weight_bytes = 0;    ///< read for one token
  double kv_bytes = 0;        ///< read for one token
  double memory_seconds = 0;  ///< for all of these bytes at the attainable bandwidth
  /// With the formats that take longer to convert than to read. Formats of unknown cost count as if
  /// they were read only.
  double seconds = 0;
  std::vector<FormatId> instruction_bound;
  std::vector<FormatId> unknown_cost;
};

/// Shapes: one entry of `uses` may stand for many tensors. kv_bytes: keys and values at the context.
DecodeSpeed estimate_decode(std::span<const WeightUse> uses, double kv_bytes, const GpuCard& card,
                            const Target& target);

}  // namespace ktjit
