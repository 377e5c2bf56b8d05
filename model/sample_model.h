// A small model of our own making, for samples, tests and a first run without a download.
#pragma once

#include <filesystem>

namespace ktjit::model {

/// Writes a llama-like GGUF model of three layers, about 1.6 MB, the same bytes at every call.
/// Weights are noise with a standard deviation of about 1 / sqrt(columns), in f32, f16, bf16, q8_0,
/// q4_0, q4_K, q5_K, q6_K, iq4_xs, ggml_mxfp4 and, in the third layer, the IQ1, IQ2 and IQ3 formats. It
/// says nothing: it has a vocabulary of placeholders.
///
/// Errors: OutputError if the file can't be written.
void write_sample_model(const std::filesystem::path& path);

}  // namespace ktjit::model
