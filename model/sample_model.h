// A small model of our own making, for samples, tests and a first run without a download.
#pragma once

#include <filesystem>

namespace ktjit::model {

/// Writes a llama-like GGUF model of two layers, about 1.5 MB, the same bytes at every call.
/// Weights are noise with a standard deviation of about 1 / sqrt(columns), in f32, f16, bf16, q8_0,
/// q4_0, q4_K, q5_K, q6_K, iq4_xs and ggml_mxfp4. It says nothing: it has a vocabulary of
/// placeholders.
///
/// Errors: OutputError if the file can't be written.
void write_sample_model(const std::filesystem::path& path);

}  // namespace ktjit::model
