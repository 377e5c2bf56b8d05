// Facts about emitted text, across many specs.
#include "codegen/emitter.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "tests/support/kernel_cases.h"

namespace ktjit::codegen {
namespace {

std::string text_of(Op op, std::string_view format, const Target& target) {
  return emit(test::make_spec(op, format, 512, target)).source;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("only sm_89 and up convert FP8 by hardware") {
  for (const CudaFacts& facts : all_cuda_facts()) {
    for (Op op : {Op::kDequant, Op::kMatvec}) {
      INFO(facts.sm);
      CHECK(contains(text_of(op, "fp8_e4m3", make_cuda_target(facts.sm)), "cvt.rn.f16x2.e4m3x2") ==
            (facts.sm >= 89));
      CHECK(contains(text_of(op, "fp8_e5m2", make_cuda_target(facts.sm)), "cvt.rn.f16x2.e5m2x2") ==
            (facts.sm >= 89));
      CHECK_FALSE(contains(text_of(op, "fp8_e4b15", make_cuda_target(facts.sm)), "cvt.rn.f16x2.e"));
    }
  }
}

TEST_CASE("sm_61 text has no f16 arithmetic") {
  for (FormatId format : test::product_formats()) {
    const std::string text = text_of(Op::kMatvec, get_format(format).name, make_cuda_target(61));
    INFO(get_format(format).name);
    CHECK_FALSE(contains(text, "mul.rn.f16x2"));
  }
}

TEST_CASE("text includes no header and leaves no placeholder") {
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    const std::string text = emit(kernel.spec).source;
    INFO(kernel.path);
    CHECK_FALSE(contains(text, "#include"));
    CHECK_FALSE(contains(text, "${"));
    CHECK_FALSE(contains(text, "\r"));
    CHECK_FALSE(contains(text, "\n\n\n"));
    CHECK(text.ends_with("}\n"));
    CHECK(contains(text, emit(kernel.spec).entry_name));
  }
}

TEST_CASE("equal specs give equal text, and different specs different entry names or text") {
  std::set<std::string> texts;
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    const std::string text = emit(kernel.spec).source;
    INFO(kernel.path);
    CHECK(text == emit(kernel.spec).source);
    CHECK(texts.insert(text).second);
  }
}

// What the compiler may not do is said by the text: see codegen/cuda_parts.cpp, add_wait.
TEST_CASE("dependent kernel waits before anything else, and promises nothing about aliases") {
  int kernels = 0;
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    if (!kernel.spec.target.is_cuda() || kernel.spec.op == Op::kReadTest) continue;
    KernelSpec spec = kernel.spec;
    if (spec.target.sm < 90) spec.target = make_cuda_target(90);
    spec.dependent_launch = spec.constant_weights = false;
    const EmittedKernel plain = emit(spec);
    spec.dependent_launch = true;
    const EmittedKernel dependent = emit(spec);
    INFO(dependent.source);
    CHECK(dependent.launch.dependent_launch);
    CHECK(grid_for(dependent.launch, 1000).is_dependent);
    CHECK_FALSE(plain.launch.dependent_launch);
    CHECK_FALSE(grid_for(plain.launch, 1000).is_dependent);
    CHECK_FALSE(contains(plain.source, "griddepcontrol"));
    CHECK(contains(plain.source, "__restrict__"));
    CHECK_FALSE(contains(dependent.source, "__restrict__"));
    CHECK_FALSE(contains(dependent.source, "ld.global.nc"));
    const std::size_t body = dependent.source.find(") {\n", dependent.source.find("__global__"));
    REQUIRE(body != std::string::npos);
    CHECK(dependent.source.substr(body).starts_with(
        ") {\n  wait_for_earlier_grids();\n  let_next_grid_start();\n\n  "));
    CHECK(dependent.entry_name == plain.entry_name + "_dependent");
    ++kernels;
  }
  CHECK(kernels > 60);
}

TEST_CASE("a row that can't be cut into blocks is refused with the block size") {
  CHECK_THROWS_WITH(emit(test::make_spec(Op::kDequant, "q4_K", 500, make_cuda_target(86))),
                    Catch::Contains("500") && Catch::Contains("256"));
}

