// cvt: between floats of all widths, and moves of 8-bit registers. PTX ISA 9.0, "cvt".
#include <array>

#include "runtime/ptx_numbers.h"
#include "runtime/ptx_tables.h"

namespace ktjit::runtime::ptx {
namespace {

// The reason for the instructions that came with sm_100a and its relatives.
constexpr std::string_view kBlackwellOnly = "needs sm_100a, sm_103a, sm_120a or a family of theirs";

/// A code read as f32; NaNs are canonical.
template <const FloatFormat& From>
std::uint64_t to_f32(std::uint32_t code) {
  return encode(kF32Format, decode(From, code));
}

template <const FloatFormat& From>
void widen_to_f32(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = to_f32<From>(low32(operands[0]) & (From.sign_mask() | From.magnitude_mask()));
}

template <const FloatFormat& To, Overflow OnOverflow>
void narrow_f32(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = encode(To, f32_of(operands[0]), OnOverflow);
}

/// Where the two codes of a packed pair lie: e2m1x2 fills a byte, 6- and 8-bit codes have a byte
/// each (the two top bits of a 6-bit code's byte are zero), 16-bit ones a half.
template <const FloatFormat& Format>
constexpr int kPairShift = Format.sign_bit() == 3  ? 4
                           : Format.sign_bit() < 8 ? 8
                                                   : 16;

template <const FloatFormat& Format>
std::uint32_t code_of_pair(std::uint64_t pair, int which) {
  return (low32(pair) >> (which * kPairShift<Format>)) &
         (Format.sign_mask() | Format.magnitude_mask());
}

/// d, a, b: the first operand goes to the upper code.
template <const FloatFormat& To, Overflow OnOverflow>
void narrow_two_f32(std::uint64_t* results, const std::uint64_t* operands) {
  const std::uint32_t upper = encode(To, f32_of(operands[0]), OnOverflow);
  const std::uint32_t lower = encode(To, f32_of(operands[1]), OnOverflow);
  results[0] = upper << kPairShift<To> | lower;
}

/// d, a: pair to pair, each place for itself.
template <const FloatFormat& To, const FloatFormat& From, Overflow OnOverflow>
void convert_pair(std::uint64_t* results, const std::uint64_t* operands) {
  std::uint32_t pair = 0;
  for (int which = 0; which < 2; ++which) {
    const double value = decode(From, code_of_pair<From>(operands[0], which));
    pair |= encode(To, value, OnOverflow) << (which * kPairShift<To>);
  }
  results[0] = pair;
}

enum class ScaleRounding { kTowardZero, kUp };

/// |value| as a power of two, 2^(code - 127); 0xff is NaN. Below 2^-127, and for 0, code 0; beyond
/// 2^127 code 0xfe if it saturates, else NaN. The sign is dropped, as by NVIDIA's own software
/// conversion (CUDA 13.0, cuda_fp8.h, __nv_cvt_float_to_e8m0); PTX ISA doesn't speak of it.
std::uint32_t encode_scale(double value, ScaleRounding rounding, Overflow overflow) {
  constexpr std::uint32_t kLargest = 0xfe, kNan = 0xff;
  if (std::isnan(value)) return kNan;
  const std::uint32_t beyond = overflow == Overflow::kSaturate ? kLargest : kNan;
  if (std::isinf(value)) return beyond;
  const double magnitude = std::fabs(value);
  if (magnitude <= 0x1p-127) return 0;
  int exponent = std::ilogb(magnitude);
  if (rounding == ScaleRounding::kUp && std::ldexp(1.0, exponent) < magnitude) ++exponent;
  return exponent > 127 ? beyond : static_cast<std::uint32_t>(exponent + 127);
}

template <ScaleRounding Rounding, Overflow OnOverflow>
void scales_of_two_f32(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = encode_scale(f32_of(operands[0]), Rounding, OnOverflow) << 8 |
               encode_scale(f32_of(operands[1]), Rounding, OnOverflow);
}

template <ScaleRounding Rounding, Overflow OnOverflow>
void scales_of_bf16x2(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = encode_scale(decode(kBf16Format, half_of(operands[0], 1)), Rounding, OnOverflow)
                   << 8 |
               encode_scale(decode(kBf16Format, half_of(operands[0], 0)), Rounding, OnOverflow);
}

/// Exact: 2^-127 is a subnormal bf16.
void scales_to_bf16x2(std::uint64_t* results, const std::uint64_t* operands) {
  std::uint32_t pair = 0;
  for (int which = 0; which < 2; ++which) {
    const std::uint32_t code = byte_of(operands[0], which);
    const double scale = code == 0xff ? std::numeric_limits<double>::quiet_NaN()
                                      : std::ldexp(1.0, static_cast<int>(code) - 127);
    pair |= encode(kBf16Format, scale) << (16 * which);
  }
  results[0] = pair;
}

/// Keeps the low `Bits`: what cvt between unsigned integers and mov do.
template <int Bits>
void keep_bits(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = Bits == 64 ? operands[0] : operands[0] & ((1ull << (Bits % 64)) - 1u);
}

/// mov of a register of `Bits` to `Count` smaller ones, the lowest first.
template <int Bits, int Count>
void unpack(std::uint64_t* results, const std::uint64_t* operands) {
  constexpr int kPart = Bits / Count;
  for (int i = 0; i < Count; ++i)
    results[i] = (operands[0] >> (i * kPart)) & ((1ull << kPart) - 1u);
}

template <int Bits, int Count>
void pack(std::uint64_t* results, const std::uint64_t* operands) {
  constexpr int kPart = Bits / Count;
  std::uint64_t packed = 0;
  for (int i = 0; i < Count; ++i) packed |= (operands[i] & ((1ull << kPart) - 1u)) << (i * kPart);
  results[0] = packed;
}

constexpr Overflow kToInfinity = Overflow::kInfinity;
constexpr Overflow kSatfinite = Overflow::kSaturate;

using enum PtxType;

const PtxInstruction kConversions[] = {
    // Exact.
    {.opcode = "cvt.f32.f16",
     .result_registers = "f",
     .operand_registers = "h",
     .result_type = kF32,
     .operand_type = kF16,
     .any_nan = true,
     .run = widen_to_f32<kF16Format>},
    {.opcode = "cvt.f32.bf16",
     .result_registers = "f",
     .operand_registers = "h",
     .result_type = kF32,
     .operand_type = kBf16,
     .any_nan = true,
     .run = widen_to_f32<kBf16Format>,
     .min_sm = 90},
    // To nearest even. PTX leaves a NaN open.
    {.opcode = "cvt.rn.f16.f32",
     .result_registers = "h",
     .operand_registers = "f",
     .result_type = kF16,
     .operand_type = kF32,
     .any_nan = true,
     .run = narrow_f32<kF16Format, kToInfinity>},
    {.opcode = "cvt.rn.bf16.f32",
     .result_registers = "h",
     .operand_registers = "f",
     .result_type = kBf16,
     .operand_type = kF32,
     .any_nan = true,
     .run = narrow_f32<kBf16Format, kToInfinity>,
     .min_sm = 80},
    {.opcode = "cvt.rn.f16x2.f32",
     .result_registers = "r",
     .operand_registers = "ff",
     .result_type = kF16x2,
     .operand_type = kF32,
     .any_nan = true,
     .run = narrow_two_f32<kF16Format, kToInfinity>,
     .min_sm = 80},
    {.opcode = "cvt.rn.bf16x2.f32",
     .result_registers = "r",
     .operand_registers = "ff",
     .result_type = kBf16x2,
     .operand_type = kF32,
     .any_nan = true,
     .run = narrow_two_f32<kBf16Format, kToInfinity>,
     .min_sm = 80},
    // 8 bits; .satfinite: NaN to 0x7f in both formats.
    {.opcode = "cvt.rn.satfinite.e4m3x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = narrow_two_f32<kE4m3Format, kSatfinite>,
     .min_sm = 89},
    {.opcode = "cvt.rn.satfinite.e4m3x2.f16x2",
     .result_registers = "h",
     .operand_registers = "r",
     .operand_type = kF16x2,
     .run = convert_pair<kE4m3Format, kF16Format, kSatfinite>,
     .min_sm = 89},
    {.opcode = "cvt.rn.f16x2.e4m3x2",
     .result_registers = "r",
     .operand_registers = "h",
     .result_type = kF16x2,
     .any_nan = true,
     .run = convert_pair<kF16Format, kE4m3Format, kToInfinity>,
     .min_sm = 89},
    {.opcode = "cvt.rn.satfinite.e5m2x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = narrow_two_f32<kE5m2Format, kSatfinite>,
     .min_sm = 89},
    {.opcode = "cvt.rn.satfinite.e5m2x2.f16x2",
     .result_registers = "h",
     .operand_registers = "r",
     .operand_type = kF16x2,
     .run = convert_pair<kE5m2Format, kF16Format, kSatfinite>,
     .min_sm = 89},
    {.opcode = "cvt.rn.f16x2.e5m2x2",
     .result_registers = "r",
     .operand_registers = "h",
     .result_type = kF16x2,
     .any_nan = true,
     .run = convert_pair<kF16Format, kE5m2Format, kToInfinity>,
     .min_sm = 89},
    // 4 and 6 bits, which have no NaN: to the largest number.
    {.opcode = "cvt.rn.satfinite.e2m1x2.f32",
     .result_registers = "b",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = narrow_two_f32<kE2m1Format, kSatfinite>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rn.f16x2.e2m1x2",
     .result_registers = "r",
     .operand_registers = "b",
     .result_type = kF16x2,
     .run = convert_pair<kF16Format, kE2m1Format, kToInfinity>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rn.satfinite.e2m3x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = narrow_two_f32<kE2m3Format, kSatfinite>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rn.f16x2.e2m3x2",
     .result_registers = "r",
     .operand_registers = "h",
     .result_type = kF16x2,
     .run = convert_pair<kF16Format, kE2m3Format, kToInfinity>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rn.satfinite.e3m2x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = narrow_two_f32<kE3m2Format, kSatfinite>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rn.f16x2.e3m2x2",
     .result_registers = "r",
     .operand_registers = "h",
     .result_type = kF16x2,
     .run = convert_pair<kF16Format, kE3m2Format, kToInfinity>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    // Powers of two.
    {.opcode = "cvt.rz.ue8m0x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = scales_of_two_f32<ScaleRounding::kTowardZero, kToInfinity>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rz.ue8m0x2.bf16x2",
     .result_registers = "h",
     .operand_registers = "r",
     .operand_type = kBf16x2,
     .run = scales_of_bf16x2<ScaleRounding::kTowardZero, kToInfinity>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rz.satfinite.ue8m0x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = scales_of_two_f32<ScaleRounding::kTowardZero, kSatfinite>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rz.satfinite.ue8m0x2.bf16x2",
     .result_registers = "h",
     .operand_registers = "r",
     .operand_type = kBf16x2,
     .run = scales_of_bf16x2<ScaleRounding::kTowardZero, kSatfinite>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rp.ue8m0x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = scales_of_two_f32<ScaleRounding::kUp, kToInfinity>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rp.ue8m0x2.bf16x2",
     .result_registers = "h",
     .operand_registers = "r",
     .operand_type = kBf16x2,
     .run = scales_of_bf16x2<ScaleRounding::kUp, kToInfinity>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rp.satfinite.ue8m0x2.f32",
     .result_registers = "h",
     .operand_registers = "ff",
     .operand_type = kF32,
     .run = scales_of_two_f32<ScaleRounding::kUp, kSatfinite>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rp.satfinite.ue8m0x2.bf16x2",
     .result_registers = "h",
     .operand_registers = "r",
     .operand_type = kBf16x2,
     .run = scales_of_bf16x2<ScaleRounding::kUp, kSatfinite>,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    {.opcode = "cvt.rn.bf16x2.ue8m0x2",
     .result_registers = "r",
     .operand_registers = "h",
     .result_type = kBf16x2,
     .any_nan = true,
     .run = scales_to_bf16x2,
     .min_sm = 100,
     .needs_suffix = true,
     .unproved = kBlackwellOnly},
    // Widths of registers; what a text needs around 8-bit ones.
    {.opcode = "cvt.u16.u8",
     .result_registers = "h",
     .operand_registers = "b",
     .run = keep_bits<8>},
    {.opcode = "cvt.u32.u8",
     .result_registers = "r",
     .operand_registers = "b",
     .run = keep_bits<8>},
    {.opcode = "cvt.u8.u16",
     .result_registers = "b",
     .operand_registers = "h",
     .run = keep_bits<8>},
    {.opcode = "cvt.u8.u32",
     .result_registers = "b",
     .operand_registers = "r",
     .run = keep_bits<8>},
    {.opcode = "cvt.u32.u16",
     .result_registers = "r",
     .operand_registers = "h",
     .run = keep_bits<16>},
    {.opcode = "cvt.u16.u32",
     .result_registers = "h",
     .operand_registers = "r",
     .run = keep_bits<16>},
    {.opcode = "cvt.u64.u32",
     .result_registers = "l",
     .operand_registers = "r",
     .run = keep_bits<32>},
    {.opcode = "cvt.u32.u64",
     .result_registers = "r",
     .operand_registers = "l",
     .run = keep_bits<32>},
    {.opcode = "mov.b16", .result_registers = "h", .operand_registers = "h", .run = keep_bits<16>},
    {.opcode = "mov.b32", .result_registers = "r", .operand_registers = "r", .run = keep_bits<32>},
    {.opcode = "mov.b64", .result_registers = "l", .operand_registers = "l", .run = keep_bits<64>},
    {.opcode = "mov.b16", .result_registers = "bb", .operand_registers = "h", .run = unpack<16, 2>},
    {.opcode = "mov.b16", .result_registers = "h", .operand_registers = "bb", .run = pack<16, 2>},
    {.opcode = "mov.b32", .result_registers = "hh", .operand_registers = "r", .run = unpack<32, 2>},
    {.opcode = "mov.b32", .result_registers = "r", .operand_registers = "hh", .run = pack<32, 2>},
    {.opcode = "mov.b32",
     .result_registers = "bbbb",
     .operand_registers = "r",
     .run = unpack<32, 4>},
    {.opcode = "mov.b32", .result_registers = "r", .operand_registers = "bbbb", .run = pack<32, 4>},
    {.opcode = "mov.b64", .result_registers = "rr", .operand_registers = "l", .run = unpack<64, 2>},
    {.opcode = "mov.b64", .result_registers = "l", .operand_registers = "rr", .run = pack<64, 2>},
    {.opcode = "mov.b64",
     .result_registers = "hhhh",
     .operand_registers = "l",
     .run = unpack<64, 4>},
    {.opcode = "mov.b64", .result_registers = "l", .operand_registers = "hhhh", .run = pack<64, 4>},
};

}  // namespace

std::span<const PtxInstruction> conversion_instructions() { return kConversions; }

}  // namespace ktjit::runtime::ptx
