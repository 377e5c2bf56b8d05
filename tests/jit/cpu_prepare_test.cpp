// Prepare and restore as CPU kernels: byte for byte what the CUDA text makes in the simulator, and what the plain reference
// makes, for every format that has a prepared layout.
#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <vector>

#include "core/prepared_layout.h"
#include "jit/reference_prepared.h"
#include "jit/toolchain.h"
#include "tests/jit/scratch_folder.h"
#include "tests/jit/simulator_machine.h"
#include "tests/support/golden_data.h"
#include "tests/support/kernel_inputs.h"

namespace ktjit {
namespace {

constexpr std::byte kPoison{0xa5};
constexpr std::size_t kGuardBytes = 64;

struct Matrix {
  FormatId format;
  std::int64_t rows;
  std::int64_t cols;
  test::Bytes data;
  test::Bytes scales;

  ScaledTensorView view() const {
    return {format, rows, cols, data, fixed_scale_grid(format), scales};
  }
  std::size_t prepared_size() const {
    return static_cast<std::size_t>(prepared_bytes(format, rows, cols));
  }
};

std::vector<FormatId> prepared_formats() {
  std::vector<FormatId> formats;
  for (const Format& format : all_formats()) {
    if (find_prepared_layout(format.id) != nullptr) formats.push_back(format.id);
  }
  return formats;
}

/// All bytes random, so that every code and scale comes, NaNs and what no encoder writes too.
Matrix random_matrix(FormatId format, std::int64_t rows, std::int64_t cols) {
  std::mt19937 random(static_cast<unsigned>(7 * rows + cols) + static_cast<unsigned>(format));
  Matrix matrix{format, rows, cols, {}, {}};
  matrix.data.resize(static_cast<std::size_t>(rows * row_bytes(get_format(format), cols)));
  if (const auto grid = fixed_scale_grid(format)) {
    matrix.scales.resize(static_cast<std::size_t>(grid->plane_bytes(rows, cols)));
  }
  for (test::Bytes* bytes : {&matrix.data, &matrix.scales}) {
    for (std::byte& byte : *bytes) byte = static_cast<std::byte>(random() >> 24);
  }
  return matrix;
}

/// Whole blocks, the last unit cut where blocks allow it.
std::int64_t cut_cols(FormatId format) { return get_format(format).block_elems == 256 ? 768 : 640; }

/// A device, and the code that it runs.
struct Place {
  Engine& engine;
  runtime::Device& device;
  Target target;

  /// Runs a kernel with arguments in the order of the spans, then rows; what it writes is between guards.
  void run(const KernelSpec& spec, const test::Bytes& in, const test::Bytes* in_scales,
           test::Bytes& out, test::Bytes* out_scales, std::int64_t rows) {
    const LoadedKernel kernel = engine.load(device, spec);
    const auto stream = device.make_stream();
    std::vector<std::unique_ptr<runtime::Buffer>> buffers;
    std::vector<std::uint64_t> arguments;
    const auto add = [&](const test::Bytes* bytes, bool is_output) {
      if (bytes == nullptr || bytes->empty()) return;
      buffers.push_back(device.allocate(bytes->size() + (is_output ? kGuardBytes : 0)));
      if (is_output) {
        device.fill(*stream, *buffers.back(), kPoison);
      } else {
        device.upload(*stream, *bytes, *buffers.back(), 0);
      }
      arguments.push_back(buffers.back()->address());
    };
    add(&in, false);
    add(in_scales, false);
    const std::size_t first_output = buffers.size();
    add(&out, true);
    add(out_scales, true);
    arguments.push_back(static_cast<std::uint64_t>(rows));
    kernel.launch(*stream, rows, arguments);
    std::size_t at = first_output;
    for (test::Bytes* bytes : {&out, out_scales}) {
      if (bytes == nullptr || bytes->empty()) continue;
      bytes->resize(bytes->size() + kGuardBytes);
      device.download(*stream, *buffers[at++], 0, *bytes);
      stream->synchronize();
      CHECK(std::all_of(bytes->end() - kGuardBytes, bytes->end(),
                        [](std::byte b) { return b == kPoison; }));
      bytes->resize(bytes->size() - kGuardBytes);
    }
  }

  KernelSpec restore_spec(const Matrix& matrix) const {
    KernelSpec spec = make_spec(Op::kRestore, matrix.format, fixed_scale_grid(matrix.format),
                                matrix.cols, target);
    spec.layout.kind = LayoutKind::kPrepared;
    return spec;
  }

