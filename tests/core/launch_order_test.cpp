// The order of launch arguments, by their names.
#include "core/launch_order.h"

#include <catch2/catch.hpp>
#include <functional>
#include <string>

namespace ktjit {
namespace {

std::string order_of(Op op, const std::function<void(KernelSpec&)>& change = {}) {
  KernelSpec spec =
      make_spec(op, FormatId::kFp8E4M3, ScaleGrid{128, 128}, 512, make_cuda_target(86));
  if (change) change(spec);
  std::string names;
  for (const LaunchArgument& argument : launch_order(spec))
    names += argument_name(spec, argument) + " ";
  names.pop_back();
  return names;
}

TEST_CASE("every op has its order of arguments") {
  CHECK(order_of(Op::kDequant) == "w scale y rows");
  CHECK(order_of(Op::kMatvec) == "w scale x y rows n");
  CHECK(order_of(Op::kMatmul) == "w scale x y rows n");
  CHECK(order_of(Op::kQuantize) == "x w scale rows");
  CHECK(order_of(Op::kNanScan) == "w found rows");
  CHECK(order_of(Op::kReadTest, [](KernelSpec& s) { s = make_read_test_spec(s.target); }) ==
        "w y rows");
  CHECK(order_of(Op::kMoeMatvec) == "w scale ids x y rows slots slots_per_x experts");
}

TEST_CASE("bias, scales of x and residual stand between x and y") {
  CHECK(order_of(Op::kMatmul, [](KernelSpec& s) {
          s.scale.reset();
          s.x_scale = ScaleGrid{1, 128};
          s.bias = FormatId::kF32;
        }) == "w x x_scale bias y rows n");
  CHECK(order_of(Op::kMatvec, [](KernelSpec& s) {
          s.bias = FormatId::kF32;
          s.residual = FormatId::kF32;
        }) == "w scale x bias residual y rows n");
}

TEST_CASE("several matrices have weights, scales, biases, results and rows of their own") {
  CHECK(order_of(Op::kMatvec, [](KernelSpec& s) {
          s.matrices = 3;
          s.bias = FormatId::kF32;
        }) == "w0 scale0 w1 scale1 w2 scale2 x bias0 bias1 bias2 y0 y1 y2 rows0 rows1 rows2 n");
}

TEST_CASE("a gate and its product have one y") {
  CHECK(order_of(Op::kMatvec, [](KernelSpec& s) { s.gate = Gate::kSilu; }) ==
        "w_gate scale_gate w_up scale_up x y rows n");
  CHECK(order_of(Op::kMoeMatvec,
                 [](KernelSpec& s) {
                   s.gate = Gate::kSilu;
                   s.bias = FormatId::kBF16;
                 }) ==
        "w_gate scale_gate w_up scale_up ids x bias_gate bias_up y rows slots slots_per_x experts");
}

}  // namespace
}  // namespace ktjit
