// What a kernel shall do, as a plain value. Equal specs give equal source text, byte for byte.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/format.h"
#include "core/target.h"
#include "core/tensor_layout.h"

namespace ktjit {

enum class Op {
  kDequant,  ///< y[r, c] = decode(w)[r, c] (* scale), rounded once to the output format
  kMatvec,  ///< y[j, r] = sum over c of decode(w)[r, c] * x[j, c], for up to 8 activation columns j
  kMatmul,  ///< as kMatvec, for any number of activation columns j
  kQuantize,  ///< w[r, c] = encode(x[r, c] / scale), the scale chosen from the block's largest |x|
  kNanScan,   ///< found = 1 if any code of w is a NaN or infinity: see KernelSpec::weights_finite
  kReadTest,  ///< reads all bytes of w once: measures what the memory gives
};

/// How activations enter a product.
enum class ActivationPolicy {
  kA16,   ///< as they are (f16, bf16 or f32), sums of f32 quality
  kA8,    ///< quantised to int8 per block
  kAfp8,  ///< quantised to FP8 per group of 128
};

/// Knobs that change speed and nothing else. Zero means the emitter's default for the target.
struct Tuning {
  int threads = 0;        ///< CUDA: threads per CTA
  int rows_per_warp = 0;  ///< CUDA matvec: rows that share one pass over x
  int x_tile = 0;         ///< CUDA matmul: rows of x of one CTA, 16, 32 or 64

  bool operator==(const Tuning&) const = default;
};

/// Everything fixed at compile time. Rows are a run-time argument, so one kernel serves many
/// tensors.
struct KernelSpec {
  Op op = Op::kDequant;
  FormatId weight = FormatId::kF32;
  /// FP8 formats, and the fixed grid of the MX ones. Quantize to FP8: none for a plain cast, or blocks of
  /// 1 and more rows with f32 or e8m0 scales; nvfp4's tensor scale is in the plane before the launch.
  std::optional<ScaleGrid> scale;
  TensorLayout layout;  ///< of the weights
  ActivationPolicy activation = ActivationPolicy::kA16;
  FormatId x_format = FormatId::kF32;  ///< products, quantize: f32, f16 or bf16; afp8: fp8_e4m3
  std::optional<ScaleGrid> x_scale;    ///< afp8: of x, 1 x N groups with f32 scales
  FormatId y_format = FormatId::kF32;  ///< dequant, products: f32, f16 or bf16
  std::optional<FormatId> bias;        ///< products: y[j, r] += bias[r]; f32, f16 or bf16
  /// A scan has proved that no code of w is a NaN or infinity: shorter decodes serve. FP8 formats only.
  bool weights_finite = false;
  /// Quantize: values beyond the largest finite code become that code; otherwise NaN or infinity, as
  /// the format has it.
  bool saturate = true;
  int x_columns = 1;  ///< matvec: 1, 2, 4 or 8; a launch may use fewer
  /// CUDA, sm_90 and up: launches overlap the end of the kernel ahead of them in the stream (programmatic
  /// dependent launch). Results and the order of work are as without: the kernel waits by itself.
  bool dependent_launch = false;
  Tuning tuning;
  Target target;

  bool operator==(const KernelSpec&) const = default;
};

/// Whether the op multiplies w by x: matvec, matmul.
bool is_product(Op op);
/// Whether dequant is the only op that reads the format: the signed integers, and q8_1 and q8_K, which
/// ggml makes of activations.
bool is_dequant_only(FormatId weight);
std::string_view op_name(Op op);
/// Errors: SpecError with the known ops.
Op get_op(std::string_view name);
std::string_view activation_name(ActivationPolicy policy);
ActivationPolicy get_activation(std::string_view name);

/// The x_columns value that serves `n` columns: the next of 1, 2, 4, 8.
/// Errors: SpecError unless 1 <= n <= 8.
int x_columns_for(int n);

/// The knobs of a matmul whose launches have about `n` rows of x: small tiles for few of them.
Tuning matmul_tuning(const Target& target, std::int64_t n);

/// A spec with default knobs: the weights' native layout, f32 activations and results, one column.
KernelSpec make_spec(Op op, FormatId weight, const std::optional<ScaleGrid>& scale,
                     std::int64_t cols, const Target& target);

/// Bytes that one "row" of the read test has.
constexpr int kReadTestRowBytes = 65536;
KernelSpec make_read_test_spec(const Target& target);

/// Checks what every back end relies on. Errors: SpecError naming the field.
void validate(const KernelSpec& spec);

/// One "field: value" line per field, in a fixed order: the stage `spec` of `ktjit emit`.
std::string to_text(const KernelSpec& spec);

/// A name for files, logs and the entry point: "matvec_q4_K_x_f32_c4096_n1", without the target.
std::string kernel_name(const KernelSpec& spec);

}  // namespace ktjit
