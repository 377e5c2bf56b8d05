// Records of measurements: which one serves a launch, and that nothing but a good one is read back.
#include "jit/tuning_record.h"

#include <catch2/catch.hpp>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

const SpeedIdentity kDevice = {{"device", "fake GPU"}, {"driver", "CUDA 13"}};

KernelSpec q4_matvec() {
  return test::make_spec(Op::kMatvec, "q4_K", 4096, make_cuda_target(90, "a"));
}

KnobTiming timed(Tuning tuning, double us) { return {tuning, us, 0.001, 1000 / us, ""}; }

/// Threads 64, 128 and 256 beside the default, with these times; the best is the fastest.
TunedSize tuned_size(TuningSize size, double by_default, double t64, double t128, double t256) {
  TunedSize tuned;
  tuned.size = size;
  tuned.compiler = "fake 1";
  tuned.timings = {timed({}, by_default), timed({.threads = 64}, t64),
                   timed({.threads = 128}, t128), timed({.threads = 256}, t256)};
  tuned.best = tuned.timings.front().tuning;
  for (const KnobTiming& timing : tuned.timings) {
    if (timing.median_us < tuned.timing_of(tuned.best).median_us) tuned.best = timing.tuning;
  }
  return tuned;
}

TuningRecord two_sizes() {
  TuningRecord record;
  record.add(tuned_size({4096, 1}, 10, 8, 9, 12));
  record.add(tuned_size({128000, 1}, 100, 150, 90, 80));
  return record;
}

}  // namespace

TEST_CASE("a launch takes the knobs of the nearest size, within a factor of two") {
  const TuningRecord record = two_sizes();
  CHECK(choose_knobs(record, {4096, 1})->tuning.threads == 64);
  CHECK(choose_knobs(record, {8192, 1})->tuning.threads == 64);
  CHECK(choose_knobs(record, {2048, 1})->tuning.threads == 64);
  CHECK(choose_knobs(record, {100000, 1})->tuning.threads == 256);
  CHECK_FALSE(choose_knobs(record, {2047, 1}).has_value());
  CHECK_FALSE(choose_knobs(record, {20000, 1}).has_value());
  CHECK_FALSE(choose_knobs(record, {4096, 4}).has_value());
  CHECK_FALSE(choose_knobs({}, {4096, 1}).has_value());

  const TunedKnobs knobs = *choose_knobs(record, {5000, 1});
  CHECK(knobs.gbps == 1000.0 / 8);
  CHECK(knobs.default_gbps == 1000.0 / 10);
  CHECK(knobs.size == TuningSize{4096, 1});
  CHECK(tuned_text(knobs) == "tuned: threads 64: 125 GB/s against 100 by default");
}

TEST_CASE("where the rows are not known, what is best over all sizes serves") {
  // The best of the large size loses less at the small one than the other way round.
  CHECK(choose_knobs(two_sizes(), {0, 1})->tuning.threads == 256);
  // Either one's best is twice as slow at the other size: the default serves.
  TuningRecord record;
  record.add(tuned_size({4096, 1}, 10, 8, 8.5, 16));
  record.add(tuned_size({128000, 1}, 100, 160, 85, 80));
  CHECK(choose_knobs(record, {0, 0})->tuning == Tuning{});
  // Some size's best that is nearly so at the others.
  record.add(tuned_size({14336, 1}, 30, 31, 20, 25));
  CHECK(choose_knobs(record, {0, 0})->tuning.threads == 128);
}

TEST_CASE("a candidate that some size lacks is not chosen for unknown rows") {
  TuningRecord record;
  record.add(tuned_size({4096, 1}, 10, 5, 9, 12));
  TunedSize other = tuned_size({128000, 1}, 100, 150, 90, 95);
  other.timings[1] = {{.threads = 64}, 0, 0, 0, "wrong result: y[0, 0] is 1, expected 2"};
  record.add(other);
  CHECK(choose_knobs(record, {0, 0})->tuning.threads == 128);
}

