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
  /// y[s, r] = sum over c of decode(w)[ids[s], r, c] * x[s / slots_per_x, c]: w is a stack of experts, the
  /// int32 ids lie on the device. Rows of an id outside of the stack become NaN, and nothing is read there.
  kMoeMatvec,
  /// As kMoeMatvec, for any number of slots: those of an expert are multiplied together, grouped on the device.
  kMoeMatmul,
  kQuantize,  ///< w[r, c] = encode(x[r, c] / scale), the scale chosen from the block's largest |x|
  /// Rearranges w from the native layout: to LayoutKind::kInterleaved if the spec's layout is that, else to
  /// LayoutKind::kPrepared.
  kPrepare,
  kRestore,   ///< rearranges w from the spec's layout to the native one
  kNanScan,   ///< found = 1 if any code of w is a NaN or infinity: see KernelSpec::weights_finite
  kReadTest,  ///< reads all bytes of w once: measures what the memory gives
};

/// How activations enter a product.
enum class ActivationPolicy {
  kA16,   ///< as they are (f16, bf16 or f32), sums of f32 quality
  kA8,    ///< quantised to int8 per block
  kAfp8,  ///< quantised to FP8 per group of 128
};

/// How a kernel's data go between global memory and registers.
enum class DataPath {
  kDefault,  ///< as the emitter chooses
  kDirect,   ///< each thread loads and stores what it works on
  kShared,   ///< by way of shared memory: a warp's accesses are 16 bytes a lane, side by side
};

/// What matvec, moe_matvec and moe_matmul make of two products with the same x: y = act(w_gate x) * (w_up x), where both
/// matrices have the same format and shape.
enum class Gate {
  kNone,      ///< one matrix, no activation function
  kSilu,      ///< act(g) = g / (1 + exp(-g))
  kGeluTanh,  ///< act(g) = g / 2 * (1 + tanh(sqrt(2 / pi) * (g + 0.044715 g^3)))
};

/// Knobs that change speed and nothing else. Zero means the emitter's default for the target.
struct Tuning {
  int threads = 0;  ///< CUDA: threads per CTA
  int rows_per_warp =
      0;           ///< CUDA matvec in f32 arithmetic, which it asks for: rows that share a pass
  int x_tile = 0;  ///< CUDA matmul, moe_matmul: rows of x of one CTA: 16, 32, 64, 128, 256
  /// Persistent kernels: CTAs that a multiprocessor is given; the grid is that many times their number, or less.
  int ctas_per_multiprocessor = 0;
  /// Persistent matvec: units of weights that a warp has in flight, 1 to 8. Matmul at tensor-core precision: stages of
  /// columns in shared memory, as many as the emitter's errors say.
  int stages = 0;
  int runs_per_thread = 0;  ///< CUDA dequant: runs of 8 elements that one thread decodes, 1, 2 or 4
  DataPath w_path = DataPath::kDefault;  ///< CUDA dequant: of the weights
  DataPath y_path = DataPath::kDefault;  ///< CUDA dequant: of the results

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
  /// Matmul: what the tensor cores compute fastest. With a16 each weight is rounded once to x's format, bf16 or f16 (which
  /// ends at 65504 and has steps of 2^-24 below 2^-14), before it is multiplied, and sums are those of f32; with afp8 sums of 128 columns are those of Hopper's FP8 tensor cores, which keep
  /// 14 bits (as DeepSeek's and Triton's kernels do). serves_tensor_core_precision says where such kernels exist.
  bool tensor_core_precision = false;
  /// Quantize: values beyond the largest finite code become that code; otherwise NaN or infinity, as
  /// the format has it.
  bool saturate = true;
  int x_columns = 1;        ///< matvec: 1, 2, 4 or 8; a launch may use fewer
  Gate gate = Gate::kNone;  ///< matvec, moe_matvec, moe_matmul
  /// matvec: 1 to 4 matrices of one format and column count that share x in one launch, each with its own
  /// rows, scales, bias and y (q, k and v of an attention layer).
  int matrices = 1;
  /// matvec: y[j, r] += residual[j, r], before y is rounded; f32, f16 or bf16. May be y's own memory if the
  /// formats are the same.
  std::optional<FormatId> residual;
  /// CUDA, sm_90 and up: launches overlap the end of the kernel ahead of them in the stream (programmatic
  /// dependent launch). Results and the order of work are as without: the kernel waits by itself.
  bool dependent_launch = false;
  /// With dependent_launch: nothing that may still run when the kernel starts writes w or its scales, so they are
  /// requested before the kernel ahead has ended. Nor, with moe_matvec, the ids: as for the second product of
  /// experts, whose ids the first had. Prepared weights, and matvec of native bf16, f16, e4m3, e5m2.
  bool constant_weights = false;
  Tuning tuning;
  Target target;

