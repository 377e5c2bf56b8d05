// What ktjit costs the host, without Python:
//
//   host_costs launch [--rounds N] [--json OUT]
//       microseconds of a repeated launch: the bare cuLaunchKernel, ktjit's C++ and its C interface, on the same
//       tiny kernels of 3 and of 8 arguments, in turn. Needs a GPU.
//   host_costs warm MODEL [--device cuda|none] [--target T] [--rounds N] [--json OUT]
//       microseconds a kernel until all kernels of the model are ready on a warm cache: emit, find (emit, key,
//       look-up, checksum, reading of the entry), load (cuModuleLoadData and attributes), and Engine::load as a
//       whole. Compiles first what the cache lacks. With --device none, for T (sm_90a), all but the load.
//
//   host_costs tiers MODEL [--device cuda|cpu] [--target T] [--rounds N] [--json OUT]
//       all product kernels of the model on an empty cache, at once: milliseconds until all can be launched and
//       until all are full, full versions only and quick ones first; and the device's time of each quick version
//       and its full one on 14336 rows of zeros.
//
// Figures are medians over rounds; bench/launch_cost.py puts the first beside CuPy's and Triton's.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "capi/ktjit.h"

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/format.h"
#include "jit/kernel_future.h"
#include "jit/planner.h"
#include "jit/toolchain.h"
#include "model/open_model.h"
#include "runtime/cuda_context.h"
#include "runtime/cuda_device.h"
#include "runtime/cuda_stream.h"

namespace ktjit {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

struct Arguments {
  std::string mode;
  std::string model;
  std::string device = "cuda";
  std::string target;
  std::string json;
  int rounds = 0;  ///< 0: the mode's default
};

Arguments parse(int argc, char** argv) {
  const std::string usage =
      "usage: host_costs launch | warm MODEL | tiers MODEL [--device cuda|cpu|none] [--target T] "
      "[--rounds N] [--json OUT]";
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("--")) {
      if (++i == argc) throw std::runtime_error(usage);
      if (word == "--device")
        arguments.device = argv[i];
      else if (word == "--target")
        arguments.target = argv[i];
      else if (word == "--json")
        arguments.json = argv[i];
      else if (word == "--rounds")
        arguments.rounds = std::stoi(argv[i]);
      else
        throw std::runtime_error(usage);
    } else if (arguments.mode.empty()) {
      arguments.mode = word;
    } else {
      arguments.model = word;
    }
  }
  const bool good =
      (arguments.mode == "launch" && arguments.model.empty()) ||
      ((arguments.mode == "warm" || arguments.mode == "tiers") && !arguments.model.empty());
  if (!good) throw std::runtime_error(usage);
  return arguments;
}

// ---- launch ---------------------------------------------------------------------------------------

void check(ktjit_status status) {
  if (status != KTJIT_OK) throw std::runtime_error(ktjit_last_error());
}

/// A kernel so small that the host is slower, in both interfaces' words.
struct TinyKernel {
  KernelSpec spec;
  ktjit_kernel_desc desc;
};

/// w, y, rows.
TinyKernel three_arguments(const Target& target) {
  TinyKernel tiny{make_spec(Op::kDequant, FormatId::kQ8_0, std::nullopt, 32, target),
                  ktjit_kernel_desc_init()};
  tiny.desc.op = "dequant";
  tiny.desc.format = "q8_0";
  tiny.desc.cols = 32;
  return tiny;
}

/// w, scale, x, x_scale, bias, y, rows, n.
TinyKernel eight_arguments(const Target& target) {
  TinyKernel tiny{make_spec(Op::kMatmul, FormatId::kFp8E4M3, ScaleGrid{128, 128}, 128, target),
                  ktjit_kernel_desc_init()};
  tiny.spec.activation = ActivationPolicy::kAfp8;
  tiny.spec.x_format = FormatId::kFp8E4M3;
  tiny.spec.x_scale = ScaleGrid{1, 128};
  tiny.spec.bias = FormatId::kF32;
  tiny.spec.tuning = matmul_tuning(target, 1);
  tiny.desc.op = "matmul";
  tiny.desc.format = "fp8_e4m3";
  tiny.desc.cols = 128;
  tiny.desc.scale_type = "f32";
  tiny.desc.scale_block_rows = tiny.desc.scale_block_cols = 128;
  tiny.desc.activation = "afp8";
  tiny.desc.x_scale_group = 128;
  tiny.desc.bias_format = "f32";
  tiny.desc.x_columns = 1;
  return tiny;
}

