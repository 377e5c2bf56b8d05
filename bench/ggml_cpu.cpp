// ktjit's CPU products beside ggml's, on the same bytes, in one process: a pass of each in turn, and a read of memory
// between them, so that a machine whose state changes changes it for all.
//
//   ggml_cpu [--op matvec|matmul] [--format q4_K,...] [--shape ROWSxCOLS,...] [--n 1] [--policy a16,a8,tc]
//            [--layout auto|native] [--target cpu] [--threads 1] [--passes 9] [--data MIB] [--clock wall|cpu] [--json OUT]
//
// A pass multiplies x by copies of w that together have --data MiB (1088: more than twice the largest caches),
// one after another. ggml's w lie as in files, and once more in each of its own layouts that takes the format (its
// "repack" and AMX buffers); its time has the conversion of x and its threads' barriers in it, ours likewise. Formats
// that ggml lacks are measured beside the read alone. Figures are the smallest and the median time of the passes; GB/s
// counts the bytes of w as files have them; policy tc is a16 at tensor-core precision, of x that is rounded to bf16 before; "x" is the time of ggml's best layout over ours, of the smallest times and
// of the medians. Errors are root mean squares of y - reference over those of the reference, 64 rows in double.
//
// --clock cpu counts the time of this process on its cores, which on a machine that others use says more with one thread.
//
// Built where CMake finds ggml: cmake -D KTJIT_GGML=/prefix/of/an/installed/ggml.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <time.h>
#include <vector>

#include "core/cpu_tiles.h"
#include "core/error.h"
#include "core/interleaved_layout.h"
#include "core/prepared_layout.h"
#include "jit/bench_weights.h"
#include "jit/reference_ops.h"
#include "jit/toolchain.h"
#include "runtime/cpu_device.h"

namespace ktjit {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  Op op = Op::kMatvec;
  std::vector<std::string> formats = {"q4_K"};
  std::vector<std::string> shapes = {"4096x4096"};
  std::vector<std::string> policies = {"a16"};
  std::vector<std::string> layouts = {"auto"};
  std::vector<std::string> targets = {"cpu"};
  std::vector<std::string> threads = {"1"};
  std::int64_t n = 1;
  int passes = 9;
  std::int64_t data_mib = 1088;
  bool counts_cpu = false;
  std::string json;
};

double now_us(bool counts_cpu) {
  timespec time{};
  clock_gettime(counts_cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    words.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) throw std::runtime_error(name + " needs a value");
    const std::string value = argv[i + 1];
    if (name == "--op") {
      arguments.op = get_op(value);
    } else if (name == "--format") {
      arguments.formats = split(value);
    } else if (name == "--shape") {
      arguments.shapes = split(value);
    } else if (name == "--policy") {
      arguments.policies = split(value);
    } else if (name == "--layout") {
      arguments.layouts = split(value);
    } else if (name == "--target") {
      arguments.targets = split(value);
    } else if (name == "--threads") {
      arguments.threads = split(value);
    } else if (name == "--n") {
      arguments.n = std::stoll(value);
    } else if (name == "--passes") {
      arguments.passes = std::stoi(value);
    } else if (name == "--data") {
      arguments.data_mib = std::stoll(value);
    } else if (name == "--clock") {
      if (value != "wall" && value != "cpu") throw std::runtime_error("--clock is wall or cpu");
      arguments.counts_cpu = value == "cpu";
    } else if (name == "--json") {
      arguments.json = value;
    } else {
      throw std::runtime_error("unknown option " + name + ": see the head of bench/ggml_cpu.cpp");
    }
  }
  return arguments;
}

/// What every side multiplies.
struct Work {
  Op op = Op::kMatvec;
  WeightFormat format;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t n = 1;
  int copies = 1;
};

/// Something that is timed.
struct Side {
  std::string name;
  std::function<void()> pass;
  std::function<std::vector<float>()> result;  ///< y of the first copy, [n, rows]; none of the read
  double bytes = 0;                            ///< of a pass, as files have them
  double compile_ms = 0;                       ///< 0: from the cache, or nothing compiled
  std::vector<double> times_us{};

