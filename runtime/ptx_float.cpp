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

// How two numbers can compare; set is told which of these count as true.
constexpr unsigned kLess = 1, kEqual = 2, kGreater = 4, kUnordered = 8;

/// d, a, b: all bits of a half where the comparison of those halves holds, else none.
template <const FloatFormat& Format, unsigned True>
void compare_pairs(std::uint64_t* results, const std::uint64_t* operands) {
  std::uint32_t pair = 0;
  for (int half = 0; half < 2; ++half) {
    const double a = decode(Format, half_of(operands[0], half));
    const double b = decode(Format, half_of(operands[1], half));
    const unsigned outcome = a < b ? kLess : a == b ? kEqual : a > b ? kGreater : kUnordered;
    if ((outcome & True) != 0) pair |= 0xffffu << (16 * half);
  }
  results[0] = pair;
}

using enum PtxType;

using Run = void (*)(std::uint64_t*, const std::uint64_t*);

constexpr PtxInstruction extreme(std::string_view opcode, PtxType type, std::size_t operands,
                                 Run run, int min_sm = 60) {
  const std::string_view registers = type == kF32 ? "fff" : "rrr";
  return {.opcode = opcode,
          .result_registers = registers.substr(0, 1),
          .operand_registers = registers.substr(0, operands),
          .result_type = type,
          .operand_type = type,
          .run = run,
          .min_sm = min_sm};
}

constexpr PtxInstruction arithmetic(std::string_view opcode, PtxType type, std::size_t operands,
                                    Run run, int min_sm = 60) {
  PtxInstruction instruction = extreme(opcode, type, operands, run, min_sm);
  instruction.any_nan = true;
  return instruction;
}

constexpr PtxInstruction comparison(std::string_view opcode, PtxType type, Run run, int min_sm) {
  return {.opcode = opcode,
          .result_registers = "r",
          .operand_registers = "rr",
          .operand_type = type,
          .run = run,
          .min_sm = min_sm};
}