struct Way {
  std::string name;
  std::function<void(int launches)> launch;
  std::vector<double> us = {};  ///< one launch, by round
};

/// Few enough launches that the queue never fills and makes the host wait.
constexpr int kLaunchesPerRound = 200;

void time_ways(std::vector<Way>& ways, int rounds, const std::function<void()>& wait) {
  for (int round = -3; round < rounds; ++round) {  // the first three warm up
    for (Way& way : ways) {
      const auto start = Clock::now();
      way.launch(kLaunchesPerRound);
      const double us = us_since(start) / kLaunchesPerRound;
      wait();
      if (round >= 0) way.us.push_back(us);
    }
  }
}

Json time_launches(const TinyKernel& tiny, Toolchain& toolchain, runtime::CudaDevice& device,
                   ktjit_device* c_device, int rounds) {
  const auto driver = runtime::try_load_driver();
  const auto context = runtime::CudaContext::retain_primary(driver, 0);
  const runtime::CurrentContext current(*context);  // as an application that uses CUDA has it
  const runtime::DriverApi& api = *driver;
  const auto stream = device.make_stream();
  runtime::CudaStream& cuda_stream = runtime::to_cuda_stream(*stream);
  constexpr std::size_t kRoom = 1 << 16;
  const auto memory = device.allocate(kRoom);
  device.fill(*stream, *memory, std::byte{0});
  const std::uint64_t at = memory->address();

  const LoadedKernel loaded = toolchain.engine().load(device, tiny.spec);
  const bool is_product = ktjit::is_product(tiny.spec.op);
  std::vector<std::uint64_t> values = {at, at + kRoom / 2, 1};
  if (is_product) values = {at, at, at, at, at, at + kRoom / 2, 1, 1};

  runtime::CuModule module = nullptr;
  runtime::CuFunction function = nullptr;
  context->check(api.module_load_data(&module, loaded.built.artifact.bytes.data()),
                 "cuModuleLoadData", "loading the bare kernel");
  context->check(
      api.module_get_function(&function, module, loaded.built.artifact.entry_name.c_str()),
      "cuModuleGetFunction", "loading the bare kernel");
  std::vector<void*> pointers;
  for (std::uint64_t& value : values) pointers.push_back(&value);
  const LaunchGrid grid = grid_for(loaded.built.emitted.launch, 1, 1);

  ktjit_kernel* raw_kernel = nullptr;
  check(ktjit_kernel_load(c_device, &tiny.desc, nullptr, &raw_kernel));
  const std::unique_ptr<ktjit_kernel, decltype(&ktjit_kernel_destroy)> c_kernel(
      raw_kernel, ktjit_kernel_destroy);
  ktjit_arguments c_arguments = ktjit_arguments_init();
  c_arguments.w = at;
  c_arguments.y = at + kRoom / 2;
  if (is_product) c_arguments.scale = c_arguments.x = c_arguments.x_scale = c_arguments.bias = at;

  std::vector<Way> ways = {
      {"cuLaunchKernel",
       [&](int launches) {
         for (int i = 0; i < launches; ++i) {
           api.launch_kernel(function, grid.x, grid.y, 1, grid.threads, 1, 1, grid.smem_bytes,
                             cuda_stream.handle(), pointers.data(), nullptr);
         }
       }},
      {"ktjit C++",
       [&](int launches) {
         for (int i = 0; i < launches; ++i) loaded.launch(*stream, 1, values, 1);
       }},
      {"ktjit C", [&](int launches) {
         for (int i = 0; i < launches; ++i)
           check(ktjit_kernel_launch(c_kernel.get(), cuda_stream.handle(), 1, 1, &c_arguments));
       }}};
  LoadedKernel dependent;
  if (device.native_target().sm >= 90 && api.launch_kernel_ex != nullptr) {
    KernelSpec spec = tiny.spec;
    spec.dependent_launch = true;
    dependent = toolchain.engine().load(device, spec);
    ways.push_back({"ktjit C++, dependent", [&](int launches) {
                      for (int i = 0; i < launches; ++i) dependent.launch(*stream, 1, values, 1);
                    }});
  }
  time_ways(ways, rounds, [&] { stream->synchronize(); });
  api.module_unload(module);

  Json result = {{"arguments", values.size()}, {"kernel", loaded.built.artifact.entry_name}};
  const double bare = median(ways[0].us);
  for (const Way& way : ways) {
    result["us"][way.name] = median(way.us);
    std::printf("  %-24s %7.3f us   %+7.3f\n", way.name.c_str(), median(way.us),
                median(way.us) - bare);
  }
  return result;
}