  double best_us() const { return *std::ranges::min_element(times_us); }
  double median_us() const {
    std::vector<double> sorted = times_us;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
};

std::vector<std::byte> copy_bytes(const BenchWeights& weights, const Work& work, int copy) {
  std::vector<std::byte> bytes;
  bytes.reserve(weights.code_bytes());
  for (std::int64_t row = 0; row < work.rows; ++row) {
    const BenchRow one = weights.row(copy, row);
    bytes.insert(bytes.end(), one.codes.begin(), one.codes.end());
  }
  return bytes;
}

/// ggml's w in one of its kinds of memory, and the graph that multiplies each copy.
class Ggml {
 public:
  /// Null if this kind of memory has no layout of its own for the format.
  static std::unique_ptr<Ggml> make(ggml_backend_t backend, ggml_backend_buffer_type_t type,
                                    const Work& work, const BenchWeights& weights,
                                    const std::vector<float>& x) {
    auto made = std::unique_ptr<Ggml>(new Ggml(backend, work));
    made->w_buffer_ = ggml_backend_alloc_ctx_tensors_from_buft(made->w_context_, type);
    if (made->w_buffer_ == nullptr) return nullptr;
    const bool is_plain = type == ggml_backend_cpu_buffer_type();
    if (!is_plain && made->w_.front()->extra == nullptr) return nullptr;
    if (!ggml_backend_supports_op(backend, ggml_graph_node(made->graph_, 0))) return nullptr;
    for (int copy = 0; copy < work.copies; ++copy) {
      const std::vector<std::byte> bytes = copy_bytes(weights, work, copy);
      ggml_backend_tensor_set(made->w_[static_cast<std::size_t>(copy)], bytes.data(), 0,
                              bytes.size());
    }
    ggml_backend_tensor_set(made->x_, x.data(), 0, x.size() * sizeof(float));
    return made;
  }
  ~Ggml() {
    if (w_buffer_ != nullptr) ggml_backend_buffer_free(w_buffer_);
    if (xy_buffer_ != nullptr) ggml_backend_buffer_free(xy_buffer_);
    ggml_free(w_context_);
    ggml_free(context_);
  }
  Ggml(const Ggml&) = delete;
  Ggml& operator=(const Ggml&) = delete;

  void pass() {
    if (ggml_backend_graph_compute(backend_, graph_) != GGML_STATUS_SUCCESS)
      throw std::runtime_error("ggml_backend_graph_compute failed");
  }
  std::vector<float> result() const {
    std::vector<float> y(static_cast<std::size_t>(ggml_nelements(y_)));
    ggml_backend_tensor_get(y_, y.data(), 0, y.size() * sizeof(float));
    return y;
  }

 private:
  Ggml(ggml_backend_t backend, const Work& work) : backend_(backend) {
    const auto copies = static_cast<std::size_t>(work.copies);
    const ggml_init_params of_weights = {ggml_tensor_overhead() * (copies + 1), nullptr, true};
    const ggml_init_params of_graph = {ggml_tensor_overhead() * (2 * copies + 8) +
                                           ggml_graph_overhead_custom(2 * copies + 8, false),
                                       nullptr, true};
    w_context_ = ggml_init(of_weights);
    context_ = ggml_init(of_graph);
    const auto type = static_cast<ggml_type>(get_format(work.format.id).ggml_type);
    x_ = ggml_new_tensor_2d(context_, GGML_TYPE_F32, work.cols, work.n);
    graph_ = ggml_new_graph_custom(context_, 2 * copies + 8, false);
    for (std::size_t copy = 0; copy < copies; ++copy) {
      w_.push_back(ggml_new_tensor_2d(w_context_, type, work.cols, work.rows));
      ggml_tensor* y = ggml_mul_mat(context_, w_.back(), x_);
      if (copy == 0) y_ = y;
      ggml_build_forward_expand(graph_, y);
    }
    xy_buffer_ = ggml_backend_alloc_ctx_tensors_from_buft(context_, ggml_backend_cpu_buffer_type());
  }

  ggml_backend_t backend_;
  ggml_context* w_context_ = nullptr;
  ggml_context* context_ = nullptr;
  ggml_backend_buffer_t w_buffer_ = nullptr;
  ggml_backend_buffer_t xy_buffer_ = nullptr;
  ggml_cgraph* graph_ = nullptr;
  std::vector<ggml_tensor*> w_;
  ggml_tensor* x_ = nullptr;
  ggml_tensor* y_ = nullptr;
};

/// The plain memory, then those with layouts of ggml's own.
std::vector<ggml_backend_buffer_type_t> ggml_memories() {
  std::vector<ggml_backend_buffer_type_t> types = {ggml_backend_cpu_buffer_type()};
  const ggml_backend_reg_t reg = ggml_backend_cpu_reg();
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(reg, "ggml_backend_dev_get_extra_bufts"));
  if (extra == nullptr) return types;
  for (auto* each = extra(ggml_backend_reg_dev_get(reg, 0)); each != nullptr && *each != nullptr;
       ++each)
    types.push_back(*each);
  return types;
}

