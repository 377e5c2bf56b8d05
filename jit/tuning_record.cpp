// The names of the knobs, and of the fields in a record's manifest, stand here and nowhere else.
#include "jit/tuning_record.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>

#include "codegen/emitter.h"
#include "core/error.h"

namespace ktjit {
namespace {

using nlohmann::json;

constexpr std::string_view kKind = "tuning";
constexpr int kRecordVersion = 1;

/// A number of Tuning, or one of its data paths, which records keep as the number of the enumerator.
struct Knob {
  std::string_view name;
  int Tuning::* number = nullptr;
  DataPath Tuning::* path = nullptr;

  int get(const Tuning& tuning) const {
    return number != nullptr ? tuning.*number : static_cast<int>(tuning.*path);
  }
  /// False for a number that the knob can't have.
  bool set(Tuning& tuning, int value) const {
    if (number != nullptr) {
      tuning.*number = value;
      return true;
    }
    tuning.*path = static_cast<DataPath>(value);
    return value >= 0 && value <= static_cast<int>(DataPath::kShared);
  }
};
constexpr std::array kKnobs = {Knob{"threads", &Tuning::threads},
                               Knob{"rows_per_warp", &Tuning::rows_per_warp},
                               Knob{"x_tile", &Tuning::x_tile},
                               Knob{"ctas_per_multiprocessor", &Tuning::ctas_per_multiprocessor},
                               Knob{"stages", &Tuning::stages},
                               Knob{"runs_per_thread", &Tuning::runs_per_thread},
                               Knob{"w_path", nullptr, &Tuning::w_path},
                               Knob{"y_path", nullptr, &Tuning::y_path}};
static_assert(sizeof(DataPath) == sizeof(int) && sizeof(Tuning) == kKnobs.size() * sizeof(int),
              "a knob is not in the table");

/// How far apart two sizes are: 1 is a factor of two. Unknown parts are no distance.
double distance(std::int64_t a, std::int64_t b) {
  if (a <= 0 || b <= 0) return 0;
  return std::abs(std::log2(static_cast<double>(a) / static_cast<double>(b)));
}

constexpr double kMostDistance = 1.0 + 1e-9;

bool is_near(const TuningSize& a, const TuningSize& b) {
  return distance(a.rows, b.rows) <= kMostDistance && distance(a.n, b.n) <= kMostDistance;
}

double total_distance(const TuningSize& a, const TuningSize& b) {
  return distance(a.rows, b.rows) + distance(a.n, b.n);
}

TunedKnobs knobs_of(const TunedSize& tuned, const Tuning& tuning) {
  return {tuning, tuned.timing_of(tuning).gbps, tuned.timings.front().gbps, tuned.size};
}

/// The sum of the logarithms of times over the best ones; infinite if it isn't there everywhere.
double total_loss(const std::vector<const TunedSize*>& sizes, const Tuning& tuning) {
  double loss = 0;
  for (const TunedSize* tuned : sizes) {
    const auto found = std::find_if(
        tuned->timings.begin(), tuned->timings.end(),
        [&](const KnobTiming& timing) { return timing.tuning == tuning && timing.is_timed(); });
    if (found == tuned->timings.end()) return std::numeric_limits<double>::infinity();
    loss += std::log(found->median_us / tuned->timing_of(tuned->best).median_us);
  }
  return loss;
}

json to_json(const Tuning& tuning) {
  json values = json::object();
  for (const auto& [name, value] : knob_values(tuning)) values[name] = value;
  return values;
}

json to_json(const TunedSize& tuned) {
  json timings = json::array();
  for (const KnobTiming& timing : tuned.timings) {
    json item = {{"knobs", to_json(timing.tuning)}};
    if (timing.problem.empty()) {
      item["median_us"] = timing.median_us;
      item["spread"] = timing.spread;
      item["gbps"] = timing.gbps;
    } else {
      item["problem"] = timing.problem;
    }
    timings.push_back(std::move(item));
  }
  return {{"rows", tuned.size.rows},     {"n", tuned.size.n},
          {"best", to_json(tuned.best)}, {"complete", tuned.complete},
          {"compiler", tuned.compiler},  {"timings", std::move(timings)}};
}

// The reverse. nlohmann's exceptions and these say that it is no record of ours.
struct NotARecord {};

Tuning read_tuning(const json& values) {
  std::vector<std::pair<std::string, int>> named;
  for (const auto& [name, value] : values.items()) named.emplace_back(name, value.get<int>());
  const std::optional<Tuning> tuning = to_tuning(named);
  if (!tuning) throw NotARecord();
  return *tuning;
}

double read_positive(const json& value) {
  const double number = value.get<double>();
  if (!std::isfinite(number) || number < 0) throw NotARecord();
  return number;
}

KnobTiming read_timing(const json& item) {
  KnobTiming timing;
  timing.tuning = read_tuning(item.at("knobs"));
  if (item.contains("problem")) {
    timing.problem = item.at("problem").get<std::string>();
    if (timing.problem.empty()) throw NotARecord();
    return timing;
  }
  timing.median_us = read_positive(item.at("median_us"));
  timing.spread = read_positive(item.at("spread"));
  timing.gbps = read_positive(item.at("gbps"));
  return timing;
}

TunedSize read_size(const json& item) {
  TunedSize tuned;
  tuned.size = {item.at("rows").get<std::int64_t>(), item.at("n").get<std::int64_t>()};
  tuned.best = read_tuning(item.at("best"));
  tuned.complete = item.at("complete").get<bool>();
  tuned.compiler = item.at("compiler").get<std::string>();
  for (const json& timing : item.at("timings")) tuned.timings.push_back(read_timing(timing));
  const bool best_is_timed = std::any_of(
      tuned.timings.begin(), tuned.timings.end(),
      [&](const KnobTiming& timing) { return timing.tuning == tuned.best && timing.is_timed(); });
  if (tuned.size.rows < 1 || tuned.size.n < 0 || !best_is_timed) throw NotARecord();
  return tuned;
}

}  // namespace

const KnobTiming& TunedSize::timing_of(const Tuning& tuning) const {
  const auto found = std::find_if(timings.begin(), timings.end(), [&](const KnobTiming& timing) {
    return timing.tuning == tuning;
  });
  KTJIT_CHECK(found != timings.end());
  return *found;
}

const TunedSize* TuningRecord::find(const TuningSize& size) const {
  const auto found = std::find_if(sizes.begin(), sizes.end(),
                                  [&](const TunedSize& tuned) { return tuned.size == size; });
  return found == sizes.end() ? nullptr : &*found;
}

void TuningRecord::add(TunedSize tuned) {
  const TuningSize added = tuned.size;
  std::erase_if(sizes, [&](const TunedSize& old) { return old.size == added; });
  sizes.push_back(std::move(tuned));
  std::sort(sizes.begin(), sizes.end(), [](const TunedSize& a, const TunedSize& b) {
    return std::tie(a.size.rows, a.size.n) < std::tie(b.size.rows, b.size.n);
  });
  while (sizes.size() > kMostTunedSizes) {
    auto goes = sizes.end();
    double least = std::numeric_limits<double>::infinity();
    for (auto a = sizes.begin(); a != sizes.end(); ++a) {
      if (a->size == added) continue;
      for (auto b = sizes.begin(); b != sizes.end(); ++b) {
        if (a == b || total_distance(a->size, b->size) >= least) continue;
        least = total_distance(a->size, b->size);
        goes = a;
      }
    }
    sizes.erase(goes);
  }
}

std::optional<TunedKnobs> choose_knobs(const TuningRecord& record, const TuningSize& size) {
  std::vector<const TunedSize*> near;
  for (const TunedSize& tuned : record.sizes) {
    if (is_near(tuned.size, size)) near.push_back(&tuned);
  }
  if (near.empty()) return std::nullopt;
  const bool has_n = std::any_of(near.begin(), near.end(),
                                 [](const TunedSize* tuned) { return tuned->size.n > 0; });
  if (size.rows > 0 && (size.n > 0 || !has_n)) {
    const TunedSize& nearest =
        **std::min_element(near.begin(), near.end(), [&](const TunedSize* a, const TunedSize* b) {
          return total_distance(a->size, size) < total_distance(b->size, size);
        });
    return knobs_of(nearest, nearest.best);
  }
  // Of a few sizes each one's best is a candidate, and so is the default.
  std::vector<Tuning> candidates = {near.front()->timings.front().tuning};
  for (const TunedSize* tuned : near) candidates.push_back(tuned->best);
  const auto best =
      std::min_element(candidates.begin(), candidates.end(), [&](const Tuning& a, const Tuning& b) {
        return total_loss(near, a) < total_loss(near, b);  // of equal ones the first
      });
  if (std::isinf(total_loss(near, *best))) return std::nullopt;
  return knobs_of(*near.back(), *best);
}

std::vector<std::pair<std::string, int>> knob_values(const Tuning& tuning) {
  std::vector<std::pair<std::string, int>> values;
  for (const Knob& knob : kKnobs) {
    if (knob.get(tuning) != 0) values.emplace_back(knob.name, knob.get(tuning));
  }
  return values;
}

std::optional<Tuning> to_tuning(const std::vector<std::pair<std::string, int>>& values) {
  Tuning tuning;
  for (const auto& [name, value] : values) {
    const auto knob = std::find_if(kKnobs.begin(), kKnobs.end(),
                                   [&](const Knob& known) { return known.name == name; });
    if (knob == kKnobs.end() || !knob->set(tuning, value)) return std::nullopt;
  }
  return tuning;
}

std::string knobs_text(const Tuning& tuning) {
  std::string text;
  for (const auto& [name, value] : knob_values(tuning))
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, value);
  return text.empty() ? "default" : text;
}