Json run_launch(const Arguments& arguments) {
  const int rounds = arguments.rounds == 0 ? 60 : arguments.rounds;
  Toolchain toolchain({}, [](std::string_view line) { fmt::print(stderr, "{}\n", line); });
  const std::unique_ptr<runtime::Device> opened = toolchain.open_device("cuda");
  auto& device = dynamic_cast<runtime::CudaDevice&>(*opened);
  ktjit_context* raw_context = nullptr;
  ktjit_device* raw_device = nullptr;
  check(ktjit_context_create(nullptr, &raw_context));
  const std::unique_ptr<ktjit_context, decltype(&ktjit_context_destroy)> context(
      raw_context, ktjit_context_destroy);
  check(ktjit_device_open(context.get(), "cuda", &raw_device));
  const std::unique_ptr<ktjit_device, decltype(&ktjit_device_destroy)> c_device(
      raw_device, ktjit_device_destroy);

  Json result = {{"device", device.description()}, {"rounds", rounds}};
  std::printf("%s; %d launches a round, %d rounds, medians\n", device.description().c_str(),
              kLaunchesPerRound, rounds);
  for (const TinyKernel& tiny :
       {three_arguments(device.native_target()), eight_arguments(device.native_target())}) {
    std::printf("%s\n", kernel_name(tiny.spec).c_str());
    result["kernels"].push_back(time_launches(tiny, toolchain, device, c_device.get(), rounds));
  }
  return result;
}

// ---- warm -----------------------------------------------------------------------------------------

/// Times of one kernel, by round.
struct KernelTimes {
  std::string name;
  std::size_t bytes = 0;
  std::vector<double> emit_us = {}, find_us = {}, load_us = {}, whole_us = {};
};

Json run_warm(const Arguments& arguments) {
  const int rounds = arguments.rounds == 0 ? 21 : arguments.rounds;
  const auto log = [](std::string_view line) { fmt::print(stderr, "{}\n", line); };
  Toolchain filler({}, log);
  const bool has_device = arguments.device != "none";
  std::unique_ptr<runtime::Device> device;
  if (has_device) device = filler.open_device(arguments.device);
  const Target target = !arguments.target.empty() ? filler.get_target(arguments.target)
                        : has_device              ? device->native_target()
                                                  : filler.get_target("sm_90a");
  const ArtifactKind kind = native_artifact_kind(target);
  const model::Model model = model::open_model(arguments.model);
  const std::vector<KernelSpec> specs = make_plan(model, target).all_kernels();
  const auto build = [&](Toolchain& toolchain, const KernelSpec& spec) {
    return has_device ? toolchain.engine().build_for(*device, spec)
                      : toolchain.engine().build(spec, kind);
  };

  std::vector<KernelTimes> kernels;
  const auto fill_start = Clock::now();
  for (const KernelSpec& spec : specs) {
    const BuiltKernel built = build(filler, spec);
    kernels.push_back({built.emitted.entry_name, built.artifact.bytes.size()});
  }
  std::printf("%zu kernels for %s, cache filled in %.1f ms\n", specs.size(), target.name().c_str(),
              us_since(fill_start) / 1e3);

  int opened = 0, made = 0;
  std::vector<double> ready_us, toolchain_us;
  // New toolchains: nothing is in memory, all comes from disk.
  for (int round = 0; round < rounds; ++round) {
    const auto made_at = Clock::now();
    Toolchain parts({}, log);
    toolchain_us.push_back(us_since(made_at));
    for (std::size_t i = 0; i < specs.size(); ++i) {
      auto start = Clock::now();
      const codegen::EmittedKernel emitted = codegen::emit(specs[i]);
      kernels[i].emit_us.push_back(us_since(start));
      start = Clock::now();
      const BuiltKernel built = build(parts, specs[i]);
      kernels[i].find_us.push_back(us_since(start));
      made += !built.from_cache();
      if (!has_device) continue;
      start = Clock::now();
      const auto loaded = device->load(built.artifact);
      kernels[i].load_us.push_back(us_since(start));
    }
    opened += parts.compiler_libraries_opened() + parts.workers_started();
    if (!has_device) continue;
    Toolchain whole({}, log);
    std::vector<LoadedKernel> loaded;
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const auto start = Clock::now();
      loaded.push_back(whole.engine().load(*device, specs[i]));
      kernels[i].whole_us.push_back(us_since(start));
    }
    ready_us.push_back(us_since(begin));
    opened += whole.compiler_libraries_opened() + whole.workers_started();
  }

  Json result = {{"target", target.name()},
                 {"kernels", specs.size()},
                 {"rounds", rounds},
                 {"compilers_opened", opened},
                 {"not_from_cache", made}};
  if (has_device) result["device"] = device->description();
  std::printf(
      "%d rounds, medians; the first kernel of a process pays for reading the compilers' "
      "identities\n%-10s %10s %10s %10s %10s\n",
      rounds, "us", "median", "slowest", "first", "sum");
  const auto report = [&](const std::string& name, std::vector<double> KernelTimes::* times) {
    std::vector<double> medians;
    double sum = 0;
    for (const KernelTimes& kernel : kernels) medians.push_back(median(kernel.*times));
    for (double one : medians) sum += one;
    const double slowest = *std::max_element(medians.begin(), medians.end());
    result[name] = {{"median_us", median(medians)},
                    {"slowest_us", slowest},
                    {"first_us", medians.front()},
                    {"sum_us", sum}};
    std::printf("%-10s %10.1f %10.1f %10.1f %10.1f\n", name.c_str(), median(medians), slowest,
                medians.front(), sum);
  };
  if (kernels.empty()) throw std::runtime_error(arguments.model + " needs no kernels");
  result["toolchain_ms"] = median(toolchain_us) / 1e3;
  std::printf("looking for compilers, once a process: %.2f ms\n", median(toolchain_us) / 1e3);
  report("emit", &KernelTimes::emit_us);
  report("find", &KernelTimes::find_us);
  if (has_device) {
    report("load", &KernelTimes::load_us);
    report("whole", &KernelTimes::whole_us);
    result["ready_ms"] = median(ready_us) / 1e3;
    std::printf("all ready in %.2f ms, one after another\n", median(ready_us) / 1e3);
  }
  std::printf("%d compilers opened, %d kernels not from the cache\n", opened, made);
  return result;
}

