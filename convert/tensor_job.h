// What fills the tensors of the output: jobs, each with the tensors that it makes, in pieces that any thread
// can make in any order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/format.h"
#include "model/described_tensors.h"

namespace ktjit::convert {

class PieceWorker;

/// One tensor of the output's files.
struct OutputTensor {
  std::string name;
  FormatId dtype = FormatId::kF32;  ///< as the file names it: kU8 of packed FP4 in safetensors
  std::vector<std::int64_t> shape;  ///< row-major, the contiguous dimension last; empty: a scalar
  std::uint64_t bytes = 0;
  /// What a U8 tensor holds, where the file says so: described in model/described_tensors.h.
  std::optional<model::TensorDescription> description = std::nullopt;
};

/// Takes bytes of a job's output tensor: which of TensorJob::outputs, from which of its bytes on.
using PieceSink =
    std::function<void(std::size_t output, std::uint64_t offset, std::span<const std::byte> bytes)>;

/// Makes one tensor of a model: what holds its codes and, where the format has them, its scales.
///
/// Each byte of each output is given to the sink exactly once over all pieces, and depends on nothing but the
/// input and the job: not on the device, the order of the pieces, or what an interrupted run did.
/// Threads: pieces are made by several threads at a time, each with a worker of its own.
class TensorJob {
 public:
  virtual ~TensorJob() = default;

  /// At least one. Fixed from construction on.
  virtual const std::vector<OutputTensor>& outputs() const = 0;
  /// How many pieces it has, at least 1, whatever the device.
  virtual std::int64_t pieces() const = 0;
  /// Bytes of the input that a piece reads, for progress and batches.
  virtual std::uint64_t piece_input_bytes(std::int64_t piece) const = 0;
  /// Everything that determines the outputs, beside the input's bytes: "fp8_e4m3 128x128 f32".
  virtual std::string recipe() const = 0;

  /// Whether all pieces have to be surveyed before any of them is produced: for a scale that depends on the
  /// whole tensor.
  virtual bool needs_survey() const { return false; }
  virtual void survey(std::int64_t /*piece*/, PieceWorker& /*worker*/) {}

  virtual void produce(std::int64_t piece, PieceWorker& worker, const PieceSink& sink) const = 0;
};

}  // namespace ktjit::convert
