// Specs: what is refused and by which field, and that text and name tell specs apart.
#include "core/kernel_spec.h"

#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"

namespace ktjit {
namespace {

using Change = std::function<void(KernelSpec&)>;

KernelSpec fp8_matvec() {
  KernelSpec spec;
  spec.op = Op::kMatvec;
  spec.weight = FormatId::kFp8E4M3;
  spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
  spec.layout.cols = 7168;
  spec.target = make_cuda_target(86);
  return spec;
}

/// The field that validate names, "" if it accepts the spec.
std::string refused_field(const KernelSpec& spec) {
  try {
    validate(spec);
  } catch (const SpecError& error) {
    CHECK_THAT(error.what(), Catch::StartsWith(error.field() + " is "));
    return error.field();
  }
  return "";
}

TEST_CASE("specs that back ends serve are valid") {
  KernelSpec spec = fp8_matvec();
  CHECK(refused_field(spec).empty());
  for (int columns : {1, 2, 4, 8}) {
    spec.x_columns = columns;
    CHECK(refused_field(spec).empty());
  }
  spec.scale.reset();
  CHECK(refused_field(spec).empty());
  spec.target = make_cpu_target("x86-64-v3", cpu_level_features("x86-64-v3"));
  CHECK(refused_field(spec).empty());
  spec.op = Op::kDequant;
  for (FormatId y : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
    spec.y_format = y;
    CHECK(refused_field(spec).empty());
  }
}

TEST_CASE("signed integers, q8_1 and q8_K have dequant only") {
  for (const Format& format : all_formats()) {
    KernelSpec spec = fp8_matvec();
    spec.weight = format.id;
    spec.scale = fixed_scale_grid(format.id);
    spec.layout.cols = 512;
    const bool is_refused =
        std::set<std::string_view>{"i8", "i16", "i32", "i64", "q8_1", "q8_K"}.contains(format.name);
    CAPTURE(format.name);
    CHECK(is_dequant_only(format.id) == is_refused);
    for (Op op : {Op::kMatvec, Op::kMatmul}) {
      spec.op = op;
      CHECK(refused_field(spec) == (is_refused ? "format" : ""));
    }
    spec.op = Op::kDequant;
    CHECK(refused_field(spec).empty());
  }
  KernelSpec spec = fp8_matvec();
  spec.weight = FormatId::kI64;
  spec.scale.reset();
  CHECK_THROWS_WITH(validate(spec),
                    "format is i64, allowed: formats that matvec takes (i64 has dequant only)");
}

TEST_CASE("each wrong field is refused by its name") {
  struct Case {
    std::string what;
    std::string field;
    Change change;
  };
  const std::vector<Case> cases = {
      {"no columns", "cols", [](KernelSpec& s) { s.layout.cols = 0; }},
      {"negative columns", "cols", [](KernelSpec& s) { s.layout.cols = -128; }},
      {"part of a block", "cols",
       [](KernelSpec& s) {
         s.weight = FormatId::kQ4_K;
         s.scale.reset();
         s.layout.cols = 255;
       }},
      {"no alignment", "base_alignment_bytes",
       [](KernelSpec& s) { s.layout.base_alignment_bytes = 0; }},
      {"alignment of 24", "base_alignment_bytes",
       [](KernelSpec& s) { s.layout.base_alignment_bytes = 24; }},
      {"negative alignment", "base_alignment_bytes",
       [](KernelSpec& s) { s.layout.base_alignment_bytes = -16; }},
      {"scales beside q8_0", "scale", [](KernelSpec& s) { s.weight = FormatId::kQ8_0; }},
      {"negative scale rows", "scale", [](KernelSpec& s) { s.scale->block_rows = -1; }},
      {"negative scale columns", "scale", [](KernelSpec& s) { s.scale->block_cols = -1; }},
      {"FP8 result", "y_format", [](KernelSpec& s) { s.y_format = FormatId::kFp8E5M2; }},
      {"q8_0 bias", "bias", [](KernelSpec& s) { s.bias = FormatId::kQ8_0; }},
      {"bias of a dequant", "bias",
       [](KernelSpec& s) {
         s.op = Op::kDequant;
         s.bias = FormatId::kF32;
       }},
      {"scales of x with a16", "x_scale", [](KernelSpec& s) { s.x_scale = ScaleGrid{1, 128}; }},
      {"FP8 x with a16", "x_format", [](KernelSpec& s) { s.x_format = FormatId::kFp8E4M3; }},
      {"afp8 matvec", "activation", [](KernelSpec& s) { s.activation = ActivationPolicy::kAfp8; }},
      {"afp8 without scales of x", "x_scale",
       [](KernelSpec& s) {
         s.op = Op::kMatmul;
         s.activation = ActivationPolicy::kAfp8;
         s.x_format = FormatId::kFp8E4M3;
       }},
      {"afp8 with f16 x", "x_format",
       [](KernelSpec& s) {
         s.op = Op::kMatmul;
         s.activation = ActivationPolicy::kAfp8;
         s.x_format = FormatId::kF16;
         s.x_scale = ScaleGrid{1, 128};
       }},
      {"finite q8_0", "weights_finite",
       [](KernelSpec& s) {
         s.weight = FormatId::kQ8_0;
         s.scale.reset();
         s.weights_finite = true;
       }},
      {"nan_scan of q8_0", "format",
       [](KernelSpec& s) {
         s.weight = FormatId::kQ8_0;
         s.scale.reset();
         s.op = Op::kNanScan;
       }},
      {"quantise with one scale per tensor", "scale",
       [](KernelSpec& s) {
         s.op = Op::kQuantize;
         s.scale = ScaleGrid{0, 0};
       }},
      {"quantise with bf16 scales", "scale",
       [](KernelSpec& s) {
         s.op = Op::kQuantize;
         s.scale = ScaleGrid{1, 128, ScaleType::kBF16};
       }},
      {"quantise from f64", "x_format",
       [](KernelSpec& s) {
         s.op = Op::kQuantize;
         s.scale = ScaleGrid{1, 128};
         s.x_format = FormatId::kF64;
       }},
      {"quantise with scales but without saturation", "saturate",
       [](KernelSpec& s) {
         s.op = Op::kQuantize;
         s.scale = ScaleGrid{1, 128};
         s.saturate = false;
       }},
      {"mxfp4 without its scales", "scale",
       [](KernelSpec& s) {
         s.weight = FormatId::kMxfp4;
         s.scale.reset();
       }},
      {"nvfp4 with mxfp4's scales", "scale",
       [](KernelSpec& s) {
         s.weight = FormatId::kNvfp4;
         s.scale = fixed_scale_grid(FormatId::kMxfp4);
       }},
      {"q8_0 result of dequant", "y_format",
       [](KernelSpec& s) {
         s.op = Op::kDequant;
         s.y_format = FormatId::kQ8_0;
       }},
      {"f64 activations", "x_format", [](KernelSpec& s) { s.x_format = FormatId::kF64; }},
      {"no activation columns", "x_columns", [](KernelSpec& s) { s.x_columns = 0; }},
      {"3 activation columns", "x_columns", [](KernelSpec& s) { s.x_columns = 3; }},
      {"16 activation columns", "x_columns", [](KernelSpec& s) { s.x_columns = 16; }},
      {"negative activation columns", "x_columns", [](KernelSpec& s) { s.x_columns = -8; }},
      {"columns of x with moe_matvec", "x_columns",
       [](KernelSpec& s) {
         s.op = Op::kMoeMatvec;
         s.x_columns = 2;
       }},
      {"columns of x with moe_matmul", "x_columns",
       [](KernelSpec& s) {
         s.op = Op::kMoeMatmul;
         s.x_columns = 8;
       }},
      {"two stacks of experts of moe_matmul", "matrices",
       [](KernelSpec& s) {
         s.op = Op::kMoeMatmul;
         s.matrices = 2;
       }},
      {"a residual of moe_matmul", "residual",
       [](KernelSpec& s) {
         s.op = Op::kMoeMatmul;
         s.residual = FormatId::kF32;
       }},
      {"afp8 moe_matvec", "activation",
       [](KernelSpec& s) {
         s.op = Op::kMoeMatvec;
         s.activation = ActivationPolicy::kAfp8;
       }},
      {"a gate of a matmul", "gate",
       [](KernelSpec& s) {
         s.op = Op::kMatmul;
         s.gate = Gate::kSilu;
       }},
      {"a gate of a dequant", "gate",
       [](KernelSpec& s) {
         s.op = Op::kDequant;
         s.gate = Gate::kGeluTanh;
       }},
      {"no matrix", "matrices", [](KernelSpec& s) { s.matrices = 0; }},
      {"5 matrices", "matrices", [](KernelSpec& s) { s.matrices = 5; }},
      {"two matrices of a matmul", "matrices",
       [](KernelSpec& s) {
         s.op = Op::kMatmul;
         s.matrices = 2;
       }},
      {"two stacks of experts", "matrices",
       [](KernelSpec& s) {
         s.op = Op::kMoeMatvec;
         s.matrices = 2;
       }},
      {"two matrices with a gate", "matrices",
       [](KernelSpec& s) {
         s.gate = Gate::kSilu;
         s.matrices = 2;
       }},
      {"a residual of a matmul", "residual",
       [](KernelSpec& s) {
         s.op = Op::kMatmul;
         s.residual = FormatId::kF32;
       }},
      {"a residual of experts", "residual",
       [](KernelSpec& s) {
         s.op = Op::kMoeMatvec;
         s.residual = FormatId::kF32;
       }},
      {"a residual with a gate", "residual",
       [](KernelSpec& s) {
         s.gate = Gate::kSilu;
         s.residual = FormatId::kF32;
       }},
      {"a residual of two matrices", "residual",
       [](KernelSpec& s) {
         s.matrices = 2;
         s.residual = FormatId::kF32;
       }},
      {"a q8_0 residual", "residual", [](KernelSpec& s) { s.residual = FormatId::kQ8_0; }},
      {"a chip that doesn't exist", "target", [](KernelSpec& s) { s.target.sm = 85; }},
      {"a suffix the chip lacks", "target", [](KernelSpec& s) { s.target.suffix.push_back('a'); }},
  };
  for (const Case& one : cases) {
    INFO(one.what);
    KernelSpec spec = fp8_matvec();
    one.change(spec);
    CHECK(refused_field(spec) == one.field);
  }
}

TEST_CASE("products that are fused are in the kernel's name and text, and nothing else changes") {
  const std::string name = "matvec_fp8_e4m3_s128x128_f32_x_f32";
  const auto check = [&](const Change& change, const std::string& expected,
                         const std::string& line) {
    KernelSpec spec = fp8_matvec();
    change(spec);
    CHECK(refused_field(spec).empty());
    CHECK(kernel_name(spec) == expected);
    std::string text = to_text(spec);
    REQUIRE(text.find(line) != std::string::npos);
    CHECK(is_fused(spec));
    CHECK(text.erase(text.find(line), line.size()) == to_text(fp8_matvec()));
  };
  check([](KernelSpec& s) { s.gate = Gate::kSilu; }, name + "_gate_silu_c7168_n1", "gate: silu\n");
  check([](KernelSpec& s) { s.gate = Gate::kGeluTanh; }, name + "_gate_gelu_tanh_c7168_n1",
        "gate: gelu_tanh\n");
  check([](KernelSpec& s) { s.matrices = 3; }, name + "_m3_c7168_n1", "matrices: 3\n");
  check([](KernelSpec& s) { s.residual = FormatId::kBF16; }, name + "_residual_bf16_c7168_n1",
        "residual: bf16\n");
  CHECK_FALSE(is_fused(fp8_matvec()));

  KernelSpec experts = fp8_matvec();
  experts.op = Op::kMoeMatvec;
  CHECK(refused_field(experts).empty());
  CHECK(kernel_name(experts) == "moe_matvec_fp8_e4m3_s128x128_f32_x_f32_c7168");
  CHECK_FALSE(is_fused(experts));
  experts.gate = Gate::kSilu;
  CHECK(refused_field(experts).empty());
  CHECK(kernel_name(experts) == "moe_matvec_fp8_e4m3_s128x128_f32_x_f32_gate_silu_c7168");
  CHECK(weight_matrices(experts) == 2);

  experts.op = Op::kMoeMatmul;
  CHECK(refused_field(experts).empty());
  CHECK(kernel_name(experts) == "moe_matmul_fp8_e4m3_s128x128_f32_x_f32_gate_silu_c7168");
  CHECK(is_matmul(experts.op));
  CHECK(has_experts(experts.op));
  CHECK_FALSE(is_matvec(experts.op));
}

TEST_CASE("moe_matmul has tiles for half as many slots again as an expert has on average") {
  const Target target = make_cuda_target(86);
  CHECK(moe_matmul_tuning(target, 4096, 128).x_tile == 64);
  CHECK(moe_matmul_tuning(target, 2048, 128).x_tile == 32);
  CHECK(moe_matmul_tuning(target, 8, 128).x_tile == 16);
  CHECK(moe_matmul_tuning(target, 65536, 128) == Tuning{});
}

TEST_CASE("dependent launches are for sm_90 and up, and in the kernel's name and text") {
  KernelSpec spec = fp8_matvec();
  spec.dependent_launch = true;
  CHECK_THROWS_WITH(validate(spec),
                    "dependent_launch is true for sm_86, allowed: false below sm_90 and on CPUs");
  spec.target = make_cpu_target("native", {});
  CHECK(refused_field(spec) == "dependent_launch");
  spec.target = make_cuda_target(89);
  CHECK(refused_field(spec) == "dependent_launch");
  for (const Target& target :
       {make_cuda_target(90), make_cuda_target(90, "a"), make_cuda_target(120, "a")}) {
    spec.target = target;
    CHECK_NOTHROW(validate(spec));
  }
  CHECK(kernel_name(spec) == kernel_name(fp8_matvec()) + "_dependent");
  CHECK(to_text(spec).find("\ndependent_launch: yes\n") != std::string::npos);
  KernelSpec read_test = make_read_test_spec(make_cuda_target(90));
  read_test.dependent_launch = true;
  CHECK(refused_field(read_test) == "dependent_launch");
}

TEST_CASE("messages of validate name value and expectation") {
  KernelSpec spec = fp8_matvec();
  spec.weight = FormatId::kQ8_0;
  CHECK_THROWS_WITH(validate(spec), "scale is 128x128 f32, allowed: none with q8_0");
  spec = fp8_matvec();
  spec.x_columns = 9;
  CHECK_THROWS_WITH(validate(spec), "x_columns is 9, allowed: 1, 2, 4, 8");
  spec = fp8_matvec();
  spec.y_format = FormatId::kFp8E5M2;
  CHECK_THROWS_WITH(validate(spec), "y_format is fp8_e5m2, allowed: f32, f16, bf16");
}

TEST_CASE("the text of a spec lists every field") {
  KernelSpec spec = fp8_matvec();
  spec.tuning.rows_per_warp = 4;
  CHECK(to_text(spec) ==
        "op: matvec\n"
        "weight: fp8_e4m3\n"
        "scale: 128x128 f32\n"
        "layout: native\n"
        "cols: 7168\n"
        "base_alignment_bytes: 16\n"
        "activation: a16\n"
        "x_format: f32\n"
        "x_scale: none\n"
        "bias: none\n"
        "x_columns: 1\n"
        "weights_finite: not known\n"
        "y_format: f32\n"
        "threads: default\n"
        "rows_per_warp: 4\n"
        "target: sm_86\n");
  spec.op = Op::kDequant;
  spec.target = make_cpu_target("x86-64-v2", cpu_level_features("x86-64-v2"));
  CHECK(to_text(spec) ==
        "op: dequant\n"
        "weight: fp8_e4m3\n"
        "scale: 128x128 f32\n"
        "layout: native\n"
        "cols: 7168\n"
        "base_alignment_bytes: 16\n"
        "weights_finite: not known\n"
        "y_format: f32\n"
        "threads: default\n"
        "rows_per_warp: 4\n"
        "target: cpu:x86-64-v2\n"
        "cpu_features: popcnt,sse4.1,sse4.2,ssse3\n");
}

TEST_CASE("changing any single field changes the text") {
  const std::vector<std::pair<std::string, Change>> changes = {
      {"op", [](KernelSpec& s) { s.op = Op::kDequant; }},
      {"weight", [](KernelSpec& s) { s.weight = FormatId::kFp8E5M2; }},
      {"scale", [](KernelSpec& s) { s.scale.reset(); }},
      {"scale.block_rows", [](KernelSpec& s) { s.scale->block_rows = 1; }},
      {"scale.block_rows to 0", [](KernelSpec& s) { s.scale->block_rows = 0; }},
      {"scale.block_cols", [](KernelSpec& s) { s.scale->block_cols = 64; }},
      {"scale.block_cols to 0", [](KernelSpec& s) { s.scale->block_cols = 0; }},
      {"scale per tensor", [](KernelSpec& s) { s.scale = ScaleGrid{0, 0}; }},
      {"scale per row", [](KernelSpec& s) { s.scale = ScaleGrid{1, 0}; }},
      {"scale per element of a row", [](KernelSpec& s) { s.scale = ScaleGrid{0, 1}; }},
      {"scale.type", [](KernelSpec& s) { s.scale->type = ScaleType::kE8M0; }},
      {"layout.cols", [](KernelSpec& s) { s.layout.cols = 7169; }},
      {"layout.base_alignment_bytes", [](KernelSpec& s) { s.layout.base_alignment_bytes = 8; }},
      {"activation", [](KernelSpec& s) { s.activation = ActivationPolicy::kA8; }},
      {"x_format", [](KernelSpec& s) { s.x_format = FormatId::kBF16; }},
      {"y_format", [](KernelSpec& s) { s.y_format = FormatId::kF16; }},
      {"x_columns", [](KernelSpec& s) { s.x_columns = 2; }},
      {"op moe_matvec", [](KernelSpec& s) { s.op = Op::kMoeMatvec; }},
      {"gate", [](KernelSpec& s) { s.gate = Gate::kSilu; }},
      {"another gate", [](KernelSpec& s) { s.gate = Gate::kGeluTanh; }},
      {"matrices", [](KernelSpec& s) { s.matrices = 2; }},
      {"more matrices", [](KernelSpec& s) { s.matrices = 3; }},
      {"residual", [](KernelSpec& s) { s.residual = FormatId::kF32; }},
      {"residual of 16 bits", [](KernelSpec& s) { s.residual = FormatId::kF16; }},
      {"dependent_launch", [](KernelSpec& s) { s.dependent_launch = true; }},
      {"tuning.threads", [](KernelSpec& s) { s.tuning.threads = 64; }},
      {"tuning.rows_per_warp", [](KernelSpec& s) { s.tuning.rows_per_warp = 2; }},
      {"tuning.runs_per_thread", [](KernelSpec& s) { s.tuning.runs_per_thread = 2; }},
      {"tuning.w_path", [](KernelSpec& s) { s.tuning.w_path = DataPath::kDirect; }},
      {"tuning.w_path, shared", [](KernelSpec& s) { s.tuning.w_path = DataPath::kShared; }},
      {"tuning.y_path", [](KernelSpec& s) { s.tuning.y_path = DataPath::kDirect; }},
      {"target.sm", [](KernelSpec& s) { s.target = make_cuda_target(89); }},
      {"target.suffix", [](KernelSpec& s) { s.target = make_cuda_target(90, "a"); }},
      {"target.suffix, none", [](KernelSpec& s) { s.target = make_cuda_target(90); }},
      {"target.kind", [](KernelSpec& s) { s.target = make_cpu_target("native", {"fma"}); }},
      {"target.cpu_level", [](KernelSpec& s) { s.target = make_cpu_target("x86-64", {"fma"}); }},
      {"target.cpu_features",
       [](KernelSpec& s) { s.target = make_cpu_target("native", {"avx2", "fma"}); }},
  };
  std::map<std::string, std::string> seen = {{to_text(fp8_matvec()), "the original"}};
  for (const auto& [field, change] : changes) {
    KernelSpec spec = fp8_matvec();
    change(spec);
    REQUIRE(spec != fp8_matvec());
    const auto [other, is_new] = seen.emplace(to_text(spec), field);
    INFO(field << " and " << other->second);
    CHECK(is_new);
  }
}

TEST_CASE("equal specs have equal texts, whatever the order of CPU features") {
  KernelSpec a = fp8_matvec();
  KernelSpec b = fp8_matvec();
  a.target = make_cpu_target("native", {"avx2", "fma"});
  b.target = make_cpu_target("native", {"fma", "avx2"});
  CHECK(a == b);
  CHECK(to_text(a) == to_text(b));
}

TEST_CASE("kernel names tell specs of one target apart") {
  CHECK(kernel_name(fp8_matvec()) == "matvec_fp8_e4m3_s128x128_f32_x_f32_c7168_n1");
  std::set<std::string> names;
  int count = 0;
  const auto add = [&](const KernelSpec& spec) {
    const std::string name = kernel_name(spec);
    INFO(name);
    ++count;
    CHECK(names.insert(name).second);
    CHECK(
        name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
        std::string::npos);
  };
  for (const Format& format : all_formats()) {
    for (std::int64_t cols : {256, 4096}) {
      std::vector<std::optional<ScaleGrid>> grids = {std::nullopt};
      if (format.family == FormatFamily::kFp8) {
        for (ScaleType type : {ScaleType::kF32, ScaleType::kBF16, ScaleType::kE8M0}) {
          for (ScaleGrid grid : {ScaleGrid{0, 0}, {1, 0}, {1, 128}, {128, 128}, {32, 32}}) {
            grid.type = type;
            grids.push_back(grid);
          }
        }
      }
      for (const auto& grid : grids) {
        for (FormatId io : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
          KernelSpec spec = fp8_matvec();
          spec.weight = format.id;
          spec.layout.cols = cols;
          spec.scale = grid;
          spec.x_format = io;
          for (ActivationPolicy policy :
               {ActivationPolicy::kA16, ActivationPolicy::kA8, ActivationPolicy::kAfp8}) {
            spec.activation = policy;
            for (int columns : {1, 2, 4, 8}) {
              spec.x_columns = columns;
              add(spec);
            }
          }
          KernelSpec dequant = spec;
          dequant.op = Op::kDequant;
          dequant.y_format = io;
          add(dequant);
        }
      }
    }
  }
  CHECK(names.size() == static_cast<std::size_t>(count));
  CHECK(count > 5000);
}

TEST_CASE("ops and activation policies are found by their names") {
  for (Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul, Op::kMoeMatvec, Op::kMoeMatmul,
                Op::kQuantize, Op::kNanScan, Op::kReadTest})
    CHECK(get_op(op_name(op)) == op);
  CHECK_THROWS_WITH(
      get_op("matmull"),
      "op is 'matmull', allowed: dequant, matvec, matmul, moe_matvec, moe_matmul, quantize, "
      "prepare, restore, nan_scan, read_test");
  for (Gate gate : {Gate::kNone, Gate::kSilu, Gate::kGeluTanh})
    CHECK(get_gate(gate_name(gate)) == gate);
  CHECK_THROWS_WITH(get_gate("relu"), "gate is 'relu', allowed: none, silu, gelu_tanh");
  for (ActivationPolicy policy :
       {ActivationPolicy::kA16, ActivationPolicy::kA8, ActivationPolicy::kAfp8}) {
    CHECK(get_activation(activation_name(policy)) == policy);
  }
  CHECK_THROWS_WITH(get_activation("a4"), "activation is 'a4', allowed: a16, a8, afp8");
}

TEST_CASE("a count of activation columns is served by the next of 1, 2, 4, 8") {
  const std::vector<int> served = {1, 2, 4, 4, 8, 8, 8, 8};
  for (int n = 1; n <= 8; ++n) CHECK(x_columns_for(n) == served[static_cast<std::size_t>(n - 1)]);
  CHECK_THROWS_WITH(x_columns_for(0), "n is 0, allowed: 1 to 8 activation columns");
  CHECK_THROWS_AS(x_columns_for(9), SpecError);
  CHECK_THROWS_AS(x_columns_for(-1), SpecError);
}

TEST_CASE("FP8 with scales of MX is called mxfp8 in a spec and in the kernel's name") {
  KernelSpec spec;
  spec.op = Op::kDequant;
  spec.scale = ScaleGrid{1, 32, ScaleType::kE8M0};
  spec.layout.cols = 64;
  spec.target = make_cuda_target(86);
  for (const auto& [id, name] : {std::pair{FormatId::kFp8E4M3, std::string("mxfp8_e4m3")},
                                 {FormatId::kFp8E5M2, "mxfp8_e5m2"}}) {
    spec.weight = id;
    validate(spec);
    CHECK_THAT(to_text(spec), Catch::Contains("weight: " + name + "\nscale: 1x32 e8m0\n"));
    CHECK_THAT(kernel_name(spec), Catch::StartsWith("dequant_" + name + "_s1x32_e8m0_"));
  }
}

}  // namespace
}  // namespace ktjit
