// Dequant at every setting of its knobs, on a GPU:
//
//   dequant_shapes [--formats F,F,...] [--targets T,T,...] [--rounds N]
//
// GB/s of bytes read and written, medians of device times over rounds, the launches walking over matrices that
// together are larger than the caches. ggml's formats to f32 as 128256 x 4096; fp8_e4m3 with 128 x 128 scales to
// bf16 as 7168 x 18432 and 4096 x 14336. The first 16 rows of each setting must have the bits of the first
// setting's. Targets: "native" (the default) or sm_86 and so on.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "jit/toolchain.h"

namespace ktjit {
namespace {

struct Work {
  std::string format;
  FormatId y_format = FormatId::kF32;
  std::optional<ScaleGrid> scale;
  std::int64_t rows = 0, cols = 0;
};

struct Setting {
  Tuning tuning;
  bool dependent_launch = false;
  LoadedKernel kernel = {};
  std::string problem = {};  ///< why it doesn't exist
  std::vector<double> us = {};
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::vector<Work> works_of(const std::vector<std::string>& formats) {
  std::vector<Work> works;
  for (const std::string& format : formats) {
    const FormatId id = get_format(format).id;
    if (get_format(id).family != FormatFamily::kFp8) {
      works.push_back({format, FormatId::kF32, fixed_scale_grid(id), 128256, 4096});
      continue;
    }
    works.push_back({format, FormatId::kBF16, ScaleGrid{128, 128, ScaleType::kF32}, 7168, 18432});
    works.push_back({format, FormatId::kBF16, ScaleGrid{128, 128, ScaleType::kF32}, 4096, 14336});
  }
  return works;
}

std::vector<Setting> all_settings(const Work& work, const Target& target) {
  std::vector<Setting> settings = {{Tuning{}}};
  if (target.sm >= 90) settings.push_back({Tuning{}, true});
  const bool has_blocks = get_format(get_format(work.format).id).block_elems > 1;
  for (DataPath w_path : {DataPath::kDirect, DataPath::kShared}) {
    if (w_path == DataPath::kShared && !has_blocks) continue;
    for (DataPath y_path : {DataPath::kDirect, DataPath::kShared}) {
      for (int runs : {1, 2, 4}) {
        for (int threads : {128, 256}) {
          // Stores of f32 that leave half of each sector to the next store: one setting, to compare.
          const bool is_known_slow = y_path == DataPath::kDirect && work.y_format == FormatId::kF32;
          if (is_known_slow && (w_path == DataPath::kShared || runs > 1 || threads < 256)) continue;
          Tuning tuning;
          tuning.threads = threads;
          tuning.runs_per_thread = runs;
          tuning.w_path = w_path;
          tuning.y_path = y_path;
          settings.push_back({tuning});
        }
      }
    }
  }
  return settings;
}

/// Random bytes without bit 6: no FP8 code is a NaN, no f16 infinite.
std::vector<std::byte> weight_bytes(std::size_t count) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(count);
  for (std::size_t at = 0; at + 8 <= count; at += 8) {
    const std::uint64_t word = random() & 0xbfbfbfbfbfbfbfbfULL;
    std::memcpy(bytes.data() + at, &word, 8);
  }
  return bytes;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void build_all(std::vector<Setting>& settings, const KernelSpec& base, Engine& engine,
               runtime::Device& device) {
  std::atomic<std::size_t> next{0};
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = next++; i < settings.size(); i = next++) {
        KernelSpec spec = base;
        spec.tuning = settings[i].tuning;
        spec.dependent_launch = settings[i].dependent_launch;
        try {
          engine.build_for(device, spec);
        } catch (const Error& error) {
          settings[i].problem = error.what();
        }
      }
    });
  }
}