// ---- tiers ----------------------------------------------------------------------------------------

/// A cache folder that ends with this object.
class EmptyCache {
 public:
  EmptyCache() {
    std::string path = (std::filesystem::temp_directory_path() / "ktjit-tiers-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("can't make " + path);
    path_ = path;
  }
  EmptyCache(const EmptyCache&) = delete;
  EmptyCache& operator=(const EmptyCache&) = delete;
  ~EmptyCache() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::unique_ptr<Toolchain> make_toolchain() const {
    Options options;
    options.cache_dir = path_;
    return std::make_unique<Toolchain>(
        options, [](std::string_view line) { fmt::print(stderr, "{}\n", line); });
  }

 private:
  std::filesystem::path path_;
};

struct TierTimes {
  double launchable_ms = 0;
  double full_ms = 0;
  std::size_t quick = 0;  ///< kernels that began with a quick version
};

TierTimes time_tiers(const std::shared_ptr<runtime::Device>& device,
                     const std::vector<KernelSpec>& specs, Tiers tiers) {
  const EmptyCache cache;
  const auto toolchain = cache.make_toolchain();
  const auto start = Clock::now();
  std::vector<KernelFuture> futures;
  for (const KernelSpec& spec : specs)
    futures.push_back(toolchain->engine().load_async(device, spec, tiers));
  TierTimes times;
  for (const KernelFuture& future : futures)
    times.quick += future.get().built.quality == Quality::kQuick;
  times.launchable_ms = us_since(start) / 1e3;
  for (const KernelFuture& future : futures) future.wait_full();
  times.full_ms = us_since(start) / 1e3;
  return times;
}

/// Microseconds of one launch, the median of some.
double time_kernel(runtime::Device& device, const LoadedKernel& kernel) {
  constexpr std::int64_t kRows = 14336;
  constexpr std::int64_t kMatmulRows = 32;
  const KernelSpec& spec = kernel.built.spec;
  const std::int64_t n = spec.op == Op::kMatmul ? kMatmulRows : 1;
  const std::int64_t cols = spec.layout.cols;
  const auto stream = device.make_stream();
  std::vector<std::unique_ptr<runtime::Buffer>> buffers;
  std::vector<std::uint64_t> arguments;
  const auto add = [&](std::int64_t bytes) {
    buffers.push_back(device.allocate(static_cast<std::size_t>(bytes)));
    device.fill(*stream, *buffers.back(), std::byte{0});
    arguments.push_back(buffers.back()->address());
  };
  add(kRows * row_bytes(get_format(spec.weight), cols));
  if (spec.scale) add(spec.scale->plane_bytes(kRows, cols));
  add(n * row_bytes(get_format(spec.x_format), cols));
  add(n * kRows * static_cast<std::int64_t>(sizeof(float)));
  arguments.push_back(static_cast<std::uint64_t>(kRows));
  arguments.push_back(static_cast<std::uint64_t>(n));
  std::vector<double> times;
  for (int i = 0; i < 11; ++i) {
    times.push_back(device.time_us(*stream, [&] { kernel.launch(*stream, kRows, arguments, n); }));
  }
  return median(times);
}

Json run_tiers(const Arguments& arguments) {
  const int rounds = arguments.rounds == 0 ? 5 : arguments.rounds;
  const EmptyCache cache;
  const auto toolchain = cache.make_toolchain();
  const std::shared_ptr<runtime::Device> device = toolchain->open_device(arguments.device);
  const Target target =
      arguments.target.empty() ? device->native_target() : toolchain->get_target(arguments.target);
  const model::Model model = model::open_model(arguments.model);
  std::vector<KernelSpec> specs;
  for (const KernelSpec& spec : make_plan(model, target).all_kernels()) {
    if (is_product(spec.op)) specs.push_back(spec);
  }
  std::printf("%s; %zu products for %s, %d rounds, medians\n", device->description().c_str(),
              specs.size(), target.name().c_str(), rounds);

  Json result = {{"device", device->description()}, {"target", target.name()}};
  for (const auto& [name, tiers] :
       {std::pair{"full only", Tiers::kFullOnly}, std::pair{"quick first", Tiers::kQuickFirst}}) {
    std::vector<double> launchable, full;
    std::size_t quick = 0;
    for (int round = 0; round < rounds; ++round) {
      const TierTimes times = time_tiers(device, specs, tiers);
      launchable.push_back(times.launchable_ms);
      full.push_back(times.full_ms);
      quick = times.quick;
    }
    result[name] = {{"launchable_ms", median(launchable)}, {"full_ms", median(full)}};
    std::printf("%-12s all launchable after %7.1f ms, all full after %7.1f ms, %zu quick\n", name,
                median(launchable), median(full), quick);
  }

  for (const KernelSpec& spec : specs) {
    const EmptyCache empty;
    const auto alone = empty.make_toolchain();
    const KernelFuture future = alone->engine().load_async(device, spec, Tiers::kQuickFirst);
    const LoadedKernel first = future.get();
    future.cancel();  // the quick version stays
    if (first.is_full()) continue;
    const LoadedKernel full = toolchain->engine().load(*device, spec);
    const double quick_us = time_kernel(*device, first);
    const double full_us = time_kernel(*device, full);
    std::printf("%-48s quick %8.1f us (compiled in %5.0f ms), full %8.1f us (%5.0f ms)\n",
                first.built.emitted.entry_name.c_str(), quick_us, first.built.artifact.compile_ms,
                full_us, full.built.artifact.compile_ms);
    result["kernels"].push_back({{"kernel", first.built.emitted.entry_name},
                                 {"quick_us", quick_us},
                                 {"full_us", full_us},
                                 {"quick_compile_ms", first.built.artifact.compile_ms},
                                 {"full_compile_ms", full.built.artifact.compile_ms}});
  }
  return result;
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  const Json result = arguments.mode == "launch" ? run_launch(arguments)
                      : arguments.mode == "warm" ? run_warm(arguments)
                                                 : run_tiers(arguments);
  if (!arguments.json.empty()) {
    std::ofstream file(arguments.json);
    file << result.dump(1) << "\n";
    if (!file.flush()) throw std::runtime_error("can't write " + arguments.json);
  }
  // Not warm after all: the figures are not what they say.
  return result.value("compilers_opened", 0) + result.value("not_from_cache", 0) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ktjit

int main(int argc, char** argv) {
  try {
    return ktjit::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "host_costs: {}\n", error.what());
    return 2;
  }
}
