// One job for each tensor of the input, in its order.
#include "convert/prepare_model.h"

#include <algorithm>
#include <fmt/format.h>

#include "convert/piece_worker.h"
#include "convert/prepare_job.h"
#include "convert/weight_job.h"
#include "convert/weight_outputs.h"

#include "core/error.h"
#include "core/prepared_layout.h"
#include "model/described_tensors.h"
#include "model/safetensors_format.h"

namespace ktjit::convert {
namespace {

bool is_prepared(const model::TensorInfo& tensor) { return tensor.layout == LayoutKind::kPrepared; }

std::string input_name(const model::Model& input) {
  return input.files().empty() ? "in memory" : input.files().front().string();
}

WeightSource source_of(const model::TensorInfo& tensor) {
  WeightSource source;
  source.name = tensor.name;
  for (int i = std::max(tensor.n_dims, 1) - 1; i >= 0; --i)
    source.shape.push_back(tensor.ne[static_cast<std::size_t>(i)]);
  source.parts = {{&tensor, 0, tensor.rows()}};
  return source;
}

/// A tensor of this format and shape under its own name, without scales.
OutputTensor plain_output(const model::TensorInfo& tensor) {
  OutputTensor output;
  output.name = tensor.name;
  output.dtype = tensor.format;
  output.shape = source_of(tensor).shape;
  output.bytes =
      static_cast<std::uint64_t>(tensor.rows()) * model::row_bytes(tensor.format, tensor.cols());
  return output;
}

/// Where native bytes of the tensor go.
std::vector<OutputTensor> native_outputs(Container container, const model::TensorInfo& tensor) {
  const Format& format = get_format(tensor.format);
  if (tensor.scale_grid) {
    return weight_outputs(container, source_of(tensor), {tensor.format, tensor.scale_grid});
  }
  if (container == Container::kGguf) {
    if (format.ggml_type >= 0) return {plain_output(tensor)};
    throw SpecError(fmt::format("format of tensor '{}'", tensor.name), format.name,
                    "one that GGUF has; write safetensors");
  }
  const bool has_dtype = !model::safetensors::dtype_name(tensor.format).empty();
  return {has_dtype ? plain_output(tensor) : described_output(tensor, LayoutKind::kNative)};
}

void add(Conversion& conversion, const model::TensorInfo& tensor, std::string to,
         std::string reason, std::unique_ptr<TensorJob> job) {
  ConvertedTensor converted;
  converted.name = job->outputs().front().name;
  converted.source = tensor.name;
  converted.from = fmt::format("{}{}", WeightFormat{tensor.format, tensor.scale_grid}.name(),
                               is_prepared(tensor) ? " prepared" : "");
  converted.to = std::move(to);
  converted.reason = std::move(reason);
  converted.is_copy = true;
  converted.weights = source_of(tensor);
  converted.format = {tensor.format, tensor.scale_grid};
  for (const OutputTensor& output : job->outputs()) converted.bytes += output.bytes;
  conversion.tensors.push_back(std::move(converted));
  conversion.jobs.push_back(std::move(job));
}

/// The tensor's own bytes, and its scales.
void add_native(Conversion& conversion, const model::TensorInfo& tensor, std::string reason) {
  std::vector<OutputTensor> outputs = native_outputs(conversion.container, tensor);
  std::unique_ptr<TensorJob> job = tensor.scale_grid
                                       ? make_copy_job(source_of(tensor), std::move(outputs))
                                       : make_bytes_job(tensor, std::move(outputs.front()));
  add(conversion, tensor, std::string(WeightFormat{tensor.format, tensor.scale_grid}.name()),
      std::move(reason), std::move(job));
}

/// The metadata of the original: not what this file's container adds, nor how the original was cut.
model::Metadata original_metadata(const model::Model& input) {
  model::Metadata metadata;
  for (const auto& [key, value] : input.metadata().entries()) {
    const bool is_of_files =
        key.starts_with("safetensors.") || key.starts_with("split.") || key == "general.alignment";
    if (!is_of_files) metadata.add(key, value);
  }
  return metadata;
}

void lay_out(Conversion& conversion, const model::Model& input, const PreparedOutput& output) {
  conversion.kind = output.kind;
  conversion.inputs = {&input};
  const model::Metadata metadata = original_metadata(input);
  if (conversion.container == Container::kGguf) {
    lay_out_gguf(conversion, metadata, output.file_name);
    return;
  }
  if (!metadata.entries().empty()) conversion.model_metadata = model::metadata_to_text(metadata);
  lay_out_safetensors(
      conversion, output.shard_bytes,
      output.kind == OutputKind::kFile ? std::optional(output.file_name) : std::nullopt);
}

}  // namespace

Conversion plan_prepare(Engine& engine, const model::Model& input, const Target& target,
                        const PreparedOutput& output) {
  const bool is_served = std::ranges::any_of(
      all_formats(), [&](const Format& format) { return serves_prepared(format.id, target); });
  if (!target.is_cuda() || !is_served) {
    throw SpecError("target to prepare for", target.name(),
                    "one whose matvec reads prepared weights: sm_61, and from sm_70 on");
  }
  const auto cpu = make_single_thread_cpu();
  Machine machine(engine, *cpu, cpu->native_target());
  PieceWorker worker(machine, machine);
  Conversion conversion;
  std::size_t prepared = 0;
  for (const model::TensorInfo& tensor : input.tensors()) {
    const Format& format = get_format(tensor.format);
    if (is_prepared(tensor)) {
      throw SpecError(fmt::format("tensor '{}'", tensor.name), "prepared already",
                      "a model with native weights");
    }
    std::string reason;
    if (tensor.n_dims < 2 || tensor.elements() == 0) {
      reason = "no matrix";
    } else if (!serves_prepared(tensor.format, target)) {
      reason = fmt::format("{} has no prepared layout", format.name);
    } else if (tensor.scale_grid != fixed_scale_grid(tensor.format)) {
      reason = fmt::format("its scales are {}", scale_grid_name(tensor.scale_grid));
    } else if (!comes_back_whole(tensor, worker)) {
      reason = "it has bytes that would come back as others of the same meaning";
    }
    if (!reason.empty()) {
      add_native(conversion, tensor, std::move(reason));
      continue;
    }
    ++prepared;
    std::unique_ptr<TensorJob> job = make_prepare_job(tensor);
    add(conversion, tensor,
        fmt::format("{} prepared as {} version {}", format.name, kPreparedLayoutName,
                    kPreparedLayoutVersion),
        "", std::move(job));
  }
  if (prepared == 0) {
    throw SpecError("model", input_name(input),
                    fmt::format("one with a matrix that matvec for {} reads prepared: of ggml's "
                                "block formats, mxfp4 or nvfp4",
                                target.name()));
  }
  lay_out(conversion, input, output);
  return conversion;
}

Conversion plan_restore(const model::Model& input, Container container,
                        const PreparedOutput& output) {
  Conversion conversion;
  conversion.container = container;
  if (std::ranges::none_of(input.tensors(), is_prepared)) {
    throw SpecError("model", input_name(input),
                    "one with prepared weights, which --prepare writes");
  }
  for (const model::TensorInfo& tensor : input.tensors()) {
    if (!is_prepared(tensor)) {
      add_native(conversion, tensor, "");
      continue;
    }
    const std::string name(WeightFormat{tensor.format, tensor.scale_grid}.name());
    add(conversion, tensor, name, "", make_restore_job(tensor, native_outputs(container, tensor)));
  }
  lay_out(conversion, input, output);
  return conversion;
}

}  // namespace ktjit::convert