const PtxInstruction kFloats[] = {
    arithmetic("add.rn.f32", kF32, 2, on_f32<Add, 2>),
    arithmetic("sub.rn.f32", kF32, 2, on_f32<Subtract, 2>),
    arithmetic("mul.rn.f32", kF32, 2, on_f32<Multiply, 2>),
    arithmetic("fma.rn.f32", kF32, 3, on_f32<MultiplyAdd, 3>),
    arithmetic("div.rn.f32", kF32, 2, divide),
    arithmetic("sqrt.rn.f32", kF32, 1, square_root),
    arithmetic("abs.f32", kF32, 1, change_signs<0x7fffffffu, 0u>),
    arithmetic("neg.f32", kF32, 1, change_signs<0xffffffffu, 0x80000000u>),
    extreme("max.f32", kF32, 2, on_f32<Maximum, 2>),
    extreme("max.NaN.f32", kF32, 2, on_f32<OrNan<Maximum>, 2>, 80),
    extreme("min.f32", kF32, 2, on_f32<Minimum, 2>),
    extreme("min.NaN.f32", kF32, 2, on_f32<OrNan<Minimum>, 2>, 80),
    arithmetic("add.rn.f16x2", kF16x2, 2, on_pairs<kF16Format, Add, 2>),
    arithmetic("sub.rn.f16x2", kF16x2, 2, on_pairs<kF16Format, Subtract, 2>),
    arithmetic("mul.rn.f16x2", kF16x2, 2, on_pairs<kF16Format, Multiply, 2>),
    arithmetic("fma.rn.f16x2", kF16x2, 3, on_pairs<kF16Format, MultiplyAdd, 3>),
    arithmetic("abs.f16x2", kF16x2, 1, change_signs<0x7fff7fffu, 0u>),
    arithmetic("neg.f16x2", kF16x2, 1, change_signs<0xffffffffu, 0x80008000u>),
    extreme("max.f16x2", kF16x2, 2, on_pairs<kF16Format, Maximum, 2>, 80),
    extreme("max.NaN.f16x2", kF16x2, 2, on_pairs<kF16Format, OrNan<Maximum>, 2>, 80),
    extreme("min.f16x2", kF16x2, 2, on_pairs<kF16Format, Minimum, 2>, 80),
    extreme("min.NaN.f16x2", kF16x2, 2, on_pairs<kF16Format, OrNan<Minimum>, 2>, 80),
    arithmetic("add.rn.bf16x2", kBf16x2, 2, on_pairs<kBf16Format, Add, 2>, 90),
    arithmetic("sub.rn.bf16x2", kBf16x2, 2, on_pairs<kBf16Format, Subtract, 2>, 90),
    arithmetic("mul.rn.bf16x2", kBf16x2, 2, on_pairs<kBf16Format, Multiply, 2>, 90),
    arithmetic("fma.rn.bf16x2", kBf16x2, 3, on_pairs<kBf16Format, MultiplyAdd, 3>, 80),
    arithmetic("abs.bf16x2", kBf16x2, 1, change_signs<0x7fff7fffu, 0u>, 80),
    arithmetic("neg.bf16x2", kBf16x2, 1, change_signs<0xffffffffu, 0x80008000u>, 80),
    extreme("max.bf16x2", kBf16x2, 2, on_pairs<kBf16Format, Maximum, 2>, 80),
    extreme("max.NaN.bf16x2", kBf16x2, 2, on_pairs<kBf16Format, OrNan<Maximum>, 2>, 80),
    extreme("min.bf16x2", kBf16x2, 2, on_pairs<kBf16Format, Minimum, 2>, 80),
    extreme("min.NaN.bf16x2", kBf16x2, 2, on_pairs<kBf16Format, OrNan<Minimum>, 2>, 80),
    // The letter u, and nan: also where one is a NaN. num: where none is.
    comparison("set.eq.u32.f16x2", kF16x2, compare_pairs<kF16Format, kEqual>, 60),
    comparison("set.ne.u32.f16x2", kF16x2, compare_pairs<kF16Format, kLess | kGreater>, 60),
    comparison("set.lt.u32.f16x2", kF16x2, compare_pairs<kF16Format, kLess>, 60),
    comparison("set.le.u32.f16x2", kF16x2, compare_pairs<kF16Format, kLess | kEqual>, 60),
    comparison("set.gt.u32.f16x2", kF16x2, compare_pairs<kF16Format, kGreater>, 60),
    comparison("set.ge.u32.f16x2", kF16x2, compare_pairs<kF16Format, kGreater | kEqual>, 60),
    comparison("set.equ.u32.f16x2", kF16x2, compare_pairs<kF16Format, kEqual | kUnordered>, 60),
    comparison("set.neu.u32.f16x2", kF16x2,
               compare_pairs<kF16Format, kLess | kGreater | kUnordered>, 60),
    comparison("set.ltu.u32.f16x2", kF16x2, compare_pairs<kF16Format, kLess | kUnordered>, 60),
    comparison("set.leu.u32.f16x2", kF16x2, compare_pairs<kF16Format, kLess | kEqual | kUnordered>,
               60),
    comparison("set.gtu.u32.f16x2", kF16x2, compare_pairs<kF16Format, kGreater | kUnordered>, 60),
    comparison("set.geu.u32.f16x2", kF16x2,
               compare_pairs<kF16Format, kGreater | kEqual | kUnordered>, 60),
    comparison("set.num.u32.f16x2", kF16x2, compare_pairs<kF16Format, kLess | kEqual | kGreater>,
               60),
    comparison("set.nan.u32.f16x2", kF16x2, compare_pairs<kF16Format, kUnordered>, 60),
    comparison("set.eq.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kEqual>, 90),
    comparison("set.ne.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kLess | kGreater>, 90),
    comparison("set.lt.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kLess>, 90),
    comparison("set.le.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kLess | kEqual>, 90),
    comparison("set.gt.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kGreater>, 90),
    comparison("set.ge.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kGreater | kEqual>, 90),
    comparison("set.equ.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kEqual | kUnordered>, 90),
    comparison("set.neu.u32.bf16x2", kBf16x2,
               compare_pairs<kBf16Format, kLess | kGreater | kUnordered>, 90),
    comparison("set.ltu.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kLess | kUnordered>, 90),
    comparison("set.leu.u32.bf16x2", kBf16x2,
               compare_pairs<kBf16Format, kLess | kEqual | kUnordered>, 90),
    comparison("set.gtu.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kGreater | kUnordered>,
               90),
    comparison("set.geu.u32.bf16x2", kBf16x2,
               compare_pairs<kBf16Format, kGreater | kEqual | kUnordered>, 90),
    comparison("set.num.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kLess | kEqual | kGreater>,
               90),
    comparison("set.nan.u32.bf16x2", kBf16x2, compare_pairs<kBf16Format, kUnordered>, 90),
};

}  // namespace

std::span<const PtxInstruction> float_instructions() { return kFloats; }

}  // namespace ktjit::runtime::ptx