/// ktjit's w in one layout, and the kernel that multiplies them.
class Ours {
 public:
  Ours(Engine& engine, runtime::Device& device, const KernelSpec& spec, const Work& work,
       const BenchWeights& weights, const std::vector<float>& x)
      : device_(device), stream_(device.make_stream()), work_(work) {
    kernel_ = engine.load(device, spec);
    std::optional<LoadedKernel> prepare;
    if (const auto prepare_spec = prepare_spec_of(spec))
      prepare = engine.load(device, *prepare_spec);
    const auto rows = static_cast<std::uint64_t>(work.rows);
    const auto bytes_of_x = static_cast<std::size_t>(get_format(spec.x_format).block_bytes);
    std::vector<std::byte> x_bytes(x.size() * bytes_of_x);
    round_output(spec.x_format, x, x_bytes);
    x_ = device.allocate(x_bytes.size());
    device.upload(*stream_, x_bytes, *x_, 0);
    if (!weights.scales().empty()) {
      scales_ = device.allocate(weights.scales().size());
      device.upload(*stream_, weights.scales(), *scales_, 0);
    }
    // One piece for all copies, as a model's weights are.
    const auto bytes = static_cast<std::size_t>(
        laid_out_bytes(spec.layout.kind, spec.weight, work.rows, work.cols));
    const std::size_t step = (bytes + 255) / 256 * 256;
    w_ = device.allocate(step * static_cast<std::size_t>(work.copies));
    for (int copy = 0; copy < work.copies; ++copy) {
      const std::vector<std::byte> native = copy_bytes(weights, work, copy);
      const std::size_t at = static_cast<std::size_t>(copy) * step;
      if (prepare) {
        const auto from = runtime::place_on_device(device, *stream_, native);
        const std::uint64_t arguments[] = {from->address(), w_->address() + at, rows};
        prepare->launch(*stream_, work.rows, arguments);
      } else {
        device.upload(*stream_, native, *w_, at);
      }
      y_.push_back(device.allocate(static_cast<std::size_t>(work.rows * work.n) * sizeof(float)));
      std::vector<std::uint64_t>& of_copy = arguments_.emplace_back();
      of_copy.push_back(w_->address() + at);
      if (scales_) of_copy.push_back(scales_->address());
      of_copy.insert(of_copy.end(), {x_->address(), y_.back()->address(), rows,
                                     static_cast<std::uint64_t>(work.n)});
    }
  }

  void pass() {
    for (const std::vector<std::uint64_t>& arguments : arguments_)
      kernel_.launch(*stream_, work_.rows, arguments, work_.n);
  }
  std::vector<float> result() const {
    std::vector<float> y(static_cast<std::size_t>(work_.rows * work_.n));
    device_.download(*stream_, *y_.front(), 0, std::as_writable_bytes(std::span(y)));
    return y;
  }
  const LoadedKernel& kernel() const { return kernel_; }
  const runtime::Buffer& weights() const { return *w_; }

 private:
  runtime::Device& device_;
  std::unique_ptr<runtime::Stream> stream_;
  Work work_;
  LoadedKernel kernel_;
  std::unique_ptr<runtime::Buffer> w_, x_, scales_;
  std::vector<std::unique_ptr<runtime::Buffer>> y_;
  std::vector<std::vector<std::uint64_t>> arguments_;
};

double rms_error(const Work& work, const BenchWeights& weights, const std::vector<float>& x,
                 const std::vector<float>& y) {
  const std::int64_t rows = std::min<std::int64_t>(64, work.rows);
  double difference = 0, magnitude = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t row = i * work.rows / rows;
    std::vector<double> want(static_cast<std::size_t>(work.n)), sums(want.size());
    matvec_reference(weights.row(0, row).view(), x, static_cast<int>(work.n), 0, 1, want, sums);
    for (std::int64_t j = 0; j < work.n; ++j) {
      const double expected = want[static_cast<std::size_t>(j)];
      const double got = static_cast<double>(y[static_cast<std::size_t>(j * work.rows + row)]);
      difference += (got - expected) * (got - expected);
      magnitude += expected * expected;
    }
  }
  return std::sqrt(difference / magnitude);
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return text;
}

class Bench {
 public:
  explicit Bench(Arguments arguments) : arguments_(std::move(arguments)) {
    document_["ggml"] = ggml_version();
    document_["data_mib"] = arguments_.data_mib;
    document_["passes"] = arguments_.passes;
    document_["clock"] = arguments_.counts_cpu ? "cpu" : "wall";
    document_["results"] = Json::array();
  }