TEST_CASE("quantised activations are refused by name until they are served") {
  KernelSpec spec = test::make_spec(Op::kMatvec, "q4_K", 512, make_cuda_target(86));
  spec.activation = ActivationPolicy::kA8;
  CHECK_THROWS_WITH(
      emit(spec), Catch::Contains("activation is a8") && Catch::Contains("the interleaved layout"));
}

TEST_CASE("launch shapes cover every row and column exactly once") {
  for (std::int64_t cols : {8, 77, 256, 2048, 2056, 4096, 18432}) {
    const EmittedKernel kernel =
        emit(test::make_spec(Op::kDequant, "f16", cols, make_cuda_target(86)));
    const std::int64_t threads_per_row = kernel.launch.threads / kernel.launch.rows_per_cta;
    INFO(cols);
    CHECK(threads_per_row * kernel.launch.rows_per_cta == kernel.launch.threads);
    constexpr int kThreadCols = 16;  // two runs
    CHECK(threads_per_row * kernel.launch.column_tiles * kThreadCols >= cols);
    CHECK(threads_per_row * (kernel.launch.column_tiles - 1) * kThreadCols < cols);
    CHECK(grid_for(kernel.launch, 1000).x == (1000 + kernel.launch.rows_per_cta - 1) /
                                                 kernel.launch.rows_per_cta *
                                                 kernel.launch.column_tiles);
  }
}

TEST_CASE("knobs of dequant that don't fit the shape are refused") {
  KernelSpec spec = test::make_spec(Op::kDequant, "q4_K", 4096, make_cuda_target(86));
  spec.tuning.runs_per_thread = 3;
  CHECK_THROWS_WITH(emit(spec), "runs_per_thread is 3, allowed: 1, 2 or 4");
  spec.tuning = {.threads = 1024, .runs_per_thread = 4};
  CHECK_THROWS_WITH(emit(spec), Catch::Contains("131072 bytes of shared memory, at most 49152"));
  spec.tuning = {.w_path = DataPath::kShared};
  CHECK_THAT(emit(spec).source, Catch::Contains("__shared__ Words4 staged[kTileVectors]"));
  spec.layout.cols = 768;  // rows of 432 bytes, of which a CTA has several
  CHECK_THROWS_WITH(emit(spec), Catch::Contains("w_path is shared"));
  spec = test::make_spec(Op::kDequant, "fp8_e4m3", 77, make_cuda_target(86));
  spec.tuning.y_path = DataPath::kShared;
  CHECK_THROWS_WITH(emit(spec), Catch::Contains("y_path is shared"));
}

TEST_CASE("rows that leave threads idle get CTAs of a better width") {
  KernelSpec spec = test::make_spec(Op::kDequant, "fp8_e4m3", 1536, make_cuda_target(86));
  spec.y_format = FormatId::kBF16;
  CHECK(emit(spec).launch.threads == 96);  // two runs each
  spec.layout.cols = 18432;
  CHECK(emit(spec).launch.threads == 128);
  CHECK(emit(spec).launch.column_tiles == 9);
}

TEST_CASE("weights that vectors can't reach are read one by one, or refused") {
  KernelSpec spec = test::make_spec(Op::kQuantize, "fp8_e4m3", 512, make_cuda_target(86));
  CHECK_THAT(emit(spec).source, Catch::Contains("*(const Words4*)(row + col)"));
  spec.layout.base_alignment_bytes = 4;
  CHECK_THAT(emit(spec).source, !Catch::Contains("Words4"));
  spec.op = Op::kNanScan;
  CHECK_THROWS_WITH(emit(spec), Catch::Contains("base_alignment_bytes is 4"));
  spec = test::make_spec(Op::kMatmul, "fp8_e4m3", 512, make_cuda_target(86));
  CHECK_THAT(emit(spec).source, !Catch::Contains("// Byte by byte"));
  spec.layout.base_alignment_bytes = 4;
  CHECK_THAT(emit(spec).source, Catch::Contains("// Byte by byte"));
}

