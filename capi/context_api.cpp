// Contexts: options in, compilers and cache out.
#include <dlfcn.h>
#include <filesystem>
#include <functional>
#include <utility>

#include "capi/abi_struct.h"
#include "capi/handles.h"
#include "capi/status.h"

#include "core/error.h"

namespace ktjit::capi {
namespace {

/// The worker beside this library, where it is installed or built; empty if there is none. Without
/// it the engine looks beside the running program.
std::filesystem::path worker_near_library() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<const void*>(&ktjit_abi_version), &info) == 0) return {};
  std::error_code error;
  const auto folder = std::filesystem::canonical(info.dli_fname, error).parent_path();
  if (error) return {};
  for (const std::filesystem::path& place :
       {folder / "ktjit-llvm", folder.parent_path() / "libexec" / "ktjit" / "ktjit-llvm",
        folder.parent_path() / "bin" / "ktjit-llvm"}) {
    if (std::filesystem::is_regular_file(place, error)) return place;
  }
  return {};
}

std::filesystem::path path_of(const char* text) {
  return text == nullptr ? std::filesystem::path() : std::filesystem::path(text);
}

std::vector<std::filesystem::path> paths_of(const char* list) {
  std::vector<std::filesystem::path> paths;
  std::string_view rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(':'), rest.size());
    if (end > 0) paths.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return paths;
}

Options to_options(const ktjit_options& given) {
  if (given.threads < 0) {
    throw SpecError("threads", fmt::format("{}", given.threads),
                    "positive numbers, 0 for as many as allowed");
  }
  Options options;
  options.cache_enabled = given.cache_off == 0;
  options.cache_dir = path_of(given.cache_dir);
  options.cache_path = paths_of(given.cache_path);
  options.cache_shared = paths_of(given.cache_shared);
  if (given.cache_max_bytes != 0) options.cache_max_bytes = given.cache_max_bytes;
  options.sealed = given.sealed != 0;
  options.tuning = given.tuning_off == 0;
  options.threads = given.threads;
  options.nvrtc = path_of(given.nvrtc);
  options.cuda_home = path_of(given.cuda_home);
  options.python_environment = path_of(given.python_environment);
  options.worker = path_of(given.worker);
  options.dump_dir = path_of(given.dump_dir);
  options = complete_options(std::move(options));
  if (options.worker.empty()) options.worker = worker_near_library();
  return options;
}

std::function<void(std::string_view)> to_log(const ktjit_options& given) {
  if (given.log == nullptr) return [](std::string_view) {};
  return [log = given.log, data = given.log_data](std::string_view line) {
    log(data, std::string(line).c_str());
  };
}

}  // namespace

ContextState::ContextState(Options options, std::function<void(std::string_view)> log)
    : toolchain(std::move(options), std::move(log)) {}

}  // namespace ktjit::capi

using namespace ktjit::capi;

uint32_t ktjit_abi_version(void) { return KTJIT_ABI_VERSION; }

const char* ktjit_version(void) { return KTJIT_VERSION; }

ktjit_status ktjit_context_create(const ktjit_options* options, ktjit_context** context) {
  return guarded([&] {
    require(context, "context");
    const ktjit_options given =
        options == nullptr ? ktjit_options_init() : read_struct(options, "options");
    *context = new ktjit_context{std::make_shared<ContextState>(to_options(given), to_log(given))};
  });
}

void ktjit_context_destroy(ktjit_context* context) { delete context; }
