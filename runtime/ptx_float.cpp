// Arithmetic on f32, and on f16 and bf16 in pairs. PTX ISA 9.0, "Floating Point Instructions",
// "Half Precision Floating Point Instructions". Every result is the exact one rounded once, to
// nearest even; subnormals are kept. Which NaN arithmetic gives is left open, but max and min give
// the canonical one.
#include "runtime/ptx_numbers.h"
#include "runtime/ptx_tables.h"

namespace ktjit::runtime::ptx {
namespace {

// Of numbers in a format of at most 24 significant bits. double holds their products exactly, and
// sums to odd, so the one rounding is that to the format.
struct Add {
  static double exact(const double* x) { return add_to_odd(x[0], x[1]); }
};
struct Subtract {
  static double exact(const double* x) { return add_to_odd(x[0], -x[1]); }
};
struct Multiply {
  static double exact(const double* x) { return x[0] * x[1]; }
};
struct MultiplyAdd {
  static double exact(const double* x) { return add_to_odd(x[0] * x[1], x[2]); }
};

/// One NaN is skipped, two give a NaN; +0 is larger than -0.
struct Maximum {
  static double exact(const double* x) {
    if (std::isnan(x[0]) || std::isnan(x[1])) return std::isnan(x[0]) ? x[1] : x[0];
    if (x[0] == x[1]) return std::signbit(x[0]) ? x[1] : x[0];
    return x[0] > x[1] ? x[0] : x[1];
  }
};
struct Minimum {
  static double exact(const double* x) {
    const double negated[] = {-x[0], -x[1]};
    return -Maximum::exact(negated);
  }
};
/// .NaN: one NaN is enough.
template <class Operation>
struct OrNan {
  static double exact(const double* x) {
    if (std::isnan(x[0]) || std::isnan(x[1])) return std::numeric_limits<double>::quiet_NaN();
    return Operation::exact(x);
  }
};

template <const FloatFormat& Format, class Operation, int Operands>
std::uint32_t round_once(const std::uint32_t* codes) {
  double values[Operands];
  for (int i = 0; i < Operands; ++i) values[i] = decode(Format, codes[i]);
  return encode(Format, Operation::exact(values));
}

template <class Operation, int Operands>
void on_f32(std::uint64_t* results, const std::uint64_t* operands) {
  std::uint32_t codes[Operands];
  for (int i = 0; i < Operands; ++i) codes[i] = low32(operands[i]);
  results[0] = round_once<kF32Format, Operation, Operands>(codes);
}

template <const FloatFormat& Format, class Operation, int Operands>
void on_pairs(std::uint64_t* results, const std::uint64_t* operands) {
  std::uint32_t pair = 0;
  for (int half = 0; half < 2; ++half) {
    std::uint32_t codes[Operands];
    for (int i = 0; i < Operands; ++i) codes[i] = half_of(operands[i], half);
    pair |= round_once<Format, Operation, Operands>(codes) << (16 * half);
  }
  results[0] = pair;
}

/// The host's division is correctly rounded as well (IEEE 754).
void divide(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = f32_slot(f32_of(operands[0]) / f32_of(operands[1]));
}
void square_root(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = f32_slot(std::sqrt(f32_of(operands[0])));
}

/// abs and neg touch the sign only; a NaN may become another.
template <std::uint32_t KeptBits, std::uint32_t FlippedBits>
void change_signs(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = (low32(operands[0]) & KeptBits) ^ FlippedBits;
}

using enum PtxType;

const PtxInstruction kFloats[] = {
    {.opcode = "add.rn.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = on_f32<Add, 2>},
    {.opcode = "sub.rn.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = on_f32<Subtract, 2>},
    {.opcode = "mul.rn.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = on_f32<Multiply, 2>},
    {.opcode = "fma.rn.f32",
     .result_registers = "f",
     .operand_registers = "fff",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = on_f32<MultiplyAdd, 3>},
    {.opcode = "div.rn.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = divide},
    {.opcode = "sqrt.rn.f32",
     .result_registers = "f",
     .operand_registers = "f",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = square_root},
    {.opcode = "max.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .run = on_f32<Maximum, 2>},
    {.opcode = "max.NaN.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .run = on_f32<OrNan<Maximum>, 2>,
     .min_sm = 80},
    {.opcode = "min.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .run = on_f32<Minimum, 2>},
    {.opcode = "min.NaN.f32",
     .result_registers = "f",
     .operand_registers = "ff",
     .result_type = kF32,
     .operand_type = kF32,
     .run = on_f32<OrNan<Minimum>, 2>,
     .min_sm = 80},
    {.opcode = "abs.f32",
     .result_registers = "f",
     .operand_registers = "f",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = change_signs<0x7fffffffu, 0u>},
    {.opcode = "neg.f32",
     .result_registers = "f",
     .operand_registers = "f",
     .result_type = kF32,
     .operand_type = kF32,
     .any_nan = true,
     .run = change_signs<0xffffffffu, 0x80000000u>},
    {.opcode = "add.rn.f16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .any_nan = true,
     .run = on_pairs<kF16Format, Add, 2>},
    {.opcode = "sub.rn.f16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .any_nan = true,
     .run = on_pairs<kF16Format, Subtract, 2>},
    {.opcode = "mul.rn.f16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .any_nan = true,
     .run = on_pairs<kF16Format, Multiply, 2>},
    {.opcode = "fma.rn.f16x2",
     .result_registers = "r",
     .operand_registers = "rrr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .any_nan = true,
     .run = on_pairs<kF16Format, MultiplyAdd, 3>},
    {.opcode = "max.f16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .run = on_pairs<kF16Format, Maximum, 2>,
     .min_sm = 80},
    {.opcode = "max.NaN.f16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .run = on_pairs<kF16Format, OrNan<Maximum>, 2>,
     .min_sm = 80},
    {.opcode = "min.f16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .run = on_pairs<kF16Format, Minimum, 2>,
     .min_sm = 80},
    {.opcode = "min.NaN.f16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .run = on_pairs<kF16Format, OrNan<Minimum>, 2>,
     .min_sm = 80},
    {.opcode = "abs.f16x2",
     .result_registers = "r",
     .operand_registers = "r",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .any_nan = true,
     .run = change_signs<0x7fff7fffu, 0u>},
    {.opcode = "neg.f16x2",
     .result_registers = "r",
     .operand_registers = "r",
     .result_type = kF16x2,
     .operand_type = kF16x2,
     .any_nan = true,
     .run = change_signs<0xffffffffu, 0x80008000u>},
    {.opcode = "add.rn.bf16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .any_nan = true,
     .run = on_pairs<kBf16Format, Add, 2>,
     .min_sm = 90},
    {.opcode = "sub.rn.bf16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .any_nan = true,
     .run = on_pairs<kBf16Format, Subtract, 2>,
     .min_sm = 90},
    {.opcode = "mul.rn.bf16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .any_nan = true,
     .run = on_pairs<kBf16Format, Multiply, 2>,
     .min_sm = 90},
    {.opcode = "fma.rn.bf16x2",
     .result_registers = "r",
     .operand_registers = "rrr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .any_nan = true,
     .run = on_pairs<kBf16Format, MultiplyAdd, 3>,
     .min_sm = 80},
    {.opcode = "max.bf16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .run = on_pairs<kBf16Format, Maximum, 2>,
     .min_sm = 80},
    {.opcode = "max.NaN.bf16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .run = on_pairs<kBf16Format, OrNan<Maximum>, 2>,
     .min_sm = 80},
    {.opcode = "min.bf16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .run = on_pairs<kBf16Format, Minimum, 2>,
     .min_sm = 80},
    {.opcode = "min.NaN.bf16x2",
     .result_registers = "r",
     .operand_registers = "rr",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .run = on_pairs<kBf16Format, OrNan<Minimum>, 2>,
     .min_sm = 80},
    {.opcode = "abs.bf16x2",
     .result_registers = "r",
     .operand_registers = "r",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .any_nan = true,
     .run = change_signs<0x7fff7fffu, 0u>,
     .min_sm = 80},
    {.opcode = "neg.bf16x2",
     .result_registers = "r",
     .operand_registers = "r",
     .result_type = kBf16x2,
     .operand_type = kBf16x2,
     .any_nan = true,
     .run = change_signs<0xffffffffu, 0x80008000u>,
     .min_sm = 80},
};

}  // namespace

std::span<const PtxInstruction> float_instructions() { return kFloats; }

}  // namespace ktjit::runtime::ptx
