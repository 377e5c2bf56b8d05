// The environment, read once and in one place.
#include "jit/options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fmt/format.h>
#include <string_view>

#include "core/error.h"
#include "jit/byte_size.h"

namespace ktjit {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void fill(std::filesystem::path& option, std::initializer_list<const char*> variables) {
  for (const char* name : variables) {
    if (option.empty()) option = variable(name);
  }
}

std::filesystem::path default_cache_dir() {
  // The XDG specification: a relative path in the variable is to be ignored.
  const std::filesystem::path xdg = variable("XDG_CACHE_HOME");
  if (xdg.is_absolute()) return xdg / "ktjit";
  const std::filesystem::path home = variable("HOME");
  return home.is_absolute() ? home / ".cache" / "ktjit" : std::filesystem::path();
}

/// "on", "off", or nothing if the variable is not set. Errors: SpecError for other values.
std::optional<bool> switch_of(const char* name) {
  const std::string value = variable(name);
  if (value.empty()) return std::nullopt;
  if (value == "on") return true;
  if (value == "off") return false;
  throw SpecError(name, fmt::format("'{}'", value), "on, off");
}

std::uint64_t default_cache_bytes() {
  constexpr const char* kName = "KTJIT_CACHE_MAX_SIZE";
  const std::string value = variable(kName);
  if (value.empty()) return kDefaultCacheBytes;
  if (value == "none") return kNoCacheCap;
  if (const auto bytes = parse_byte_size(value)) return *bytes;
  throw SpecError(kName, fmt::format("'{}'", value), "sizes such as 500M or 2G, bytes, and none");
}

/// One text for all ways to write a folder's path: "a/b", "a//b", "a/c/../b", "a/b/".
std::filesystem::path plain_path(const std::filesystem::path& path) {
  std::error_code ignored;
  std::filesystem::path plain = std::filesystem::absolute(path, ignored).lexically_normal();
  return plain.has_filename() ? plain : plain.parent_path();
}

std::vector<std::filesystem::path> split_path(std::string_view list) {
  std::vector<std::filesystem::path> paths;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(':'), list.size());
    if (end > 0) paths.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return paths;
}

}  // namespace

bool Options::is_shared(const std::filesystem::path& root) const {
  return std::any_of(cache_shared.begin(), cache_shared.end(),
                     [plain = plain_path(root)](const std::filesystem::path& shared) {
                       return plain_path(shared) == plain;
                     });
}

Options complete_options(Options given) {
  if (!switch_of("KTJIT_CACHE").value_or(true)) given.cache_enabled = false;
  if (switch_of("KTJIT_SEALED").value_or(false)) given.sealed = true;
  if (!switch_of("KTJIT_TUNING").value_or(true)) given.tuning = false;
  fill(given.cache_dir, {"KTJIT_CACHE_DIR"});
  if (given.cache_dir.empty()) given.cache_dir = default_cache_dir();
  if (given.cache_path.empty()) given.cache_path = split_path(variable("KTJIT_CACHE_PATH"));
  if (given.cache_shared.empty()) given.cache_shared = split_path(variable("KTJIT_CACHE_SHARED"));
  if (!given.cache_max_bytes) given.cache_max_bytes = default_cache_bytes();
  fill(given.nvrtc, {"KTJIT_NVRTC"});
  fill(given.cuda_home, {"CUDA_HOME", "CUDA_PATH"});
  fill(given.python_environment, {"VIRTUAL_ENV", "CONDA_PREFIX"});
  fill(given.worker, {"KTJIT_LLVM_WORKER"});
  fill(given.dump_dir, {"KTJIT_DUMP_DIR"});
  fill(given.disassembler, {"KTJIT_NVDISASM"});
  const std::string threads = variable("KTJIT_THREADS");
  if (given.threads == 0 && !threads.empty()) {
    const auto [end, error] =
        std::from_chars(threads.data(), threads.data() + threads.size(), given.threads);
    if (error != std::errc() || end != threads.data() + threads.size() || given.threads < 1) {
      throw SpecError("KTJIT_THREADS", fmt::format("'{}'", threads), "positive numbers");
    }
  }
  return given;
}

}  // namespace ktjit
