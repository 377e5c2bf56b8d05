// Puts together what options and machine give.
#include "jit/toolchain.h"

#include <charconv>
#include <fmt/format.h>

#include "core/error.h"
#include "runtime/cpu_device.h"
#include "runtime/driver_api.h"
#include "runtime/host_cpu.h"
#include "runtime/simulator_device.h"

namespace ktjit {
namespace {

NvrtcSearch nvrtc_search(const Options& options) {
  NvrtcSearch search;
  search.explicit_path = options.nvrtc;
  search.cuda_home = options.cuda_home;
  if (!options.python_environment.empty())
    search.python_environments.push_back(options.python_environment);
  // An explicit path is a choice, not a hint: nothing else takes its place.
  search.loader_path = search.toolkit_folders = options.nvrtc.empty();
  if (!options.nvrtc.empty()) search.cuda_home.clear(), search.python_environments.clear();
  return search;
}

cache::DiskCacheOptions cache_options(const Options& options,
                                      std::function<void(std::string_view)> log) {
  cache::DiskCacheOptions result;
  result.log = std::move(log);
  if (!options.cache_enabled) return result;
  const auto root = [&options](const std::filesystem::path& path) {
    return cache::RootOptions{path.string(), options.is_shared(path)};
  };
  if (!options.cache_dir.empty()) {
    result.writable = root(options.cache_dir);
  } else if (result.log && !options.sealed) {
    result.log("no home folder: compiled kernels are not kept; set KTJIT_CACHE_DIR");
  }
  if (*options.cache_max_bytes == kNoCacheCap) {
    result.max_bytes.reset();
  } else {
    result.max_bytes = *options.cache_max_bytes;
  }
  for (const std::filesystem::path& path : options.cache_path)
    result.read_only.push_back(root(path));
  return result;
}

EngineOptions engine_options(const Options& options) {
  EngineOptions result;
  result.sealed = options.sealed;
  result.threads = options.threads;
  result.tuning = options.tuning;
  return result;
}

/// The ordinal of "cuda" (0) or "cuda:2"; nothing for other names.
std::optional<int> cuda_ordinal(std::string_view name) {
  if (name == "cuda") return 0;
  if (!name.starts_with("cuda:")) return std::nullopt;
  int ordinal = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + 5, end, ordinal);
  if (error != std::errc() || rest != end || ordinal < 0) return std::nullopt;
  return ordinal;
}

std::unique_ptr<runtime::Device> open_cpu(const Options& options) {
  return runtime::make_cpu_device(runtime::make_tbb_executor(options.threads));
}

std::unique_ptr<runtime::Device> open_gpu(int ordinal) {
  std::string why_not;
  const std::shared_ptr<const runtime::DriverApi> api = runtime::try_load_driver(&why_not);
  const char* cure = "install NVIDIA's driver, or use --device cpu";
  if (!api) throw ToolchainError("no CUDA driver", why_not, cure);
  const std::vector<runtime::CudaDeviceInfo> found = runtime::list_cuda_devices(*api);
  if (ordinal >= static_cast<int>(found.size())) {
    throw ToolchainError(
        fmt::format("no device cuda:{}", ordinal),
        fmt::format("the CUDA driver, which has {} devices", found.size()),
        found.empty() ? "check nvidia-smi, or use --device cpu" : "choose one that is there");
  }
  return runtime::make_cuda_device(api, ordinal);
}

}  // namespace

Toolchain::Toolchain(Options options, std::function<void(std::string_view)> log)
    : options_(complete_options(std::move(options))) {
  nvrtc_candidates_ = find_nvrtc(nvrtc_search(options_));
  std::vector<std::shared_ptr<Compiler>> compilers;
  std::vector<std::string> not_usable;
  for (const NvrtcCandidate& candidate : nvrtc_candidates_) {
    if (!candidate.usable()) {
      not_usable.push_back(fmt::format("{}: {}", candidate.library.string(), candidate.problem));
      continue;
    }
    nvrtc_.push_back(std::make_shared<NvrtcCompiler>(candidate, options_.dump_dir));
    compilers.push_back(nvrtc_.back());
  }
  LlvmCompilerOptions llvm_options;
  llvm_options.worker = options_.worker;
  llvm_options.max_workers = options_.threads;
  llvm_options.dump_dir = options_.dump_dir;
  llvm_ = std::make_shared<LlvmCompiler>(llvm_options);
  compilers.push_back(llvm_);
  engine_ = std::make_unique<Engine>(std::move(compilers), cache_options(options_, std::move(log)),
                                     std::move(not_usable), engine_options(options_));
}

std::unique_ptr<runtime::Device> Toolchain::open_device(const std::string& name) {
  if (name == "cpu") {
    device_choice_reason_ = "asked for";
    return open_cpu(options_);
  }
  if (name == "sim") {
    device_choice_reason_ = "asked for";
    return runtime::make_simulator_device(runtime::make_tbb_executor(options_.threads));
  }
  if (const std::optional<int> ordinal = cuda_ordinal(name)) {
    device_choice_reason_ = "asked for";
    return open_gpu(*ordinal);
  }
  if (!name.empty()) throw SpecError("device", fmt::format("'{}'", name), "cuda, cuda:N, cpu, sim");
  try {
    auto device = open_gpu(0);
    device_choice_reason_ = "the first GPU";
    return device;
  } catch (const ToolchainError& no_gpu) {
    device_choice_reason_ = fmt::format("no GPU: {}", no_gpu.what());
  }
  return open_cpu(options_);
}

Target Toolchain::get_target(const std::string& name) const {
  return parse_target(name, runtime::detect_host_cpu().features);
}

int Toolchain::workers_started() const { return llvm_->workers_started(); }

int Toolchain::compiler_libraries_opened() const {
  int opened = 0;
  for (const auto& nvrtc : nvrtc_) opened += nvrtc->is_open() ? 1 : 0;
  return opened;
}

}  // namespace ktjit
