// A small checkpoint shaped as DeepSeek-V3 is, for samples, tests and a first run without a
// download.
#pragma once

#include <filesystem>
#include <string_view>

namespace ktjit::model {

enum class SampleKind {
  kDeepseekFp8,  ///< as published: FP8 with 128 x 128 scales, shards, an index, config.json
  kHybrid,       ///< as KTransformers' merge script writes: GGUF names, experts as ggml's bytes, a
                 ///< shard a layer, nothing but shards
  kMixed,        ///< the published files without the routed experts, and those as GGUF beside them
};

/// "deepseek-fp8", "hybrid", "mixed".
std::string_view sample_kind_name(SampleKind kind);
/// Errors: SpecError with the known names.
SampleKind get_sample_kind(std::string_view name);

/// Writes the checkpoint into `folder`, which is made if it isn't there and must be empty: two
/// layers (one dense, one with four routed experts and a shared one) with multi-head latent
/// attention, 5 to 6 MB, the same bytes at every call. Weights are noise with a standard deviation
/// of about 1 / sqrt(columns). Several matrices end in the middle of a scale block. Routed experts
/// are q4_K and q6_K where they are ggml's.
///
/// Errors: OutputError if it can't be written or the folder isn't empty.
void write_sample_checkpoint(const std::filesystem::path& folder, SampleKind kind);

}  // namespace ktjit::model
