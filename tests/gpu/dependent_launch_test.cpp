// Dependent launches on a real GPU: chains of kernels, each reading what the one before wrote, and the last writing
// what the first reads, give the results of ordinary launches; eagerly and from a graph.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "jit/toolchain.h"
#include "runtime/cuda_device.h"
#include "runtime/cuda_graph.h"

namespace ktjit {
namespace {

constexpr int kRounds = 1000;

Toolchain make_toolchain() {
  Options options;
  options.cache_enabled = false;
  return Toolchain(options, [](std::string_view) {});
}

/// order[i]: where element i of the result comes from.
std::vector<std::size_t> random_order(std::size_t count, unsigned seed) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

/// Rows of one 1 each: a product with it puts the columns of x in this order.
template <class Element>
std::vector<Element> permutation_matrix(const std::vector<std::size_t>& order, Element one) {
  std::vector<Element> matrix(order.size() * order.size(), Element{});
  for (std::size_t row = 0; row < order.size(); ++row)
    matrix[row * order.size() + order[row]] = one;
  return matrix;
}

/// A step of a chain.
struct Step {
  std::shared_ptr<const runtime::Kernel> kernel;
  LaunchGrid grid;
  std::vector<std::uint64_t> arguments;
};

struct Bench {
  Toolchain toolchain = make_toolchain();
  std::unique_ptr<runtime::Device> device = toolchain.open_device("cuda");
  std::unique_ptr<runtime::Stream> stream = device->make_stream();
  std::vector<std::unique_ptr<runtime::Buffer>> buffers;

  Target target() const { return device->native_target(); }

  std::uint64_t allocate(std::size_t bytes) {
    buffers.push_back(device->allocate(bytes));
    return buffers.back()->address();
  }

  template <class Element>
  std::uint64_t upload(const std::vector<Element>& values) {
    buffers.push_back(device->allocate(values.size() * sizeof(Element)));
    device->upload(*stream, std::as_bytes(std::span(values)), *buffers.back(), 0);
    stream->synchronize();
    return buffers.back()->address();
  }

  template <class Element>
  std::vector<Element> download(std::uint64_t address, std::size_t count) {
    std::vector<Element> values(count);
    for (const auto& buffer : buffers) {
      if (buffer->address() != address) continue;
      device->download(*stream, *buffer, 0, std::as_writable_bytes(std::span(values)));
    }
    stream->synchronize();
    return values;
  }

  /// Without its wait, if `unsafe`: what the test is there to notice.
  Step make_step(KernelSpec spec, bool dependent, bool unsafe, std::int64_t rows, std::int64_t n,
                 std::vector<std::uint64_t> arguments) {
    spec.dependent_launch = dependent;
    if (!unsafe) {
      LoadedKernel loaded = toolchain.engine().load(*device, spec);
      return {loaded.kernel, grid_for(loaded.built.emitted.launch, rows, n), std::move(arguments)};
    }
    codegen::EmittedKernel emitted = codegen::emit(spec);
    const std::string wait = "griddepcontrol.wait;";
    const std::size_t at = emitted.source.find(wait);
    REQUIRE(at != std::string::npos);
    emitted.source.erase(at, wait.size());
    for (const auto& compiler : toolchain.engine().compilers()) {
      if (!compiler->serves(spec.target, ArtifactKind::kCubin)) continue;
      const Artifact cubin = compiler->compile(
          {emitted.source, emitted.entry_name, spec.target, ArtifactKind::kCubin});
      return {device->load(cubin), grid_for(emitted.launch, rows, n), std::move(arguments)};
    }
    FAIL("no compiler");
    return {};
  }

  void launch(const std::vector<Step>& chain) {
    for (const Step& step : chain) step.kernel->launch(*stream, step.grid, step.arguments);
  }

  /// The rounds of a chain, one launch after another or 20 rounds a graph.
  void run(const std::vector<Step>& chain, bool as_graph) {
    constexpr int kRoundsOfGraph = 20;
    static_assert(kRounds % kRoundsOfGraph == 0);
    if (!as_graph) {
      for (int round = 0; round < kRounds; ++round) launch(chain);
    } else {
      const auto graph = runtime::CudaGraph::capture(*stream, [&] {
        for (int round = 0; round < kRoundsOfGraph; ++round) launch(chain);
      });
      for (int i = 0; i < kRounds / kRoundsOfGraph; ++i) graph.launch(*stream);
      stream->synchronize();
    }
    stream->synchronize();
  }
};

/// x through all rounds of a chain that ends where it began.
template <class Element>
std::vector<Element> permuted(std::vector<Element> x, const std::vector<std::size_t>& order,
                              std::size_t rows) {
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<Element> before = x;
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t i = 0; i < order.size(); ++i)
        x[row * order.size() + i] = before[row * order.size() + order[i]];
    }
  }
  return x;
}

template <class Element>
std::size_t count_wrong(const std::vector<Element>& got, const std::vector<Element>& expected) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) wrong += got[i] != expected[i];
  return wrong;
}

