// The hyperparameters of a model between config.json and a GGUF file's metadata.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "convert/tensor_names.h"

#include "core/format.h"
#include "model/metadata.h"
#include "model/model.h"

namespace ktjit::convert {

/// How the linears of an output are quantised, for config.json.
struct QuantizationFacts {
  std::optional<WeightFormat> format;      ///< of the quantised ones; nothing: none is
  std::vector<std::string> not_converted;  ///< modules ("lm_head") whose weight is no such tensor
  bool is_as_before = false;  ///< all scaled tensors are the input's: its own words stay
};

/// config.json for the output: the input's own beside its files, else one made of a GGUF file's metadata if the
/// architecture is known; with a quantization_config that says what was done. Empty if there is nothing to say.
/// `floats` is the format of most of the output's weights that aren't quantised. What config.json has no words for
/// becomes a note, or an error if the output is for Hugging Face's readers.
/// Errors: InputError if the input's can't be read, or can't be said.
std::string make_config(const model::Model& input, const QuantizationFacts& facts, FormatId floats,
                        bool is_for_readers, std::vector<std::string>& notes);

/// Metadata of a GGUF file: the input's own, without what is said of its parts; or made of config.json.
/// `file_format` is that of most weights. Errors: InputError for an unknown architecture.
model::Metadata make_metadata(const model::Model& input, FormatId file_format);

}  // namespace ktjit::convert
