#include "tests/toolchain/kernel_variants.h"

#include <algorithm>

#include "codegen/emitter.h"
#include "core/error.h"
#include "tests/support/kernel_cases.h"

namespace ktjit::test {
namespace {

constexpr std::int64_t kCols = 512;  // a multiple of every block
constexpr std::int64_t kOddCols = 77;
constexpr FormatId kIoFormats[] = {FormatId::kF32, FormatId::kF16, FormatId::kBF16};

bool is_emitted(const KernelSpec& spec) {
  try {
    codegen::emit(spec);
    return true;
  } catch (const SpecError&) {
    return false;
  }
}

class Variants {
 public:
  Variants(FormatId format, const Target& target) : format_(format), target_(target) {}

  std::vector<KernelSpec> take() {
    add_all();
    std::erase_if(specs_, [](const KernelSpec& spec) { return !is_emitted(spec); });
    return std::move(specs_);
  }

 private:
  KernelSpec spec_of(Op op, std::int64_t cols = kCols) const {
    return make_spec(op, get_format(format_).name, cols, target_);
  }

  void add(const KernelSpec& spec) {
    if (std::find(specs_.begin(), specs_.end(), spec) == specs_.end()) specs_.push_back(spec);
  }

  void add_all() {
    const Format& facts = get_format(format_);
    const bool is_flat = facts.block_elems == 1;
    const bool is_fp8 = facts.family == FormatFamily::kFp8;
    for (FormatId io : kIoFormats) {
      add_dequant(io, kCols);
      if (is_flat) add_dequant(io, kOddCols);
      for (int n : {1, 4, 8}) add_product(Op::kMatvec, io, kCols, n);
      add_product(Op::kMatmul, io, kCols, 64);
      add_product(Op::kMatmul, io, kCols, 1);
      if (is_flat) add_product(Op::kMatvec, io, kOddCols, 1);
      if (is_flat) add_product(Op::kMatmul, io, kOddCols, 64);
      add_quantize(io);
    }
    if (is_fp8) add_scaled();
    add(spec_of(Op::kNanScan));
    add_fused();
    add_moe_matmul();
    add_prepared();
  }

  /// Of prepared weights: the kernels that make and undo them, and matvec, also fused.
  void add_prepared() {
    add(spec_of(Op::kPrepare));
    KernelSpec restore = spec_of(Op::kRestore);
    restore.layout.kind = LayoutKind::kPrepared;
    add(restore);
    for (FormatId x : kIoFormats) {
      for (int n : {1, 32, 64, 128}) {
        KernelSpec spec = spec_of(Op::kMatmul);
        spec.layout.kind = LayoutKind::kPrepared;
        spec.x_format = x;
        spec.tuning = matmul_tuning(target_, n);
        if (n == 64) spec.bias = spec.y_format = FormatId::kBF16;
        add(spec);
      }
    }
    for (FormatId x : kIoFormats) {
      for (int n : {1, 2, 8}) {
        KernelSpec spec = spec_of(Op::kMatvec);
        spec.layout.kind = LayoutKind::kPrepared;
        spec.x_format = x;
        spec.x_columns = n;
        if (n == 2) spec.bias = spec.y_format = FormatId::kBF16;
        add(spec);
        if (n != 1) continue;
        spec.gate = Gate::kSilu;
        add(spec);
        spec.gate = Gate::kNone;
        spec.matrices = 3;
        add(spec);
        spec.matrices = 1;
        spec.op = Op::kMoeMatvec;
        add(spec);
      }
    }
  }

  /// Many tokens by experts, as each skeleton of matmul has them.
  void add_moe_matmul() {
    for (FormatId x : {FormatId::kF32, FormatId::kBF16}) {
      KernelSpec spec = spec_of(Op::kMoeMatmul);
      spec.x_format = x;
      spec.gate = x == FormatId::kF32 ? Gate::kNone : Gate::kSilu;
      spec.tuning = moe_matmul_tuning(target_, 32, 1);
      spec.bias = spec.y_format = x;
      add(spec);
      spec.layout.kind = LayoutKind::kPrepared;
      add(spec);
      spec.tensor_core_precision = true;
      add(spec);
    }
  }

  /// Experts, gates, several matrices and residuals.
  void add_fused() {
    for (FormatId x : kIoFormats) {
      for (Op op : {Op::kMatvec, Op::kMoeMatvec}) {
        KernelSpec spec = spec_of(op);
        spec.x_format = x;
        if (op == Op::kMoeMatvec) add(spec);
        spec.gate = x == FormatId::kF32 ? Gate::kGeluTanh : Gate::kSilu;
        spec.y_format = x;
        add(spec);
      }
      KernelSpec spec = spec_of(Op::kMatvec);
      spec.x_format = x;
      spec.residual = spec.y_format = x;
      add(spec);
      spec.residual.reset();
      spec.matrices = 3;
      spec.bias = FormatId::kF32;
      add(spec);
    }
  }

  void add_dequant(FormatId y, std::int64_t cols) {
    KernelSpec spec = spec_of(Op::kDequant, cols);
    spec.y_format = y;
    add(spec);
  }

  void add_product(Op op, FormatId x, std::int64_t cols, int n) {
    KernelSpec spec = spec_of(op, cols);
    spec.x_format = x;
    if (op == Op::kMatvec) spec.x_columns = n;
    if (op == Op::kMatmul) spec.tuning = matmul_tuning(target_, n);
    if (n == 4) spec.bias = spec.y_format = FormatId::kBF16;
    if (n == 1) spec.y_format = x;
    add(spec);
  }

  void add_quantize(FormatId x) {
    KernelSpec spec = spec_of(Op::kQuantize);
    spec.x_format = x;
    add(spec);
    spec.saturate = false;
    add(spec);
    spec.saturate = true;
    if (spec.scale) return;
    spec.scale = ScaleGrid{1, 128, ScaleType::kF32};
    add(spec);
    spec.layout.cols = kOddCols;
    add(spec);
  }

  void add_scaled() {
    const ScaleGrid grids[] = {{0, 0, ScaleType::kF32},
                               {1, 0, ScaleType::kBF16},
                               {128, 128, ScaleType::kF32},
                               {32, 5, ScaleType::kE8M0}};
    for (const ScaleGrid& grid : grids) {
      for (Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul}) {
        KernelSpec spec = spec_of(op);
        spec.scale = grid;
        add(spec);
        spec.weights_finite = true;
        add(spec);
      }
    }
    KernelSpec spec = spec_of(Op::kMatmul, 576);
    spec.activation = ActivationPolicy::kAfp8;
    spec.x_format = FormatId::kFp8E4M3;
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    spec.x_scale = ScaleGrid{1, 128, ScaleType::kF32};
    add(spec);
  }

  FormatId format_;
  Target target_;
  std::vector<KernelSpec> specs_;
};

}  // namespace

std::vector<KernelSpec> kernel_variants(FormatId format, const Target& target) {
  return Variants(format, target).take();
}

std::vector<Target> all_cuda_targets() {
  std::vector<Target> targets;
  for (const CudaFacts& facts : all_cuda_facts()) {
    targets.push_back(make_cuda_target(facts.sm));
    for (const char suffix : facts.suffixes)
      targets.push_back(make_cuda_target(facts.sm, std::string_view(&suffix, 1)));
  }
  return targets;
}

}  // namespace ktjit::test
