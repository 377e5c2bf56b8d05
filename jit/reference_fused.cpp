#include "jit/reference_fused.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <numbers>

#include "core/error.h"

namespace ktjit {

void moe_matvec_reference(const ExpertStackView& stack, std::span<const std::int32_t> ids,
                          std::span<const float> x, std::int64_t slots_per_x,
                          std::int64_t first_row, std::int64_t n_rows, std::span<double> y,
                          std::span<double> abs_sum) {
  if (slots_per_x < 1) {
    throw SpecError("reference: slots_per_x", fmt::format("{}", slots_per_x), "1 and more");
  }
  const auto rows = static_cast<std::size_t>(n_rows);
  const auto cols = static_cast<std::size_t>(stack.cols);
  const auto expect = [](std::string_view what, std::size_t given, std::size_t expected) {
    if (given != expected) {
      throw SpecError(fmt::format("reference: size of {}", what), fmt::format("{}", given),
                      fmt::format("{}", expected));
    }
  };
  const auto per_x = static_cast<std::size_t>(slots_per_x);
  expect("x", x.size(), (ids.size() + per_x - 1) / per_x * cols);
  expect("y", y.size(), ids.size() * rows);
  expect("abs_sum", abs_sum.size(), ids.size() * rows);
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    const std::span<double> y_row = y.subspan(slot * rows, rows);
    const std::span<double> abs_row = abs_sum.subspan(slot * rows, rows);
    if (ids[slot] < 0 || ids[slot] >= stack.experts) {
      std::ranges::fill(y_row, std::numeric_limits<double>::quiet_NaN());
      std::ranges::fill(abs_row, 0.0);
      continue;
    }
    matvec_reference(stack.expert(ids[slot]), x.subspan(slot / per_x * cols, cols), 1, first_row,
                     n_rows, y_row, abs_row);
  }
}

double gate_reference(Gate gate, double g) {
  switch (gate) {
    case Gate::kSilu:
      return g / (1.0 + std::exp(-g));
    case Gate::kGeluTanh: {
      // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)), which loses no digits where tanh(u) is near -1.
      const double u = std::sqrt(2.0 / std::numbers::pi) * (g + 0.044715 * g * g * g);
      return g * (1.0 / (1.0 + std::exp(-2.0 * u)));
    }
    case Gate::kNone:
      break;
  }
  throw SpecError("reference: gate", gate_name(gate), "silu, gelu_tanh");
}

double gate_tolerance(Gate gate, double g) {
  const double act = gate_reference(gate, g);
  return gate == Gate::kSilu ? std::abs(act) * 0x1p-21 + 0x1p-140 : std::abs(g) * 0x1p-21;
}

Bounded gated_reference(Gate gate, std::int64_t cols, FormatId y_format, double g, double g_abs_sum,
                        double u, double u_abs_sum, double more_g_error, double more_u_error) {
  constexpr double kSteepest = 1.13;  // of silu 1.0999, of gelu_tanh 1.1290
  const double g_error = product_tolerance(cols, FormatId::kF32, g, g_abs_sum) + more_g_error;
  const double u_error = product_tolerance(cols, FormatId::kF32, u, u_abs_sum) + more_u_error;
  const double act = gate_reference(gate, g);
  const double act_error =
      kSteepest * g_error + gate_tolerance(gate, g) + kSteepest * g_error * 0x1p-21;
  const double of_factors = act_error * (std::abs(u) + u_error) + std::abs(act) * u_error;
  const double want = act * u;
  const double largest = std::abs(want) + of_factors;
  const double of_product = largest * 0x1p-24 + 0x1p-149;
  // What product_tolerance adds to the error of the sums is the rounding to y's format.
  return {want, of_factors + of_product + product_tolerance(0, y_format, largest, 0.0)};
}

bool is_right(double got, const Bounded& want) {
  if (std::isnan(want.value)) return std::isnan(got);
  return std::abs(got - want.value) <= want.tolerance || got == want.value;
}

}  // namespace ktjit
