#include "cache/ledger.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "cache/byte_lock.h"

namespace ktjit::cache {
namespace {

constexpr std::size_t kMostFileBytes = 4 << 20;  // kMostCosts of the longest names fit
constexpr int kVersion = 1;
constexpr double kWeightOfRun = 0.25;  // of the newest run in the mean

// A process that ends does not wait longer than this to have its figures counted.
constexpr std::chrono::seconds kLockTimeLimit{5};
constexpr std::chrono::milliseconds kLockPoll{1};

double mean_with(std::optional<double> old_ms, double total_ms, int count) {
  const double mean_ms = total_ms / count;
  if (!old_ms) return mean_ms;
  const double weight = 1 - std::pow(1 - kWeightOfRun, count);
  return *old_ms + weight * (mean_ms - *old_ms);
}

void drop_oldest_costs(LedgerContent& content) {
  if (content.costs.size() <= Ledger::kMostCosts) return;
  std::vector<std::chrono::sys_seconds> times;
  for (const auto& [name, cost] : content.costs) times.push_back(cost.seen);
  const std::size_t surplus = times.size() - Ledger::kMostCosts;
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(surplus - 1),
                   times.end());
  const auto last_dropped = times[surplus - 1];
  std::size_t dropped = 0;
  std::erase_if(content.costs, [&](const auto& item) {
    return item.second.seen <= last_dropped && dropped++ < surplus;
  });
}

LedgerContent parse(std::string_view text) {
  const auto json = nlohmann::json::parse(text);
  LedgerContent content;
  if (json.at("version").get<int>() != kVersion) return content;
  const auto& statistics = json.at("statistics");
  for (const auto& [name, counter] : kNamedCounters) {
    content.statistics.*counter = statistics.value(std::string(name), std::uint64_t{0});
  }
  const auto& rejected = statistics.at("rejected");
  for (std::size_t i = 0; i < kRejectReasons; ++i) {
    const std::string reason(to_text(static_cast<RejectReason>(i)));
    content.statistics.rejected[i] = rejected.value(reason, std::uint64_t{0});
  }
  for (const auto& [name, cost] : json.at("costs").items()) {
    const auto seen = std::chrono::seconds(cost.at(1).get<std::int64_t>());
    content.costs[name] = {cost.at(0).get<double>(), std::chrono::sys_seconds(seen)};
  }
  return content;
}

}  // namespace

std::string encode_ledger(const LedgerContent& content) {
  auto rejected = nlohmann::json::object();
  for (std::size_t i = 0; i < kRejectReasons; ++i) {
    if (content.statistics.rejected[i] == 0) continue;
    rejected[std::string(to_text(static_cast<RejectReason>(i)))] = content.statistics.rejected[i];
  }
  auto statistics = nlohmann::json{{"rejected", rejected}};
  for (const auto& [name, counter] : kNamedCounters) {
    statistics[std::string(name)] = content.statistics.*counter;
  }
  auto costs = nlohmann::json::object();
  for (const auto& [name, cost] : content.costs) {
    costs[name] = {cost.ms, cost.seen.time_since_epoch().count()};
  }
  const nlohmann::json json = {{"version", kVersion}, {"statistics", statistics}, {"costs", costs}};
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}

LedgerContent decode_ledger(std::string_view text) {
  try {
    return parse(text);
  } catch (const nlohmann::json::exception&) {
    return {};
  }
}

LedgerContent read_ledger(const CacheRoot& root) {
  const auto folder = root.open();
  if (!folder) return {};
  const auto layout = root.open_layout(*folder);
  if (!layout) return {};
  const auto text = root.read_file(*layout, kLedgerFile, kMostFileBytes);
  return text ? decode_ledger(*text) : LedgerContent{};
}

void Ledger::read_once() {
  if (content_) return;
  content_.emplace();
  if (!root_) return;
  try {
    content_ = read_ledger(*root_);
  } catch (const Error&) {
    // As if it were empty.
  }
}

std::optional<double> Ledger::cost_ms(std::string_view name) {
  name = name.substr(0, kMostNameBytes);
  const std::lock_guard guard(mutex_);
  read_once();
  std::optional<double> known_ms;
  const auto cost = content_->costs.find(name);
  if (cost != content_->costs.end()) known_ms = cost->second.ms;
  const auto runs = unwritten_.find(name);
  if (runs == unwritten_.end()) return known_ms;
  return mean_with(known_ms, runs->second.total_ms, runs->second.count);
}

void Ledger::remember(std::string_view name, double ms) {
  if (!std::isfinite(ms)) return;
  const std::lock_guard guard(mutex_);
  Runs& runs = unwritten_[std::string(name.substr(0, kMostNameBytes))];
  runs.total_ms += ms;
  ++runs.count;
}

void Ledger::forget_unwritten() {
  const std::lock_guard guard(mutex_);
  unwritten_.clear();
}

void Ledger::write(const DiskCacheStats& statistics) {
  const std::lock_guard guard(mutex_);
  if (!root_ || (unwritten_.empty() && statistics == DiskCacheStats{})) return;
  try {
    write_merged(statistics);
    unwritten_.clear();
  } catch (const Error&) {
    // A reader without write permission, a full disk: the store that met it has warned.
  }
}

void Ledger::write_merged(const DiskCacheStats& statistics) {
  const auto folder = root_->open();
  if (!folder) return;
  const auto layout = root_->open_layout(*folder);
  if (!layout) return;

  // Without a lock two processes that end at once may lose one's figures. Not worth more.
  HeldLock lock;
  try {
    LockHandle handle(root_->files(), root_->open_lock_file(*layout));
    const auto end = std::chrono::steady_clock::now() + kLockTimeLimit;
    bool locked = handle.try_lock(kLedgerLockByte, LockKind::kExclusive);
    while (!locked && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(kLockPoll);
      locked = handle.try_lock(kLedgerLockByte, LockKind::kExclusive);
    }
    if (!locked) return;
    lock = HeldLock(std::move(handle), kLedgerLockByte);
  } catch (const FileError&) {
    lock.release();
  }

  LedgerContent merged = read_ledger(*root_);
  merged.statistics = merged.statistics + statistics;
  const auto now = std::chrono::floor<std::chrono::seconds>(root_->files().now());
  for (const auto& [name, runs] : unwritten_) {
    const auto known = merged.costs.find(name);
    const auto known_ms =
        known == merged.costs.end() ? std::nullopt : std::optional(known->second.ms);
    merged.costs[name] = {mean_with(known_ms, runs.total_ms, runs.count), now};
  }
  drop_oldest_costs(merged);
  root_->write_file(*layout, kLedgerFile, encode_ledger(merged), /*sync=*/false);
}

}  // namespace ktjit::cache
