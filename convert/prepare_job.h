// The jobs of `convert --prepare` and `convert --restore`: weights rearranged for a target's matvec, and taken back.
#pragma once

#include <memory>
#include <vector>

#include "convert/tensor_job.h"

#include "model/model.h"

namespace ktjit::convert {

/// The tensor's matrices prepared, one after another, as one U8 tensor of its name that describes itself. Each piece is
/// restored again, and compared with the input.
/// REQUIRES: comes_back_whole, and the tensor outlives the job.
std::unique_ptr<TensorJob> make_prepare_job(const model::TensorInfo& tensor);

/// Native blocks of a tensor that is prepared in the input. `outputs`: its codes, and where scales lie in a tensor of their
/// own then those, and NVFP4's scale of the tensor.
std::unique_ptr<TensorJob> make_restore_job(const model::TensorInfo& tensor,
                                            std::vector<OutputTensor> outputs);

/// The tensor's bytes as they are. REQUIRES: it has no scales in a tensor of their own, or is prepared.
std::unique_ptr<TensorJob> make_bytes_job(const model::TensorInfo& tensor, OutputTensor output);

/// Whether what is prepared of the tensor and restored is the tensor again, byte for byte. A few formats have bytes that mean
/// the same, which preparing takes for each other: for these it is tried out.
bool comes_back_whole(const model::TensorInfo& tensor, PieceWorker& worker);

/// A U8 tensor [bytes] that the file describes as this one. `layout`: in the output.
OutputTensor described_output(const model::TensorInfo& tensor, LayoutKind layout);

}  // namespace ktjit::convert
