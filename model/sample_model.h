// A small model of our own making, for samples, tests and a first run without a download.
#pragma once

#include <filesystem>

namespace ktjit::model {

/// Writes a llama-like GGUF model of five layers, about 2.3 MB, the same bytes at every call.
/// Weights are noise with a standard deviation of about 1 / sqrt(columns), in f32, f16, bf16 and the
/// block formats of make_sample_weights. It says nothing: it has a vocabulary of placeholders. Small
/// tensors beside it have the formats that no weights of a llama have: f64, integers, q8_1, q8_K.
///
/// Errors: OutputError if the file can't be written.
void write_sample_model(const std::filesystem::path& path);

}  // namespace ktjit::model
