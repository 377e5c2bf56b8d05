// What tuning found, for people and for scripts.
#pragma once

#include "cli/json_output.h"
#include "jit/model_tuner.h"

namespace ktjit::cli {

Json to_json(const TuneReport& report);

/// A line for each kernel and size, then what changed. Errors: as print.
void print_tune_report(const TuneReport& report);

/// Knobs with what they gained; null if there are none.
Json tuned_to_json(const std::optional<TunedKnobs>& knobs);

/// The measurements of a record: "rows 4096, n 1, ...", then a table. For `ktjit cache show`.
std::string measurements_text(const TuningRecord& record);

}  // namespace ktjit::cli
