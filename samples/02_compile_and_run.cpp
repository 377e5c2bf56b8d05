// Multiplies a q8_0 matrix by a vector: on the first GPU, or on this CPU if there is none. The
// kernel is emitted, compiled (or taken from the cache), loaded and launched behind one call.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "core/error.h"
#include "core/tensor_layout.h"
#include "jit/tensor_ops.h"
#include "jit/toolchain.h"

namespace {

constexpr std::int64_t kRows = 512;
constexpr std::int64_t kCols = 4096;

/// Blocks of a scale (f16) and 32 codes of 8 bits, as ggml defines q8_0.
std::vector<std::byte> random_q8_0(std::mt19937& random) {
  const ktjit::Format& format = ktjit::get_format("q8_0");
  std::vector<std::byte> bytes(static_cast<std::size_t>(kRows * ktjit::row_bytes(format, kCols)));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 0xff);
  for (std::size_t block = 0; block < bytes.size(); block += 34) {
    bytes[block] = std::byte{0x00};  // scale 0x2400: 1 / 64
    bytes[block + 1] = std::byte{0x24};
  }  // block: of 34 bytes
  return bytes;
}

/// The largest difference from sums in double, as a share of what f32 sums may be off by.
double largest_error(const ktjit::ScaledTensorView& w, const std::vector<float>& x,
                     const std::vector<float>& y) {
  std::vector<double> expected(y.size());
  std::vector<double> abs_sum(y.size());
  ktjit::matvec_reference(w, x, 1, 0, kRows, expected, abs_sum);
  double largest = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double bound = (kCols / 16 + 16) * 0x1p-24 * abs_sum[i];
    largest = std::fmax(largest, std::fabs(y[i] - expected[i]) / bound);
  }
  return largest;
}

int run() {
  std::mt19937 random(1);
  const std::vector<std::byte> bytes = random_q8_0(random);
  ktjit::ScaledTensorView w;
  w.format = ktjit::FormatId::kQ8_0;
  w.rows = kRows;
  w.cols = kCols;
  w.data = bytes;
  std::vector<float> x(kCols);
  for (float& value : x) value = std::normal_distribution<float>()(random);

  ktjit::Toolchain toolchain({}, [](std::string_view warning) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(warning.size()), warning.data());
  });
  const auto device = toolchain.open_device("");
  std::printf("device: %s (%s)\n", device->description().c_str(),
              toolchain.device_choice_reason().c_str());

  const std::vector<float> y =
      ktjit::multiply(toolchain.engine(), *device, device->native_target(), w, x, 1);
  const double error = largest_error(w, x, y);
  std::printf("y[0] = %.6g, largest error: %.3f of the bound\n", y[0], error);
  return error <= 1.0 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const ktjit::Error& error) {
    std::fprintf(stderr, "02_compile_and_run: %s\n", error.what());
    return 2;
  }
}
