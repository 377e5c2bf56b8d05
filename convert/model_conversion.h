// A conversion as a value, everything decided and nothing done; and what carries it out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "convert/tensor_job.h"
#include "convert/weight_outputs.h"
#include "convert/work_folder.h"

#include "jit/engine.h"
#include "model/metadata.h"
#include "model/model.h"

namespace ktjit::convert {

/// What becomes of one tensor, for reports and for the check.
struct ConvertedTensor {
  std::string name;      ///< in the output
  std::string source;    ///< of the first tensor it comes from
  std::string from;      ///< format, "q8_0"
  std::string to;        ///< "fp8_e4m3 128x128 f32", "q4_K, ggml's bytes"
  std::string reason;    ///< why it keeps its format, or has another than was asked for
  bool is_copy = false;  ///< its codes and scales are the input's bytes
  WeightSource weights;
  WeightFormat format;      ///< in the output
  std::uint64_t bytes = 0;  ///< of all its outputs
};

struct Conversion {
  OutputKind kind = OutputKind::kFolder;
  Container container = Container::kSafetensors;
  std::vector<std::unique_ptr<TensorJob>> jobs;
  std::vector<ConvertedTensor> tensors;  ///< one for each job
  std::vector<PlannedFile> files;
  /// Where the outputs of jobs lie: [job][output].
  struct Place {
    std::size_t file = 0;
    std::uint64_t offset = 0;
  };
  std::vector<std::vector<Place>> places;
  struct Text {
    std::string name;
    std::string content;
  };
  std::vector<Text> texts;  ///< config.json, the index
  std::string
      model_metadata;  ///< of kModelMetadataKey, in the first safetensors file; may be empty
  std::vector<const model::Model*> inputs;  ///< that the jobs read
  std::vector<std::string> notes;           ///< what is left out, what was assumed

  std::uint64_t input_bytes() const;
  std::uint64_t output_bytes() const;
};

/// Lays the jobs' outputs out in one or more safetensors files: shards of at most `shard_bytes`, by the order
/// of the jobs, and an index where there are several. `file_name` where there shall be one file of that name.
/// Errors: SpecError for two tensors of one name and what a file can't hold.
void lay_out_safetensors(Conversion& conversion, std::uint64_t shard_bytes,
                         const std::optional<std::string>& file_name);
/// The same in one GGUF file with this metadata.
void lay_out_gguf(Conversion& conversion, const model::Metadata& metadata,
                  const std::string& file_name);

struct ConvertOptions {
  bool force = false;  ///< an existing output is replaced
  int threads = 0;     ///< 0: as many as the process may use
  std::uint64_t batch_bytes = std::uint64_t{256}
                              << 20;  ///< of input, after which the journal is written
  std::function<void(std::uint64_t done, std::uint64_t total)> on_progress;  ///< bytes of input
  std::stop_token stop;
  std::function<void()> before_write;  ///< where tests let a write fail
};

struct ConvertResult {
  std::uint64_t input_bytes = 0;    ///< that this run read
  std::uint64_t resumed_bytes = 0;  ///< of input whose results an earlier run had left
  std::uint64_t output_bytes = 0;
  double seconds = 0;
  bool replaced_other_plan = false;  ///< remains of another conversion were removed
};

/// Whether so many threads of the CPU (0: as many as the process may use) convert as quickly as a GPU. Files are
/// written by one thread of the kernel each, which bounds both: docs/CONVERT.md has the measurement.
bool cpu_is_as_quick(int threads);

/// Checks that the output may be written: it isn't the input nor holds it, and isn't there unless `force` says
/// that it is to be replaced; a folder is replaced only if it is a checkpoint or empty.
/// Errors: SpecError.
void check_output(const std::filesystem::path& output, OutputKind kind,
                  const std::vector<const model::Model*>& inputs, bool force);

/// Carries it out: `device` makes what kernels make, `target` is what they are compiled for. The output appears
/// whole at the end.
/// Errors: InputError for values that can't be converted; OutputError; InterruptedError; what Engine and
/// Device throw. Whatever it is, the same call goes on from there.
ConvertResult run_conversion(Engine& engine, runtime::Device& device, const Target& target,
                             const Conversion& conversion, const std::filesystem::path& output,
                             const ConvertOptions& options);

}  // namespace ktjit::convert
