#include "jit/kernel_pack.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "cache/pack_writer.h"
#include "jit/artifact_entry.h"
#include "model/output_file.h"

namespace ktjit {
namespace {

/// The log without ptxas's "Compile time = 56.277 ms".
std::string without_times(std::string_view log) {
  std::string result;
  while (!log.empty()) {
    const std::size_t end = std::min(log.find('\n'), log.size() - 1) + 1;
    const std::string_view line = log.substr(0, end);
    if (line.find("Compile time = ") == std::string_view::npos) result += line;
    log.remove_prefix(end);
  }
  return result;
}

/// The entry without what differs each time.
cache::EntryToPack to_packed(const BuiltKernel& built) {
  Artifact artifact = built.artifact;
  artifact.compile_ms = 0;
  artifact.log = without_times(artifact.log);
  return {built.key, to_entry(artifact, built.spec, built.emitted, built.compiler)};
}

/// Runs `work`, with the cache's error for a file that can't be written turned into everybody's.
template <typename Work>
auto with_output_errors(const std::string& path, Work work) {
  try {
    return work();
  } catch (const cache::PackWriteError& error) {
    throw model::OutputError(path, error.problem());
  }
}

}  // namespace

void check_kernel_pack_target(const std::string& path) {
  with_output_errors(path, [&] { cache::check_pack_target(path); });
}

KernelPackReport write_kernel_pack(
    const std::string& path, const std::string& model, std::span<const BuiltKernel> kernels,
    std::span<const std::pair<cache::CacheKey, cache::Entry>> records) {
  std::vector<cache::EntryToPack> entries;
  std::set<cache::Digest> artifacts;
  std::set<std::string> targets;
  for (const BuiltKernel& built : kernels) {
    targets.insert(std::string(built.spec.target.name()));
    if (artifacts.insert(built.key.artifact_digest()).second) entries.push_back(to_packed(built));
  }
  const std::size_t different = entries.size();
  nlohmann::json manifest = {
      {"model", model}, {"targets", targets}, {"kernels", different}, {"ktjit", KTJIT_VERSION}};
  if (!records.empty()) manifest["tuning_records"] = records.size();
  for (const auto& [key, entry] : records) entries.push_back({key, entry});
  const cache::PackReport written =
      with_output_errors(path, [&] { return cache::write_pack(path, manifest, entries); });
  return {different, records.size(), {targets.begin(), targets.end()}, written.size_bytes};
}

}  // namespace ktjit
