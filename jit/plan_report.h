// What `ktjit plan` says about a model on a target and a card: kernels, memory, speed, a verdict in
// words, and what else the user could choose. Values only: the command line prints them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jit/conversion_error.h"
#include "jit/decode_speed.h"
#include "jit/gpu_cards.h"
#include "jit/model_shape.h"
#include "jit/planner.h"

namespace ktjit {

/// Memory set aside on a GPU for the driver's context and loaded kernels: an assumption, contexts of
/// 300 to 600 MB are usual.
constexpr std::uint64_t kDriverBytes = std::uint64_t{512} << 20;

/// Tokens of a prompt that are taken at once, for the size of activations.
constexpr std::uint64_t kPromptChunk = 512;

/// What one model needs, whatever the target. Made once, used for every target.
struct ModelFacts {
  /// `measure_errors`: false if the tensors' values mean nothing.
  /// The model must outlive this.
  ModelFacts(const model::Model& opened, bool measure_errors);

  const model::Model& subject;
  ModelShape shape;
  std::vector<TensorRole> roles;   ///< of each tensor, in the model's order
  std::uint64_t weight_bytes = 0;  ///< codes and the scales inside of them
  std::uint64_t scale_bytes = 0;   ///< scales in tensors of their own
  std::uint64_t expert_bytes = 0;  ///< of these two, what routed experts take
  /// In and out of the widest product for a chunk of the prompt, twice, and one token's logits, in
  /// f32; 0 for what is no language model.
  std::uint64_t activation_bytes = 0;
  std::vector<ConversionError> errors;  ///< of fp8_alternatives(); empty without FP8 tensors

  /// The share of each tensor that a decoded token reads. Nothing if the model has routed experts and
  /// doesn't tell how many are used.
  std::optional<std::vector<double>> shares_read() const;
  /// Whether tokens are what the model makes: it has layers.
  bool is_language_model() const { return shape.layers.has_value(); }
};

/// How the card of a plan came to be.
enum class CardOrigin { kNamed, kAssumed, kDevice };

/// One place to plan for.
struct PlanPlace {
  Target target;
  const GpuCard* card = nullptr;  ///< nothing for CPUs and cards that are not known
  CardOrigin origin = CardOrigin::kAssumed;
  std::optional<std::uint64_t> available_bytes;  ///< memory to fit in
  std::int64_t context = 0;                      ///< tokens
};

/// Device memory, each part in bytes.
struct MemoryNeed {
  std::uint64_t weights = 0;
  std::uint64_t scales = 0;
  std::uint64_t prepared_extra = 0;       ///< by what prepared weights are larger than the file's
  std::optional<std::uint64_t> kv_cache;  ///< nothing if the model doesn't tell
  std::uint64_t activations = 0;
  std::uint64_t driver = 0;
  std::optional<std::uint64_t> available;

  std::uint64_t total() const {
    return weights + scales + prepared_extra + kv_cache.value_or(0) + activations + driver;
  }
  std::optional<bool> fits() const {
    if (!available) return std::nullopt;
    return total() <= *available;
  }
};

/// What a format costs on the card.
struct FormatCost {
  FormatId format = FormatId::kF32;
  double bytes_per_weight = 0;  ///< with its scales
  /// Conversion and multiply-add; nothing: unknown, as of prepared weights, which are multiplied as integers.
  std::optional<double> instructions_per_weight;
  std::optional<double> budget_per_weight;  ///< what the card issues meanwhile; nothing: no card
  /// How many times longer converting takes than reading, if both are known and it does.
  std::optional<double> times_slower() const;
};

/// Routed experts in host memory, the rest on the GPU, as KTransformers does.
struct ExpertsOnCpu {
  std::uint64_t device_bytes = 0;  ///< all that stays
  std::uint64_t host_bytes = 0;
  std::optional<bool> fits;
  std::optional<double> host_bytes_per_token;  ///< nothing if the number of used experts is unknown
};

/// The model with its FP8 tensors in another format, or as it is.
struct Alternative {
  FormatId format = FormatId::kF32;
  bool kept = false;               ///< nothing is converted
  std::uint64_t unconverted = 0;   ///< FP8 tensors that can't have the format
  std::uint64_t memory_bytes = 0;  ///< of everything, as MemoryNeed::total
  std::optional<bool> fits;
  std::optional<double> seconds;  ///< for a token, or one product; nothing if not known
  std::optional<double> tokens_per_second;
  std::optional<double> rms_error;  ///< 0 if kept; nothing if it could not be measured
  std::optional<double> max_error;
  std::string note;  ///< one clause on what is gained or lost
};

/// Everything that is said about one place.
struct PlanReport {
  Plan plan;
  PlanPlace place;
  MemoryNeed memory;
  std::vector<FormatCost> costs;  ///< one per format, in the order of the groups
  std::optional<DecodeSpeed> speed;
  std::optional<double> tokens_per_second;        ///< as the bandwidth allows
  std::optional<double> tokens_per_second_bound;  ///< with formats that are slow to convert
  std::string no_speed_reason;                    ///< why there are none
  std::optional<ExpertsOnCpu> experts_on_cpu;     ///< of models that have routed experts
  std::vector<Alternative> alternatives;          ///< empty without FP8 tensors
  TargetVerdict verdict;
};

/// Errors: as make_plan.
PlanReport make_report(const ModelFacts& facts, const PlanPlace& place,
                       LayoutKind matvec_layout = LayoutKind::kNative);

/// The tensors of a model that rules leave on one device.
struct PlanPart {
  std::vector<PlannedTensor> tensors;  ///< of ModelFacts::subject
  bool is_whole = true;                ///< else others are elsewhere, and nothing is said of speed
  /// Whether keys, values and activations are kept here.
  bool has_cache = true;
};

/// What is said about that part; without alternatives, since the rules have chosen.
/// Errors: as make_plan.
PlanReport make_report(const ModelFacts& facts, const PlanPlace& place, const PlanPart& part);

/// Whether FP8 formats of the plan have no conversion in hardware there.
bool converts_fp8_in_software(const Plan& plan);

}  // namespace ktjit
