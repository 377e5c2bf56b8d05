#include "jit/tuning_store.h"

#include <algorithm>
#include <mutex>
#include <string>

namespace ktjit {
namespace {

/// Few fields tell most specs of a process apart; the comparison does the rest.
std::size_t hash_of(const KernelSpec& spec) {
  std::size_t hash = 0;
  for (const std::int64_t value :
       {static_cast<std::int64_t>(spec.op), static_cast<std::int64_t>(spec.weight),
        spec.layout.cols, static_cast<std::int64_t>(spec.x_format),
        static_cast<std::int64_t>(spec.y_format), std::int64_t{spec.x_columns},
        std::int64_t{spec.weights_finite}, std::int64_t{spec.target.sm}}) {
    hash = hash * 1099511628211u + static_cast<std::size_t>(value);  // FNV's prime
  }
  return hash;
}

template <class Decisions>
auto find_decision(Decisions& decisions, const TuningSize& size) {
  return std::find_if(decisions.begin(), decisions.end(),
                      [&](const auto& decision) { return decision.size == size; });
}

}  // namespace

TuningStore::Known* TuningStore::find_known(const KernelSpec& spec, const SpeedIdentity& device) {
  const auto [first, last] = known_.equal_range(hash_of(spec));
  for (auto item = first; item != last; ++item) {
    if (item->second.spec == spec && item->second.device == device) return &item->second;
  }
  return nullptr;
}

std::optional<TuningRecord> TuningStore::read(const runtime::Device& device,
                                              const KernelSpec& spec) {
  const auto entry = disk_.find_note(tuning_key(spec, device.speed_identity()));
  return entry ? to_tuning_record(*entry) : std::nullopt;
}

std::optional<TunedKnobs> TuningStore::find_knobs(
    const runtime::Device& device, const KernelSpec& given, const TuningSize& size,
    const std::function<bool(const KernelSpec&)>& is_usable) {
  const KernelSpec spec = without_tuning(given);
  const SpeedIdentity identity = device.speed_identity();
  std::optional<TuningRecord> record;
  bool is_read = false;
  {
    const std::shared_lock lock(mutex_);
    if (const Known* known = find_known(spec, identity)) {
      if (!known->record) return std::nullopt;
      const auto decision = find_decision(known->decisions, size);
      if (decision != known->decisions.end()) return decision->knobs;
      record = known->record;
      is_read = true;
    }
  }
  // Without the lock, since this takes its time; who comes second finds the same.
  if (!is_read) record = read(device, spec);
  std::optional<TunedKnobs> knobs = record ? choose_knobs(*record, size) : std::nullopt;
  if (knobs) {
    KernelSpec tuned = spec;
    tuned.tuning = knobs->tuning;
    if (!is_usable(tuned)) knobs.reset();
  }
  const std::unique_lock lock(mutex_);
  Known* known = find_known(spec, identity);
  if (known == nullptr) {
    known = &known_.emplace(hash_of(spec), Known{spec, identity, std::move(record), {}})->second;
  }
  // Somebody may have added to the record meanwhile, or asked the same.
  const bool is_current = !is_read || known->record == record;
  if (is_current && find_decision(known->decisions, size) == known->decisions.end())
    known->decisions.push_back({size, knobs});
  return knobs;
}

std::vector<std::pair<cache::CacheKey, cache::Entry>> TuningStore::all_records(
    const KernelSpec& spec) {
  std::vector<std::pair<cache::CacheKey, cache::Entry>> records;
  for (cache::StoredEntry& stored : disk_.find_by_request(tuning_request(spec))) {
    const bool is_new = std::none_of(records.begin(), records.end(), [&](const auto& record) {
      return record.first == stored.key;  // the first root's is the one that is used
    });
    if (is_new && to_tuning_record(stored.entry))
      records.emplace_back(std::move(stored.key), std::move(stored.entry));
  }
  return records;
}

TuningStore::Update TuningStore::begin_update(const runtime::Device& device, const KernelSpec& spec,
                                              const std::stop_token& stop) {
  Update update;
  update.lock = disk_.lock_entry(tuning_key(spec, device.speed_identity()), stop);
  std::optional<TuningRecord> record = read(device, spec);
  if (!record) {  // without a cache this process remembers
    const KernelSpec plain = without_tuning(spec);
    const std::shared_lock lock(mutex_);
    if (const Known* known = find_known(plain, device.speed_identity())) record = known->record;
  }
  update.record = std::move(record).value_or(TuningRecord{});
  return update;
}

void TuningStore::finish_update(const runtime::Device& device, const KernelSpec& given,
                                Update update) {
  const KernelSpec spec = without_tuning(given);
  const SpeedIdentity identity = device.speed_identity();
  disk_.store(tuning_key(spec, identity), to_entry(update.record, spec, identity),
              std::move(update.lock));
  const std::unique_lock lock(mutex_);
  if (Known* known = find_known(spec, identity)) {
    known->record = std::move(update.record);
    known->decisions.clear();
  } else {
    known_.emplace(hash_of(spec), Known{spec, identity, std::move(update.record), {}});
  }
}

}  // namespace ktjit
