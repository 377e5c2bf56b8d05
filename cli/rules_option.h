// --rules of plan, build and run: the file, the model as the rules make it, and its parts by device.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rules/rules.h"

#include "cli/argument_parser.h"
#include "cli/json_output.h"
#include "cli/place.h"
#include "jit/ruled_model.h"

namespace ktjit::cli {

/// Tensors that go to one device.
struct RuledPart {
  std::string
      device;  ///< as the rules name it; "" for what is left to the command or goes to the same
  Target target;
  std::vector<PlannedTensor> tensors;
};

/// A part, on an open device.
struct PlacedPart {
  Place place;
  std::vector<PlannedTensor> tensors;
};

/// What --rules gave, if it was given.
class RulesOption {
 public:
  void add(ArgumentParser& parser);
  bool is_given() const { return !path_.empty(); }

  /// Reads the file and applies it; later members need it. `source` must outlive this.
  /// Errors: as Rules::read and RuledModel.
  void apply(const model::Model& source);
  const RuledModel& ruled() const { return *ruled_; }

  /// Without devices: what goes to `own` first, then a part for each other device that rules name. Those for a
  /// CPU are planned for `host`, those for GPUs and the simulator for `own`.
  /// Errors: UsageError if rules send tensors to a GPU and `own` is a CPU's.
  std::vector<RuledPart> split(const Target& own, const Target& host, LayoutKind layout) const;
  /// Opens the devices that rules name beside `own`, whose part is first. Parts have tensors.
  /// Errors: as split; as choose_place.
  std::vector<PlacedPart> open(Toolchain& toolchain, Place own, LayoutKind layout) const;

  /// A table of the rules: what each sets, for how many tensors, their bytes before and after, and the error of
  /// conversions, measured on a sample.
  std::string to_text() const;
  Json to_json() const;

 private:
  std::string path_;
  std::optional<rules::Rules> rules_;
  std::unique_ptr<RuledModel> ruled_;
};

}  // namespace ktjit::cli