std::string tuned_text(const TunedKnobs& knobs) {
  return fmt::format("tuned: {}: {:.0f} GB/s against {:.0f} by default", knobs_text(knobs.tuning),
                     knobs.gbps, knobs.default_gbps);
}

KernelSpec without_tuning(KernelSpec spec) {
  spec.tuning = {};
  return spec;
}

cache::KeyFields tuning_request(const KernelSpec& spec) {
  cache::KeyFields request;
  request.add("kind", kKind);
  request.add("record", static_cast<std::int64_t>(kRecordVersion));
  request.add("emitter", static_cast<std::int64_t>(codegen::kEmitterVersion));
  request.add("spec", std::string_view(to_text(without_tuning(spec))));
  return request;
}

cache::CacheKey tuning_key(const KernelSpec& spec, const SpeedIdentity& device) {
  cache::CacheKey key{tuning_request(spec), {}};
  for (const auto& [name, value] : device) key.compiler.add(name, std::string_view(value));
  return key;
}

cache::Entry to_entry(const TuningRecord& record, const KernelSpec& spec,
                      const SpeedIdentity& device) {
  json sizes = json::array();
  for (const TunedSize& tuned : record.sizes) sizes.push_back(to_json(tuned));
  json about = json::object();
  for (const auto& [name, value] : device) about[name] = value;
  cache::Entry entry;
  entry.manifest = {{"kind", kKind},
                    {"version", kRecordVersion},
                    {"kernel", kernel_name(spec)},
                    {"target", spec.target.name()},
                    {"compiler", record.sizes.empty() ? "" : record.sizes.back().compiler},
                    {"spec", to_text(without_tuning(spec))},
                    {"device", std::move(about)},
                    {"sizes", std::move(sizes)}};
  return entry;
}

bool is_tuning_record(const cache::Entry& entry) {
  const auto kind = entry.manifest.find("kind");
  return kind != entry.manifest.end() && kind->is_string() && *kind == kKind;
}

std::optional<TuningRecord> to_tuning_record(const cache::Entry& entry) {
  if (!is_tuning_record(entry)) return std::nullopt;
  try {
    if (entry.manifest.at("version").get<int>() != kRecordVersion) return std::nullopt;
    TuningRecord record;
    for (const json& size : entry.manifest.at("sizes")) record.sizes.push_back(read_size(size));
    return record;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  } catch (const NotARecord&) {
    return std::nullopt;
  }
}

}  // namespace ktjit