  bool operator==(const KernelSpec&) const = default;
};

/// Whether the op multiplies w by x: matvec, matmul, moe_matvec, moe_matmul.
bool is_product(Op op);
/// Whether the op is a product of few rows of x: matvec, moe_matvec.
bool is_matvec(Op op);
/// Whether the op is a product of any number of rows of x: matmul, moe_matmul.
bool is_matmul(Op op);
/// Whether w is a stack of experts that ids on the device choose from: moe_matvec, moe_matmul.
bool has_experts(Op op);
/// Whether a launch multiplies more than one matrix, or does more with the product than bias and rounding.
bool is_fused(const KernelSpec& spec);
/// Whether there is a matmul with tensor_core_precision of the spec's weights, layout and activations for its target (or, with
/// wgmma, a moe_matmul): sm_80 and up, bf16 activations (without wgmma f16 too) and prepared weights, or native e4m3, e5m2 and those of the activations'
/// format in rows of whole 16-byte vectors; or with wgmma e4m3 weights and activations with scales of 128 columns.
bool serves_tensor_core_precision(const KernelSpec& spec);
/// Whether the target's tensor cores take operands of four warps (wgmma): sm_90a.
bool has_wgmma(const Target& target);
/// How many matrices of weights a launch takes: 2 with a gate, else KernelSpec::matrices.
int weight_matrices(const KernelSpec& spec);
/// Whether kernels of such work may request weights before they wait for the kernel ahead: KernelSpec::constant_weights.
bool can_request_early(const KernelSpec& spec);
/// Whether dequant is the only op that reads the format: the signed integers, and q8_1 and q8_K, which
/// ggml makes of activations.
bool is_dequant_only(FormatId weight);
std::string_view op_name(Op op);
/// Errors: SpecError with the known ops.
Op get_op(std::string_view name);
std::string_view activation_name(ActivationPolicy policy);
/// "default", "direct", "shared".
std::string_view data_path_name(DataPath path);
ActivationPolicy get_activation(std::string_view name);
/// "none", "silu", "gelu_tanh".
std::string_view gate_name(Gate gate);
/// Errors: SpecError with the known names.
Gate get_gate(std::string_view name);

/// The x_columns value that serves `n` columns: the next of 1, 2, 4, 8.
/// Errors: SpecError unless 1 <= n <= 8.
int x_columns_for(int n);

/// The knobs of a matmul whose launches have about `n` rows of x: small tiles for few of them.
Tuning matmul_tuning(const Target& target, std::int64_t n);
/// The same where the rows of w are known as well: at tensor-core precision a large tile multiplies faster, but where it
/// leaves multiprocessors of an H100 or H200 without work a smaller one ends earlier.
Tuning matmul_tuning(const KernelSpec& spec, std::int64_t rows, std::int64_t n);
/// The knobs of a moe_matmul of so many slots and experts: a tile for half as many slots again as an expert has on average,
/// so that few experts need two.
Tuning moe_matmul_tuning(const Target& target, std::int64_t slots, std::int64_t experts);

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
