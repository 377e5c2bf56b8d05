// What becomes of a tensor: a value, given by a function of the tensor, so that the command line and rules from
// a file are two sources of the same thing.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/format.h"
#include "model/model.h"

namespace ktjit::convert {

/// The format of one tensor in the output.
struct TensorChoice {
  std::optional<WeightFormat> to;  ///< nothing: it keeps its format
  std::string reason;              ///< why, for people: "norms keep their format"; may be empty
};

/// Called once for each tensor of the input, by its name there.
using ChooseTensor = std::function<TensorChoice(const model::TensorInfo& tensor)>;

/// What a tensor is to a model, as far as its name and shape tell.
enum class TensorRole {
  kLinear,     ///< a matrix that activations are multiplied by, or a stack of experts'
  kEmbedding,  ///< token_embd, embed_tokens; and output, lm_head
  kRouter,     ///< chooses experts: ffn_gate_inp, mlp.gate
  kOther,      ///< norms, biases and all that has one dimension; whatever holds no numbers
};

TensorRole role_of(const model::TensorInfo& tensor);

/// The choice of `--to`: linear weights get `format`; the others keep theirs unless `all` is set, which takes
/// embeddings and routers along. Tensors of one dimension are never converted.
ChooseTensor choose_linears(WeightFormat format, bool all);

/// Every tensor keeps its format.
ChooseTensor keep_all();

}  // namespace ktjit::convert
