// The reference of fused products, against values worked out by hand or from other formulas.
#include "jit/reference_fused.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"

namespace ktjit {

TEST_CASE("silu and gelu are those of their definitions") {
  CHECK(gate_reference(Gate::kSilu, 0.0) == 0.0);
  CHECK(gate_reference(Gate::kSilu, 1.0) == Approx(0.7310585786300049).epsilon(1e-15));
  CHECK(gate_reference(Gate::kSilu, -2.0) == Approx(-0.2384058440442351).epsilon(1e-15));
  for (double g : {-5.0, -1.0, -0.1, 0.3, 2.0, 9.0}) {
    const double u = std::sqrt(2.0 / std::acos(-1.0)) * (g + 0.044715 * g * g * g);
    CHECK(gate_reference(Gate::kGeluTanh, g) ==
          Approx(0.5 * g * (1.0 + std::tanh(u))).epsilon(1e-12).margin(1e-14).margin(1e-14));
  }
  for (Gate gate : {Gate::kSilu, Gate::kGeluTanh}) {
    CHECK(gate_reference(gate, 1e30) == 1e30);
    CHECK(gate_reference(gate, -1e3) == Approx(0.0).margin(1e-300));
    CHECK(std::isnan(gate_reference(gate, -std::numeric_limits<double>::infinity())));
  }
  CHECK_THROWS_AS(gate_reference(Gate::kNone, 1.0), SpecError);
}

TEST_CASE("the steepest slope of the gates is below 1.13") {
  double steepest = 0;
  for (double g = -10; g < 10; g += 1e-3) {
    for (Gate gate : {Gate::kSilu, Gate::kGeluTanh}) {
      const double slope = (gate_reference(gate, g + 1e-4) - gate_reference(gate, g)) / 1e-4;
      steepest = std::max(steepest, std::abs(slope));
    }
  }
  CHECK(steepest < 1.13);
  CHECK(steepest > 1.12);
}

TEST_CASE("slots take their expert's matrix and their row of x") {
  // Three experts [2, 2] of f32: expert e has e + 1 in row 0 and 10 (e + 1) in row 1.
  const std::vector<float> w = {1, 1, 10, 10, 2, 2, 20, 20, 3, 3, 30, 30};
  const std::vector<float> x = {1, 2, 3, -5};
  const ExpertStackView stack = {FormatId::kF32, 3, 2, 2, std::as_bytes(std::span(w)), {}, {}};
  const std::vector<std::int32_t> ids = {2, 0, 3, -1};
  std::vector<double> y(8), magnitudes(8);
  moe_matvec_reference(stack, ids, x, 2, 0, 2, y, magnitudes);
  CHECK(std::vector<double>(y.begin(), y.begin() + 4) == std::vector<double>{9, 90, 3, 30});
  for (std::size_t i = 4; i < 8; ++i) CHECK(std::isnan(y[i]));
  CHECK(magnitudes == std::vector<double>{9, 90, 3, 30, 0, 0, 0, 0});
  const std::vector<std::int32_t> second = {1, 1, 1};
  std::vector<double> rows(3), row_magnitudes(3);
  moe_matvec_reference(stack, second, x, 2, 1, 1, rows, row_magnitudes);
  CHECK(rows == std::vector<double>{60, 60, -40});
  CHECK(row_magnitudes == std::vector<double>{60, 60, 160});
  CHECK_THROWS_AS(moe_matvec_reference(stack, second, x, 0, 1, 1, rows, row_magnitudes), SpecError);
  CHECK_THROWS_AS(moe_matvec_reference(stack, second, x, 3, 1, 1, rows, row_magnitudes), SpecError);
}

TEST_CASE("a gated result may be off by the errors of both sums, and no more") {
  const Bounded want = gated_reference(Gate::kSilu, 4096, FormatId::kF32, 1.0, 10.0, 2.0, 20.0);
  CHECK(want.value == Approx(2 * 0.7310585786300049).epsilon(1e-15));
  CHECK(is_right(want.value + want.tolerance * 0.99, want));
  CHECK_FALSE(is_right(want.value + want.tolerance * 1.01, want));
  CHECK_FALSE(is_right(std::numeric_limits<double>::quiet_NaN(), want));
  CHECK(want.tolerance < 1e-3);
  const Bounded none = gated_reference(Gate::kSilu, 4096, FormatId::kF32,
                                       std::numeric_limits<double>::quiet_NaN(), 0, 1, 1);
  CHECK(is_right(std::numeric_limits<double>::quiet_NaN(), none));
  CHECK_FALSE(is_right(0.0, none));
}

}  // namespace ktjit
