// How a model's rotary positions are stretched beyond what it was trained on: GGUF's words and config.json's.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "convert/tensor_names.h"

#include "model/metadata.h"
#include "model/model.h"

namespace ktjit::convert {

struct RopeScaling {
  nlohmann::ordered_json config;  ///< config.json's rope_scaling; null if positions are as they are
  std::string problem;            ///< what GGUF says that rope_scaling has no words for, else empty
};

/// Of a GGUF file: linear, yarn, and llama3, whose divisors of the frequencies GGUF stores as the tensor
/// rope_freqs.weight and whose parameters are found again from them.
RopeScaling rope_scaling_of_gguf(const model::Model& input, const Architecture& architecture);

/// GGUF's keys for config.json's rope_scaling, or rope_parameters as newer files name it.
/// Errors: InputError that names the kind for those that take more than keys.
void add_rope_scaling(const model::Model& input, const Architecture& architecture,
                      model::Metadata& result);

}  // namespace ktjit::convert