TEST_CASE(
    "matmul of every format with units fits every target with tensor cores, for any rows of x") {
  int kernels = 0;
  for (const Format& format : all_formats()) {
    if (find_prepared_layout(format.id) == nullptr || format.id == FormatId::kIQ1_M) continue;
    for (const CudaFacts& facts : all_cuda_facts()) {
      if (facts.sm < 75) continue;
      for (const int n : {1, 17, 40, 1000}) {
        for (const FormatId x_format : {FormatId::kF32, FormatId::kBF16}) {
          for (const LayoutKind layout : {LayoutKind::kNative, LayoutKind::kPrepared}) {
            KernelSpec spec =
                test::make_spec(Op::kMatmul, format.name, 4096, make_cuda_target(facts.sm));
            spec.x_format = x_format;
            spec.layout.kind = layout;
            spec.tuning = matmul_tuning(spec.target, n);
            INFO(format.name << " on sm_" << facts.sm << ", n = " << n);
            const EmittedKernel emitted = emit(spec);
            CHECK(contains(emitted.source, "mma.sync"));
            CHECK(emitted.launch.smem_bytes <=
                  static_cast<unsigned>(get_cuda_facts(spec.target).smem_per_cta_bytes));
            ++kernels;
          }
        }
      }
    }
  }
  CHECK(kernels >= 26 * 16 * 6);
}

TEST_CASE("tensor cores are used where the product stays of f32 quality") {
  const auto source = [](FormatId weight, FormatId x_format, int sm, bool finite = false) {
    KernelSpec spec =
        ktjit::make_spec(Op::kMatmul, weight, std::nullopt, 512, make_cuda_target(sm));
    spec.x_format = x_format;
    spec.weights_finite = finite;
    return emit(spec).source;
  };
  using enum FormatId;
  const auto uses = [](const char* instruction) { return Catch::Contains(instruction); };
  CHECK_THAT(source(kFp8E4M3, kBF16, 86), uses("m16n8k16.row.col.f32.bf16"));
  CHECK_THAT(source(kFp8E4M3, kBF16, 75), uses("m16n8k8.row.col.f32.f16") && uses("power_of_row"));
  CHECK_THAT(source(kFp8E4M3, kF16, 75), uses("m16n8k8.row.col.f32.f16") && !uses("power_of_row"));
  CHECK_THAT(source(kFp8E4M3, kF32, 86), uses("m16n8k16.row.col.f32.f16") && uses("kTerms = 2"));
  CHECK_THAT(source(kFp8E4M3, kF32, 70), !uses("mma.sync"));
  CHECK_THAT(source(kFp8E5M2, kF32, 86), !uses("mma.sync"));  // infinities in two terms
  CHECK_THAT(source(kFp8E5M2, kF32, 86, true), uses("mma.sync"));
  CHECK_THAT(source(kBF16, kF16, 86), !uses("mma.sync"));  // neither form holds both
  CHECK_THAT(source(kBF16, kBF16, 86), uses("m16n8k16.row.col.f32.bf16"));
  CHECK_THAT(source(kQ4_K, kF16, 86), uses("m16n8k16.row.col.f32.f16"));  // by units
  CHECK_THAT(source(kQ4_K, kF32, 86), uses("m16n8k16.row.col.f32.bf16") && uses("kTerms = 3"));
  CHECK_THAT(source(kQ4_K, kF32, 75), uses("m16n8k8.row.col.f32.f16") && uses("power_of_row"));
  CHECK_THAT(source(kQ4_K, kF32, 70), !uses("mma.sync"));
  CHECK_THAT(source(kIQ1_M, kF32, 86), !uses("mma.sync"));
  KernelSpec afp8 = test::make_spec(Op::kMatmul, "fp8_e4m3", 512, make_cuda_target(89));
  afp8.activation = ActivationPolicy::kAfp8;
  afp8.x_format = kFp8E4M3;
  afp8.x_scale = ScaleGrid{1, 128};
  CHECK_THAT(emit(afp8).source, uses("m16n8k32.row.col.f32.e4m3"));
  afp8.target = make_cuda_target(86);
  CHECK_THAT(emit(afp8).source, uses("m16n8k16.row.col.f32.f16"));
}

TEST_CASE("knobs out of range are refused") {
  KernelSpec spec = test::make_spec(Op::kMatvec, "q4_K", 512, make_cuda_target(86));
  spec.tuning.threads = 100;
  CHECK_THROWS_AS(emit(spec), SpecError);
  spec.tuning.threads = 2048;
  CHECK_THROWS_AS(emit(spec), SpecError);
  spec.tuning = {128, 9};
  CHECK_THROWS_AS(emit(spec), SpecError);
  spec.tuning = {128, 4};
  CHECK(contains(emit(spec).source, "kRowsPerWarp = 4"));
}

}  // namespace ktjit::codegen
