// What `ktjit bench` is asked to measure: its options, and the works they describe.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/argument_parser.h"
#include "core/target.h"
#include "jit/bench_runner.h"

namespace ktjit::cli {

/// One knob of Tuning that --tuning sets.
struct TuningKnob {
  std::string_view name;
  int Tuning::* value;
};
std::span<const TuningKnob> tuning_knobs();

/// Reads "threads=256,rows_per_warp=2". Errors: UsageError.
Tuning parse_tuning(std::string_view text);

struct BenchOptions {
  std::string model;
  std::string ops = "matvec";
  std::string formats;
  std::string shapes;
  std::string scale_block;
  std::string scale_type;
  std::string n = "1";
  std::string activation = "a16";
  std::string x_format = "f32";
  std::string y_format = "f32";
  std::string layout = "auto";
  std::string gate = "none";  ///< of all shapes, or one for each
  std::string residual;
  int experts = 0;
  std::string slots_per_x = "1";  ///< likewise
  std::string tuning;
  bool tune = false;
  std::string data;
  int samples = BenchSettings().samples;
  bool weights_finite = false;
  bool dependent_launch = false;
  bool tensor_core_precision = false;
  bool no_graph = false;
  bool in_turn = false;

  /// The object must outlive the parser.
  void add_to(ArgumentParser& parser);
  /// Errors: UsageError for options that are missing or don't go together.
  void check() const;
};

/// What can't be measured, of a model or of `all` formats.
struct BenchSkipped {
  std::string name;    ///< a format, or "blk.0.attn_q.weight i8"
  std::string reason;  ///< "quantize does not take the format"
};

struct BenchRequest {
  std::string title;  ///< the model's path, or "q4_K,q8_0 14336x4096"
  std::vector<BenchWork> works;
  std::vector<BenchSkipped> skipped;
  BenchSettings settings;
};

/// The works in the order of shape, op, format, number of columns, target; each once.
/// Errors: UsageError; SpecError for names, and for shapes and formats that don't go together; what
/// model::open_model throws.
BenchRequest make_bench_request(const BenchOptions& options, std::span<const Target> targets);

}  // namespace ktjit::cli
