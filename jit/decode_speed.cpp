#include "jit/decode_speed.h"

#include <algorithm>

namespace ktjit {
namespace {

constexpr double kGiga = 1e9;
constexpr double kMega = 1e6;

double lane_instructions_per_second(const GpuCard& card) {
  return static_cast<double>(kIssueLanesPerSm) * card.sms * card.boost_mhz * kMega;
}

void add_once(std::vector<FormatId>& formats, FormatId format) {
  if (std::ranges::find(formats, format) == formats.end()) formats.push_back(format);
}

}  // namespace

double attainable_bandwidth(const GpuCard& card) {
  return card.bandwidth_gbps * kGiga * kAttainableFraction;
}

double issue_budget(const GpuCard& card, double bytes) {
  return lane_instructions_per_second(card) / (card.bandwidth_gbps * kGiga) * bytes;
}

std::optional<double> instructions_per_weight(const codegen::Lowering& lowering) {
  const bool known =
      lowering.instructions_per_4 > 0 || lowering.kind == codegen::LoweringKind::kNative;
  if (!known) return std::nullopt;
  constexpr double kMultiplyAdd = 1;
  return lowering.instructions_per_4 / 4.0 + kMultiplyAdd;
}

DecodeSpeed estimate_decode(std::span<const WeightUse> uses, double kv_bytes, const GpuCard& card,
                            const Target& target) {
  DecodeSpeed speed;
  speed.kv_bytes = kv_bytes;
  const double bandwidth = attainable_bandwidth(card);
  speed.seconds = kv_bytes / bandwidth;
  for (const WeightUse& use : uses) {
    if (use.weights <= 0) continue;
    speed.weight_bytes += use.bytes;
    const double read_seconds = use.bytes / bandwidth;
    double seconds = read_seconds;
    const auto cost = !use.prepared && codegen::is_served(use.format)
                          ? instructions_per_weight(codegen::get_lowering(use.format, target))
                          : std::nullopt;
    if (cost) {
      seconds = std::max(seconds, *cost * use.weights / lane_instructions_per_second(card));
      if (seconds > read_seconds) add_once(speed.instruction_bound, use.format);
    } else {
      add_once(speed.unknown_cost, use.format);
    }
    speed.seconds += seconds;
  }
  speed.memory_seconds = (speed.weight_bytes + kv_bytes) / bandwidth;
  if (speed.instruction_bound.empty()) speed.seconds = speed.memory_seconds;  // sums round apart
  return speed;
}

}  // namespace ktjit