  void run() {
    for (const std::string& threads : arguments_.threads) {
      for (const std::string& shape : arguments_.shapes) {
        for (const std::string& format : arguments_.formats)
          measure(std::stoi(threads), shape, format);
      }
    }
    if (arguments_.json.empty()) return;
    std::ofstream out(arguments_.json);
    out << document_.dump(1) << '\n';
    if (!out.flush()) throw std::runtime_error("could not write " + arguments_.json);
  }

 private:
  Work work_of(const std::string& shape, const std::string& name) const {
    Work work;
    work.op = arguments_.op;
    const std::size_t cross = shape.find('x');
    if (cross == std::string::npos) throw std::runtime_error("--shape is ROWSxCOLS");
    work.rows = std::stoll(shape);
    work.cols = std::stoll(shape.substr(cross + 1));
    work.n = arguments_.n;
    const std::size_t colon = name.find(':');  // fp8_e4m3:128x128, or :tensor, :row
    std::optional<ScaleGrid> grid;
    if (colon != std::string::npos) {
      const std::string scale = name.substr(colon + 1);
      if (scale == "tensor") {
        grid = ScaleGrid{};
      } else if (scale == "row") {
        grid = ScaleGrid{1, 0};
      } else {
        grid = ScaleGrid{std::stoll(scale), std::stoll(scale.substr(scale.find('x') + 1))};
      }
    }
    work.format = get_weight_format(name.substr(0, colon), grid);
    const std::size_t bytes = file_bytes(work.format, work.rows, work.cols);
    const auto data = static_cast<std::size_t>(arguments_.data_mib) << 20;
    work.copies = static_cast<int>(std::max<std::size_t>(2, (data + bytes - 1) / bytes));
    return work;
  }

  void measure(int threads, const std::string& shape, const std::string& name) {
    const Work work = work_of(shape, name);
    const BenchWeights weights(work.format, work.rows, work.cols);
    const std::vector<float> x = make_bench_activations(FormatId::kF32, work.n, work.cols).values;
    const double pass_bytes =
        static_cast<double>(file_bytes(work.format, work.rows, work.cols)) * work.copies;
    const auto device = runtime::make_cpu_device(runtime::make_tbb_executor(threads));
    std::vector<Side> sides;

    const std::unique_ptr<ggml_backend, void (*)(ggml_backend_t)> backend(ggml_backend_cpu_init(),
                                                                          ggml_backend_free);
    ggml_backend_cpu_set_n_threads(backend.get(), threads);
    std::vector<std::unique_ptr<Ggml>> peers;
    if (get_format(work.format.id).ggml_type >= 0) {
      for (const ggml_backend_buffer_type_t type : ggml_memories()) {
        std::unique_ptr<Ggml> made = Ggml::make(backend.get(), type, work, weights, x);
        if (!made) continue;
        Ggml* peer = made.get();
        peers.push_back(std::move(made));
        sides.push_back({"ggml " + lower(ggml_backend_buft_name(type)), [peer] { peer->pass(); },
                         [peer] { return peer->result(); }, pass_bytes});
      }
    }

    std::vector<std::unique_ptr<Ours>> ours;
    for (const std::string& target_name : arguments_.targets) {
      const Target target = toolchain_.get_target(target_name);
      for (const std::string& layout : arguments_.layouts) {
        for (const std::string& policy : arguments_.policies) {
          KernelSpec spec =
              make_spec(work.op, work.format.id, work.format.scale, work.cols, target);
          const bool rounds = policy == "tc";
          if (rounds && !has_bf16_tiles(target)) continue;
          spec.activation = rounds ? ActivationPolicy::kA16 : get_activation(policy);
          spec.tensor_core_precision = rounds;
          if (rounds) spec.x_format = FormatId::kBF16;
          if (work.op == Op::kMatvec) spec.x_columns = x_columns_for(static_cast<int>(work.n));
          KernelSpec interleaved = spec;
          interleaved.layout.kind = LayoutKind::kInterleaved;
          if (layout == "auto" && can_validate(interleaved)) spec = interleaved;
          const bool is_native = spec.layout.kind == LayoutKind::kNative;
          if (is_native && spec.activation == ActivationPolicy::kA8) continue;  // has no kernel
          ours.push_back(
              std::make_unique<Ours>(toolchain_.engine(), *device, spec, work, weights, x));
          Ours* side = ours.back().get();
          const BuiltKernel& built = side->kernel().built;
          sides.push_back(
              {fmt::format("{} {} {}", target_name, layout_name(spec.layout.kind), policy),
               [side] { side->pass(); }, [side] { return side->result(); }, pass_bytes,
               built.from_cache() ? 0 : built.artifact.compile_ms});
        }
      }
    }
    if (ours.empty()) throw std::runtime_error("no kernel of ours for " + name);

    const auto stream = device->make_stream();
    const LoadedKernel read =
        toolchain_.engine().load(*device, make_read_test_spec(toolchain_.get_target("cpu")));
    const auto read_rows =
        static_cast<std::int64_t>(ours.front()->weights().bytes()) / kReadTestRowBytes;
    const auto sums = device->allocate(static_cast<std::size_t>(read_rows) * 64);
    const std::uint64_t read_arguments[] = {ours.front()->weights().address(), sums->address(),
                                            static_cast<std::uint64_t>(read_rows)};
    sides.push_back({"read",
                     [&] { read.launch(*stream, read_rows, read_arguments); },
                     {},
                     static_cast<double>(read_rows * kReadTestRowBytes)});

    for (int pass = -1; pass < arguments_.passes; ++pass) {
      for (Side& side : sides) {
        const double start = now_us(arguments_.counts_cpu);
        side.pass();
        const double us = now_us(arguments_.counts_cpu) - start;
        if (pass >= 0) side.times_us.push_back(us / work.copies);
      }
    }
    report(work, name, threads, sides, weights, x);
  }