TEST_CASE("a record has each size once, and does not grow without end") {
  TuningRecord record = two_sizes();
  record.add(tuned_size({4096, 1}, 10, 9, 12, 8));
  REQUIRE(record.sizes.size() == 2);
  CHECK(choose_knobs(record, {4096, 1})->tuning.threads == 256);
  for (std::int64_t rows = 1; rows <= 100; ++rows) record.add(tuned_size({rows, 1}, 10, 8, 9, 12));
  CHECK(record.sizes.size() == kMostTunedSizes);
  CHECK(record.find({100, 1}) != nullptr);
  CHECK(record.find({128000, 1}) != nullptr);  // far from all others
}

TEST_CASE("a record comes back from its entry as it was") {
  TuningRecord record = two_sizes();
  record.sizes[0].complete = false;
  record.sizes[0].timings.push_back({{.threads = 512}, 0, 0, 0, "can't be had: it is a test"});
  const cache::Entry entry = to_entry(record, q4_matvec(), kDevice);
  CHECK(is_tuning_record(entry));
  CHECK(to_tuning_record(entry) == record);
  CHECK(entry.blobs.empty());
}

TEST_CASE("an entry that is no record, or makes no sense, is none") {
  const cache::Entry good = to_entry(two_sizes(), q4_matvec(), kDevice);
  const auto is_refused = [&](const std::function<void(nlohmann::json&)>& change) {
    cache::Entry entry = good;
    change(entry.manifest);
    return !to_tuning_record(entry).has_value();
  };
  CHECK_FALSE(is_refused([](nlohmann::json&) {}));
  CHECK(is_refused([](nlohmann::json& m) { m["kind"] = "cubin"; }));
  CHECK(is_refused([](nlohmann::json& m) { m["version"] = 2; }));
  CHECK(is_refused([](nlohmann::json& m) { m.erase("sizes"); }));
  CHECK(is_refused([](nlohmann::json& m) { m["sizes"][0]["rows"] = 0; }));
  CHECK(is_refused([](nlohmann::json& m) { m["sizes"][0]["rows"] = "many"; }));
  CHECK(is_refused([](nlohmann::json& m) { m["sizes"][0]["best"] = {{"threads", 96}}; }));
  CHECK(is_refused([](nlohmann::json& m) { m["sizes"][0]["best"] = {{"blocks", 64}}; }));
  CHECK(is_refused([](nlohmann::json& m) { m["sizes"][0]["timings"][1]["median_us"] = -1; }));
  CHECK(is_refused([](nlohmann::json& m) { m["sizes"][0]["timings"][1]["median_us"] = nullptr; }));
  CHECK(is_refused([](nlohmann::json& m) { m["sizes"][0]["timings"] = nlohmann::json::array(); }));
}

TEST_CASE("every field of the spec but its knobs, and of the device, changes a record's key") {
  const KernelSpec spec = q4_matvec();
  const cache::CacheKey key = tuning_key(spec, kDevice);
  KernelSpec tuned = spec;
  tuned.tuning = {.threads = 64, .rows_per_warp = 2};
  CHECK(tuning_key(tuned, kDevice) == key);
  KernelSpec other = spec;
  other.layout.cols = 8192;
  CHECK(tuning_key(other, kDevice).request != key.request);
  other = spec;
  other.x_columns = 2;
  CHECK(tuning_key(other, kDevice).request != key.request);
  other = spec;
  other.dependent_launch = true;
  CHECK(tuning_key(other, kDevice).request != key.request);
  other = spec;
  other.target = make_cuda_target(86);
  CHECK(tuning_key(other, kDevice).request != key.request);
  SpeedIdentity newer = kDevice;
  newer[1].second = "CUDA 14";
  CHECK(tuning_key(spec, newer).request == key.request);
  CHECK(tuning_key(spec, newer) != key);
}

TEST_CASE("knobs have names, in text and back") {
  CHECK(knobs_text({}) == "default");
  CHECK(knobs_text({.threads = 256, .rows_per_warp = 2}) == "threads 256, rows_per_warp 2");
  const Tuning tuning{.threads = 64, .x_tile = 16};
  CHECK(to_tuning(knob_values(tuning)) == tuning);
  CHECK_FALSE(to_tuning({{"warps", 4}}).has_value());
}

}  // namespace ktjit
