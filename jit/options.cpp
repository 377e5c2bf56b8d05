// The environment, read once and in one place.
#include "jit/options.h"

#include <charconv>
#include <cstdlib>
#include <fmt/format.h>
#include <string_view>

#include "core/error.h"

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

Options complete_options(Options given) {
  const std::string cache = variable("KTJIT_CACHE");
  if (cache == "off") {
    given.cache_enabled = false;
  } else if (!cache.empty() && cache != "on") {
    throw SpecError("KTJIT_CACHE", fmt::format("'{}'", cache), "on, off");
  }
  fill(given.cache_dir, {"KTJIT_CACHE_DIR"});
  if (given.cache_dir.empty()) given.cache_dir = default_cache_dir();
  if (given.cache_path.empty()) given.cache_path = split_path(variable("KTJIT_CACHE_PATH"));
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