void measure(const Work& work, const Target& target, int rounds, Toolchain& toolchain,
             runtime::Device& device) {
  KernelSpec spec =
      make_spec(Op::kDequant, get_format(work.format).id, work.scale, work.cols, target);
  spec.y_format = work.y_format;
  std::vector<Setting> settings = all_settings(work, target);
  build_all(settings, spec, toolchain.engine(), device);

  const Format& format = get_format(spec.weight);
  const auto w_bytes = static_cast<std::size_t>(work.rows * row_bytes(format, work.cols));
  const auto y_bytes =
      static_cast<std::size_t>(work.rows * row_bytes(get_format(spec.y_format), work.cols));
  const std::size_t scales =
      work.scale
          ? static_cast<std::size_t>((work.rows + work.scale->block_rows - 1) /
                                     work.scale->block_rows * work.scale->cols_of_scales(work.cols))
          : 0;
  const double bytes = static_cast<double>(w_bytes + y_bytes + 4 * scales);
  const std::size_t copies = std::max<std::size_t>(1, (std::size_t{3} << 30) / (w_bytes + y_bytes));
  // Enough that the events around them cost nothing.
  const int launches = copies > 1 ? 24 : 4;
  const auto stream = device.make_stream();
  const auto w = device.allocate(copies * w_bytes);
  const auto y = device.allocate(copies * y_bytes);
  const std::vector<std::byte> host = weight_bytes(w_bytes);
  for (std::size_t copy = 0; copy < copies; ++copy)
    device.upload(*stream, host, *w, copy * w_bytes);
  const std::vector<float> scale_values(std::max<std::size_t>(scales, 1), 0.013f);
  const auto scale =
      runtime::place_on_device(device, *stream, std::as_bytes(std::span(scale_values)));
  stream->synchronize();

  constexpr std::size_t kCheckedRows = 16;
  std::vector<std::byte> expected(kCheckedRows * y_bytes / static_cast<std::size_t>(work.rows));
  std::vector<std::byte> got(expected.size());
  for (std::size_t i = 0; i < settings.size(); ++i) {
    Setting& setting = settings[i];
    if (!setting.problem.empty()) continue;
    spec.tuning = setting.tuning;
    spec.dependent_launch = setting.dependent_launch;
    setting.kernel = toolchain.engine().load(device, spec);
    std::size_t copy = 0;
    const auto launch = [&] {
      std::vector<std::uint64_t> arguments = {w->address() + copy * w_bytes};
      if (scales != 0) arguments.push_back(scale->address());
      arguments.push_back(y->address() + copy * y_bytes);
      arguments.push_back(static_cast<std::uint64_t>(work.rows));
      setting.kernel.launch(*stream, work.rows, arguments);
      copy = (copy + 1) % copies;
    };
    device.fill(*stream, *y, std::byte{0xff});
    launch();
    device.download(*stream, *y, 0, i == 0 ? expected : got);
    stream->synchronize();
    if (i != 0 && got != expected) setting.problem = "WRONG: not the bits of the first setting";
  }
  for (int round = 0; round < rounds; ++round) {
    for (Setting& setting : settings) {
      if (!setting.problem.empty()) continue;
      std::size_t copy = static_cast<std::size_t>(round) % copies;
      const double us = device.time_us(*stream, [&] {
        for (int launch = 0; launch < launches; ++launch) {
          std::vector<std::uint64_t> arguments = {w->address() + copy * w_bytes};
          if (scales != 0) arguments.push_back(scale->address());
          arguments.push_back(y->address() + copy * y_bytes);
          arguments.push_back(static_cast<std::uint64_t>(work.rows));
          setting.kernel.launch(*stream, work.rows, arguments);
          copy = (copy + 1) % copies;
        }
      });
      setting.us.push_back(us / launches);
    }
  }

  std::printf("%s to %s, %lld x %lld, %s\n", work.format.c_str(),
              std::string(get_format(work.y_format).name).c_str(),
              static_cast<long long>(work.rows), static_cast<long long>(work.cols),
              target.name().c_str());
  const auto gbps = [&](const Setting& setting) { return bytes / median(setting.us) / 1e3; };
  const Setting* best = nullptr;
  for (const Setting& setting : settings) {
    const Tuning& tuning = setting.tuning;
    const std::string name =
        &setting == &settings[0] ? "default"
        : setting.dependent_launch
            ? "default, dependent launch"
            : fmt::format("threads {:3} runs {} w {:6} y {:6}", tuning.threads,
                          tuning.runs_per_thread, data_path_name(tuning.w_path),
                          data_path_name(tuning.y_path));
    if (!setting.problem.empty()) {
      std::printf("  %-44s %s\n", name.c_str(), setting.problem.c_str());
      continue;
    }
    const auto resources = setting.kernel.kernel->resources();
    std::printf("  %-44s %8.1f us %6.0f GB/s  %d registers\n", name.c_str(), median(setting.us),
                gbps(setting), resources.registers.value_or(-1));
    if (best == nullptr || gbps(setting) > gbps(*best)) best = &setting;
  }
  if (best != nullptr) std::printf("  best %.0f GB/s\n", gbps(*best));
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  std::vector<std::string> formats = {
      "fp8_e4m3", "q8_0",  "q6_K",    "q5_K",  "q4_K",       "q4_0",       "iq4_nl",
      "iq4_xs",   "q3_K",  "q2_K",    "iq3_s", "iq2_xxs",    "ggml_mxfp4", "q4_1",
      "q5_0",     "q5_1",  "iq3_xxs", "iq2_s", "iq2_xs",     "iq1_s",      "iq1_m",
      "tq1_0",    "tq2_0", "q1_0",    "q2_0",  "ggml_nvfp4", "mxfp4",      "bf16"};
  std::vector<std::string> targets = {"native"};
  int rounds = 7;
  for (int i = 1; i < argc; i += 2) {
    const std::string word = argv[i];
    if (i + 1 == argc) throw std::runtime_error(word + " needs a value");
    if (word == "--formats")
      formats = split(argv[i + 1]);
    else if (word == "--targets")
      targets = split(argv[i + 1]);
    else if (word == "--rounds")
      rounds = std::stoi(argv[i + 1]);
    else
      throw std::runtime_error(
          "usage: dequant_shapes [--formats F,...] [--targets T,...] [--rounds N]");
  }
  Toolchain toolchain({}, [](std::string_view line) { fmt::print(stderr, "{}\n", line); });
  const auto device = toolchain.open_device("cuda");
  std::printf("%s, %d rounds\n", device->description().c_str(), rounds);
  for (const std::string& name : targets) {
    const Target target = name == "native" ? device->native_target() : toolchain.get_target(name);
    for (const Work& work : works_of(formats)) measure(work, target, rounds, toolchain, *device);
  }
  return 0;
}

}  // namespace
}  // namespace ktjit

int main(int argc, char** argv) {
  try {
    return ktjit::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dequant_shapes: %s\n", error.what());
    return 1;
  }
}