  static bool can_validate(const KernelSpec& spec) {
    try {
      validate(spec);
      return true;
    } catch (const SpecError&) {
      return false;
    }
  }

  void report(const Work& work, const std::string& name, int threads, std::vector<Side>& sides,
              const BenchWeights& weights, const std::vector<float>& x) {
    const auto is_peer = [](const Side& side) { return side.name.starts_with("ggml"); };
    double peer_best = 0, peer_median = 0;
    for (const Side& side : sides) {
      if (!is_peer(side)) continue;
      peer_best = peer_best == 0 ? side.best_us() : std::min(peer_best, side.best_us());
      peer_median = peer_median == 0 ? side.median_us() : std::min(peer_median, side.median_us());
    }
    fmt::print("{} {}x{}, n = {}, {} thread{}, {} copies\n", name, work.rows, work.cols, work.n,
               threads, threads == 1 ? "" : "s", work.copies);
    for (const Side& side : sides) {
      const double per_copy = side.bytes / work.copies;
      const double gbps = per_copy / side.best_us() / 1e3;
      const double median_gbps = per_copy / side.median_us() / 1e3;
      Json row = {{"format", name},
                  {"rows", work.rows},
                  {"cols", work.cols},
                  {"n", work.n},
                  {"threads", threads},
                  {"side", side.name},
                  {"us", side.best_us()},
                  {"median_us", side.median_us()},
                  {"gbps", gbps},
                  {"median_gbps", median_gbps},
                  {"times_us", side.times_us}};
      std::string line =
          fmt::format("  {:<28} {:9.1f} us {:6.1f} GB/s, median {:9.1f} us {:6.1f} GB/s", side.name,
                      side.best_us(), gbps, side.median_us(), median_gbps);
      if (work.op == Op::kMatmul) {
        const double flops = 2.0 * static_cast<double>(work.rows * work.cols * work.n);
        if (side.result) line += fmt::format("  {:6.3f} TFLOP/s", flops / side.best_us() / 1e6);
        row["tflops"] = flops / side.best_us() / 1e6;
      }
      if (!is_peer(side) && side.result && peer_best > 0) {
        line += fmt::format("  x {:.2f}, {:.2f}", peer_best / side.best_us(),
                            peer_median / side.median_us());
        row["times_ggml"] = peer_best / side.best_us();
        row["times_ggml_median"] = peer_median / side.median_us();
      }
      if (side.result) {
        const double error = rms_error(work, weights, x, side.result());
        line += fmt::format("  error {:.1e}", error);
        row["error"] = error;
      }
      if (side.compile_ms > 0) {
        line += fmt::format("  compiled {:.0f} ms", side.compile_ms);
        row["compile_ms"] = side.compile_ms;
      }
      fmt::print("{}\n", line);
      document_["results"].push_back(std::move(row));
    }
    std::fflush(stdout);
  }

  Arguments arguments_;
  Toolchain toolchain_{Options{}, [](std::string_view line) {
                         std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
                       }};
  Json document_;
};

}  // namespace
}  // namespace ktjit

int main(int argc, char** argv) {
  try {
    ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    ktjit::Bench(ktjit::parse(argc, argv)).run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ggml_cpu: %s\n", error.what());
    return 1;
  }
}