/// quantize x to e4m3 codes -> dequant -> matvec with a permutation, which writes x. Numbers that e4m3 has.
std::size_t run_vector_chain(Bench& bench, bool dependent, bool unsafe, bool as_graph) {
  constexpr std::int64_t kCount = 4096, kRowCols = 128;
  std::vector<float> x(kCount);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 16);
  const auto order = random_order(x.size(), 1);
  const std::uint64_t x_at = bench.upload(x), codes = bench.allocate(kCount),
                      decoded = bench.allocate(kCount * sizeof(float)),
                      matrix = bench.upload(permutation_matrix(order, 1.0f));
  const auto spec = [&](Op op, FormatId format, std::int64_t cols) {
    return make_spec(op, format, std::nullopt, cols, bench.target());
  };
  constexpr std::uint64_t kRows = kCount / kRowCols;
  const std::vector<Step> chain = {
      bench.make_step(spec(Op::kQuantize, FormatId::kFp8E4M3, kRowCols), dependent, unsafe, kRows,
                      1, {x_at, codes, kRows}),
      bench.make_step(spec(Op::kDequant, FormatId::kFp8E4M3, kRowCols), dependent, unsafe, kRows, 1,
                      {codes, decoded, kRows}),
      bench.make_step(spec(Op::kMatvec, FormatId::kF32, kCount), dependent, unsafe, kCount, 1,
                      {matrix, decoded, x_at, kCount, 1})};
  bench.run(chain, as_graph);
  return count_wrong(bench.download<float>(x_at, x.size()), permuted(x, order, 1));
}

/// Three matmuls of bf16 on tensor cores, by permutations; whole numbers that bf16 has.
std::size_t run_matrix_chain(Bench& bench, bool dependent, bool unsafe, bool as_graph) {
  constexpr std::size_t kCols = 1024, kRowsOfX = 96;
  constexpr unsigned short kBf16[] = {0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0};
  std::vector<unsigned short> x(kCols * kRowsOfX);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = kBf16[i * 11 % 7];
  std::vector<std::vector<std::size_t>> orders;
  std::vector<std::uint64_t> at = {bench.upload(x), bench.allocate(x.size() * 2),
                                   bench.allocate(x.size() * 2)};
  KernelSpec spec = make_spec(Op::kMatmul, FormatId::kBF16, std::nullopt, kCols, bench.target());
  spec.x_format = spec.y_format = FormatId::kBF16;
  std::vector<Step> chain;
  for (unsigned i = 0; i < 3; ++i) {
    orders.push_back(random_order(kCols, i + 2));
    const std::uint64_t matrix = bench.upload(permutation_matrix(orders.back(), kBf16[1]));
    chain.push_back(bench.make_step(spec, dependent, unsafe, kCols, kRowsOfX,
                                    {matrix, at[i], at[(i + 1) % 3], kCols, kRowsOfX}));
  }
  bench.run(chain, as_graph);
  std::vector<std::size_t> order(kCols);
  for (std::size_t i = 0; i < kCols; ++i) order[i] = orders[0][orders[1][orders[2][i]]];
  return count_wrong(bench.download<unsigned short>(at[0], x.size()), permuted(x, order, kRowsOfX));
}

using Chain = std::size_t (*)(Bench&, bool dependent, bool unsafe, bool as_graph);
constexpr std::pair<const char*, Chain> kChains[] = {
    {"quantize, dequant, matvec", run_vector_chain}, {"three matmuls", run_matrix_chain}};

}  // namespace

TEST_CASE("chains of launches keep their order, dependent or not, eagerly and in a graph") {
  Bench bench;
  const bool has_dependent = bench.target().sm >= 90;
  if (!has_dependent) WARN("dependent launches not run: " << bench.target().name());
  for (const auto& [name, chain] : kChains) {
    for (const bool dependent : {false, true}) {
      if (dependent && !has_dependent) continue;
      for (const bool as_graph : {false, true}) {
        const std::size_t wrong = chain(bench, dependent, false, as_graph);
        std::printf("%s, %s launches, %s: %d rounds, %zu wrong\n", name,
                    dependent ? "dependent" : "ordinary", as_graph ? "graph" : "eager", kRounds,
                    wrong);
        INFO(name << (dependent ? ", dependent" : "") << (as_graph ? ", graph" : ""));
        CHECK(wrong == 0);
        bench.buffers.clear();
      }
    }
  }
}

// What the chains above are worth: kernels that let the next one start and don't wait should break them. How often
// is up to the GPU, so it is shown and not required.
TEST_CASE("chains of kernels without their wait") {
  Bench bench;
  if (bench.target().sm < 90) return;
  for (const auto& [name, chain] : kChains) {
    for (const bool as_graph : {false, true}) {
      const std::size_t wrong = chain(bench, true, true, as_graph);
      std::printf("%s without the wait, %s: %zu wrong\n", name, as_graph ? "graph" : "eager",
                  wrong);
      bench.buffers.clear();
    }
  }
}

TEST_CASE("dependent and ordinary launches beside each other, timed") {
  Bench bench;
  if (bench.target().sm < 90) return;
  constexpr std::int64_t kCount = 4096;
  const std::uint64_t w = bench.allocate(kCount * kCount), x = bench.allocate(kCount * 4),
                      y = bench.allocate(kCount * 4);
  for (const auto& buffer : bench.buffers) bench.device->fill(*bench.stream, *buffer, std::byte{0});
  for (const bool dependent : {false, true}) {
    const KernelSpec spec =
        make_spec(Op::kMatvec, FormatId::kFp8E4M3, std::nullopt, kCount, bench.target());
    const std::vector<Step> chain = {
        bench.make_step(spec, dependent, false, kCount, 1, {w, x, y, kCount, 1}),
        bench.make_step(spec, dependent, false, kCount, 1, {w, y, x, kCount, 1})};
    bench.run(chain, true);
    const auto graph = runtime::CudaGraph::capture(*bench.stream, [&] {
      for (int i = 0; i < 50; ++i) bench.launch(chain);
    });
    graph.launch(*bench.stream);
    std::vector<double> us;
    for (int i = 0; i < 9; ++i)
      us.push_back(bench.device->time_us(*bench.stream, [&] { graph.launch(*bench.stream); }));
    std::sort(us.begin(), us.end());
    std::printf("matvec fp8 4096 x 4096 in a graph of 100, %s: %.2f us each\n",
                dependent ? "dependent" : "ordinary", us[us.size() / 2] / 100);
  }
}

}  // namespace ktjit