  test::Bytes prepare(const Matrix& matrix) {
    test::Bytes prepared(matrix.prepared_size());
    run(prepare_spec_of(restore_spec(matrix)).value(), matrix.data, &matrix.scales, prepared,
        nullptr, matrix.rows);
    return prepared;
  }

  NativeWeights restore(const Matrix& matrix, const test::Bytes& prepared) {
    NativeWeights native{test::Bytes(matrix.data.size()), test::Bytes(matrix.scales.size())};
    run(restore_spec(matrix), prepared, nullptr, native.data, &native.scales, matrix.rows);
    return native;
  }
};

struct Places {
  test::ScratchFolder folder;
  Toolchain toolchain{test::Simulator::options(folder), {}};
  std::unique_ptr<runtime::Device> cpu = toolchain.open_device("cpu");
  std::unique_ptr<runtime::Device> simulator = toolchain.open_device("sim");

  Place on_cpu() { return {toolchain.engine(), *cpu, cpu->native_target()}; }
  Place on_cpu(const char* target) {
    return {toolchain.engine(), *cpu, toolchain.get_target(target)};
  }
  Place simulated(const char* target) {
    return {toolchain.engine(), *simulator, parse_target(target, {})};
  }
};

std::ptrdiff_t first_difference(const test::Bytes& a, const test::Bytes& b) {
  if (a.size() != b.size()) return 0;
  const auto wrong = std::mismatch(a.begin(), a.end(), b.begin()).first;
  return wrong == a.end() ? -1 : wrong - a.begin();
}

void check_like_reference(Place place, const Matrix& matrix) {
  INFO(get_format(matrix.format).name << " " << matrix.rows << " x " << matrix.cols << " on "
                                      << place.target.name());
  const test::Bytes want = prepare_reference(matrix.view());
  CHECK(first_difference(place.prepare(matrix), want) == -1);
  const NativeWeights native =
      restore_reference(matrix.format, matrix.rows, matrix.cols, want, 0, matrix.rows);
  const NativeWeights restored = place.restore(matrix, want);
  CHECK(first_difference(restored.data, native.data) == -1);
  CHECK(first_difference(restored.scales, native.scales) == -1);
}

}  // namespace

TEST_CASE("all 27 prepared formats are made and undone on the CPU as in the simulator's CUDA") {
  constexpr std::int64_t kRows = 37;  // the last tile cut
  Places places;
  CHECK(prepared_formats().size() == 27);
  for (const FormatId format : prepared_formats()) {
    const Matrix matrix = random_matrix(format, kRows, cut_cols(format));
    check_like_reference(places.on_cpu(), matrix);
    check_like_reference(places.simulated("sm_86"), matrix);
  }
}

TEST_CASE("weights are prepared on a CPU without vector extensions and for GPUs without dp4a") {
  Places places;
  for (const FormatId format :
       {FormatId::kQ4_K, FormatId::kQ6_K, FormatId::kIQ2_XXS, FormatId::kNvfp4, FormatId::kQ3_K}) {
    const Matrix matrix = random_matrix(format, 16, 256);
    check_like_reference(places.on_cpu("cpu:x86-64"), matrix);
    check_like_reference(places.simulated("sm_60"), matrix);
  }
}

TEST_CASE("one row and one block are prepared as many are") {
  Places places;
  for (const FormatId format : prepared_formats()) {
    const Format& facts = get_format(format);
    const std::int64_t cols = std::max<std::int64_t>(facts.block_elems, 16);
    check_like_reference(places.on_cpu(), random_matrix(format, 1, cols));
  }
}

TEST_CASE("golden weights come back from the CPU's prepared ones byte for byte") {
  Places places;
  int rows = 0;
  for (const test::GoldenEntry& golden : test::load_golden()) {
    if (find_prepared_layout(golden.format) == nullptr) continue;
    const Matrix matrix{golden.format, golden.rows, golden.cols, golden.encoded, {}};
    Place place = places.on_cpu();
    const NativeWeights restored = place.restore(matrix, place.prepare(matrix));
    for (std::int64_t row = 0; row < golden.rows; ++row) {
      if (!golden.row_kinds[static_cast<std::size_t>(row)].starts_with("quantised")) continue;
      const auto first = row * golden.row_bytes;
      INFO(golden.type << ", row " << row);
      CHECK(std::equal(restored.data.begin() + first,
                       restored.data.begin() + first + golden.row_bytes,
                       golden.encoded.begin() + first));
      ++rows;
    }
  }
  CHECK(rows >= 20);
}

}  // namespace ktjit
