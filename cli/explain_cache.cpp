#include "cli/explain_cache.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <optional>
#include <span>
#include <string_view>

#include "cache/maintenance.h"
#include "cache/nearest_entry.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/units.h"
#include "core/error.h"
#include "jit/planner.h"

namespace ktjit::cli {
namespace {

using cache::NearestEntry;
using Match = cache::NearestEntry::Match;

constexpr std::size_t kShownDigits = 12;  // of a digest: enough for `show`
constexpr std::size_t kLongestValue = 60;

/// Fields of the engine's keys: an entry of the same kernel, then of the same target, is nearer than
/// others.
constexpr std::array<std::string_view, 2> kFirstFields = {"entry", "target"};

struct Explained {
  KernelSpec spec;
  cache::CacheKey key;
  NearestEntry nearest;
  bool served = false;  ///< the engine takes this entry
};

std::vector<KernelSpec> choose_kernels(const Subject& subject, const ExplainOptions& options,
                                       const Target& target) {
  std::vector<KernelSpec> chosen;
  const Plan plan = make_plan(subject.model(), target);
  const model::TensorInfo* tensor =
      options.tensor.empty() ? nullptr : &subject.model().get_tensor(options.tensor);
  const std::string_view op = options.op.empty() ? "" : op_name(get_op(options.op));
  for (const TensorGroup& group : plan.groups) {
    const bool has_tensor =
        std::find(group.tensors.begin(), group.tensors.end(), tensor) != group.tensors.end();
    if (tensor != nullptr && !has_tensor) continue;
    for (const KernelSpec& spec : group.kernels) {
      if (op.empty() || op_name(spec.op) == op) chosen.push_back(spec);
    }
    if (op == op_name(Op::kQuantize)) {  // no plan has it
      KernelSpec spec = spec_for(*group.tensors.front(), Op::kQuantize, target);
      validate(spec);
      chosen.push_back(std::move(spec));
    }
  }
  return chosen;
}

std::string_view status_of(const Explained& kernel) {
  switch (kernel.nearest.match) {
    case Match::kExact:
      return "cached";
    case Match::kRequest:
      return kernel.served ? "served by request" : "other compiler";
    case Match::kOther:
      return "other request";
    case Match::kNothing:
      return "no entry";
  }
  KTJIT_UNREACHABLE("a known match");
}

Json value_or_null(const std::optional<std::string>& value) {
  return value ? Json(*value) : Json(nullptr);
}

bool is_long(const std::optional<std::string>& value) {
  return value && (value->size() > kLongestValue || value->find('\n') != std::string::npos);
}

Json to_json(std::string_view part, const cache::FieldDifference& difference) {
  Json document = {{"part", part},
                   {"field", difference.name},
                   {"wanted", value_or_null(difference.left)},
                   {"entry", value_or_null(difference.right)}};
  if (difference.left && difference.right) {
    const auto parted = cache::first_difference(*difference.left, *difference.right);
    document["line"] = parted.line;
    document["wanted_line"] = parted.left;
    document["entry_line"] = parted.right;
  }
  return document;
}

Json differences_to_json(const std::vector<cache::FieldDifference>& request,
                         const std::vector<cache::FieldDifference>& compiler) {
  Json differences = Json::array();
  for (const auto& difference : request) differences.push_back(to_json("request", difference));
  for (const auto& difference : compiler) differences.push_back(to_json("compiler", difference));
  return differences;
}

std::string value_text(const std::optional<std::string>& value) {
  if (!value) return "(no such field)";
  if (is_long(value)) return fmt::format("({} bytes)", value->size());
  return fmt::format("'{}'", *value);
}

/// One difference, short values side by side and of long ones the first line that differs.
std::string to_text(std::string_view left, std::string_view right,
                    const cache::FieldDifference& difference) {
  const bool both = difference.left && difference.right;
  const std::size_t width = std::max(left.size(), right.size());
  if (both && (is_long(difference.left) || is_long(difference.right))) {
    const auto parted = cache::first_difference(*difference.left, *difference.right);
    return fmt::format("    {}, line {}\n      {:<{}}  {}\n      {:<{}}  {}\n", difference.name,
                       parted.line, left, width, parted.left, right, width, parted.right);
  }
  return fmt::format("    {}\n      {:<{}}  {}\n      {:<{}}  {}\n", difference.name, left, width,
                     value_text(difference.left), right, width, value_text(difference.right));
}

std::string differences_text(std::string_view left, std::string_view right,
                             const std::vector<cache::FieldDifference>& request,
                             const std::vector<cache::FieldDifference>& compiler) {
  std::string text;
  for (const auto& difference : request) text += to_text(left, right, difference);
  for (const auto& difference : compiler) text += to_text(left, right, difference);
  return text;
}

Json to_json(const Explained& kernel) {
  const NearestEntry& nearest = kernel.nearest;
  const bool near = nearest.match != Match::kNothing;
  return {{"kernel", *kernel.key.request.find("entry")},
          {"op", op_name(kernel.spec.op)},
          {"target", kernel.spec.target.name()},
          {"request", kernel.key.request_digest().hex()},
          {"artifact", kernel.key.artifact_digest().hex()},
          {"status", status_of(kernel)},
          {"cached", kernel.served},
          {"root", near ? Json(nearest.root) : Json(nullptr)},
          {"entry", near ? Json(nearest.name.artifact.hex()) : Json(nullptr)},
          {"damaged", value_or_null(nearest.damaged)},
          {"differences", differences_to_json(nearest.request, nearest.compiler)}};
}

std::string to_text(const Explained& kernel) {
  const NearestEntry& nearest = kernel.nearest;
  std::string text =
      fmt::format("{} {}: ", kernel.spec.target.name(), *kernel.key.request.find("entry"));
  const std::string entry =
      fmt::format("{} in {}", nearest.name.artifact.hex().substr(0, kShownDigits), nearest.root);
  switch (nearest.match) {
    case Match::kExact:
      text += fmt::format("in the cache, {}\n", entry);
      break;
    case Match::kRequest:
      text += kernel.served ? fmt::format("in the cache, made by another compiler, {}\n", entry)
                            : fmt::format(
                                  "not in the cache; asked for alike but made by another compiler "
                                  "is {}\n",
                                  entry);
      break;
    case Match::kOther:
      text += fmt::format("not in the cache; nearest is {}\n", entry);
      break;
    case Match::kNothing:
      text += "not in the cache, which has no entry\n";
      break;
  }
  if (nearest.damaged && nearest.match != Match::kExact) {
    text += fmt::format("    damaged: {}; its next use makes it again\n", *nearest.damaged);
  }
  return text + differences_text("wanted", "entry", nearest.request, nearest.compiler);
}

}  // namespace

cache::StoredEntry find_entry(const std::vector<cache::RootOptions>& roots,
                              const std::string& prefix) {
  std::optional<SpecError> first_error;
  for (const cache::RootOptions& root : roots) {
    try {
      return cache::Maintenance(root).show(prefix);
    } catch (const SpecError& error) {
      if (!first_error) first_error = error;
    }
  }
  if (first_error) throw *first_error;
  throw UsageError("there is no cache to look in");
}

int explain_subject(const SubjectOptions& subject_options, const ExplainOptions& options,
                    const CommonOptions& common, const std::vector<cache::RootOptions>& roots) {
  const Subject subject(subject_options);
  Toolchain toolchain = common.make_toolchain();
  std::vector<Explained> kernels;
  std::vector<cache::CacheKey> keys;
  for (const Target& target : choose_targets(toolchain, common.targets)) {
    for (KernelSpec& spec : choose_kernels(subject, options, target)) {
      keys.push_back(toolchain.engine().key_for(spec, native_artifact_kind(target)));
      kernels.push_back({std::move(spec), keys.back(), {}, false});
    }
  }
  if (kernels.empty()) throw UsageError("no kernel serves that", "'ktjit plan' says why");
  std::vector<NearestEntry> nearest = cache::find_nearest(roots, keys, kFirstFields);
  std::size_t served = 0;
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const bool by_request =
        nearest[i].in_pack || toolchain.options().sealed || keys[i].compiler.empty();
    kernels[i].served =
        nearest[i].match == Match::kExact || (nearest[i].match == Match::kRequest && by_request);
    kernels[i].nearest = std::move(nearest[i]);
    served += kernels[i].served ? 1 : 0;
  }
  if (common.json) {
    Json documents = Json::array();
    for (const Explained& kernel : kernels) documents.push_back(to_json(kernel));
    print_json({{"model", subject.title()},
                {"kernels", documents},
                {"cached", served},
                {"missing", kernels.size() - served}});
    return kDone;
  }
  for (const Explained& kernel : kernels) print(to_text(kernel));
  print(fmt::format("{}: {} in the cache, {} not\n", counted(kernels.size(), "kernel"), served,
                    kernels.size() - served));
  return kDone;
}

int explain_entries(const std::string& left, const std::string& right,
                    const std::vector<cache::RootOptions>& roots, bool json) {
  const cache::StoredEntry a = find_entry(roots, left);
  const cache::StoredEntry b = find_entry(roots, right);
  const auto request = cache::differences(a.key.request, b.key.request);
  const auto compiler = cache::differences(a.key.compiler, b.key.compiler);
  if (json) {
    print_json({{"wanted", a.name.artifact.hex()},
                {"entry", b.name.artifact.hex()},
                {"differences", differences_to_json(request, compiler)}});
    return kDone;
  }
  const std::string a_digits = a.name.artifact.hex().substr(0, kShownDigits);
  const std::string b_digits = b.name.artifact.hex().substr(0, kShownDigits);
  print(fmt::format("{} and {}: {} of the key\n{}", a_digits, b_digits,
                    request.empty() && compiler.empty()
                        ? "no difference"
                        : counted(request.size() + compiler.size(), "difference"),
                    differences_text(a_digits, b_digits, request, compiler)));
  return kDone;
}

}  // namespace ktjit::cli
