// cvt: between floats of all widths, and moves of 8-bit registers. PTX ISA 9.0, "cvt".
#include <array>

#include "runtime/ptx_numbers.h"
#include "runtime/ptx_tables.h"

namespace ktjit::runtime::ptx {
namespace {

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

using enum ScaleRounding;

using Run = void (*)(std::uint64_t*, const std::uint64_t*);

/// PTX doesn't say which NaN a float is converted to.
constexpr PtxInstruction cvt(std::string_view opcode, std::string_view results,
                             std::string_view operands, PtxType to, PtxType from, Run run,
                             int min_sm = 60) {
  return {.opcode = opcode,
          .result_registers = results,
          .operand_registers = operands,
          .result_type = to,
          .operand_type = from,
          .any_nan = to != kBits,
          .run = run,
          .min_sm = min_sm};
}

constexpr PtxInstruction blackwell_cvt(std::string_view opcode, std::string_view results,
                                       std::string_view operands, PtxType to, PtxType from,
                                       Run run) {
  PtxInstruction instruction = cvt(opcode, results, operands, to, from, run, 100);
  instruction.needs_suffix = true;
  instruction.unproved = "only sm_100a, sm_120a and their relatives have it";
  return instruction;
}

const PtxInstruction kConversions[] = {
    // Exact.
    cvt("cvt.f32.f16", "f", "h", kF32, kF16, widen_to_f32<kF16Format>),
    cvt("cvt.f32.bf16", "f", "h", kF32, kBf16, widen_to_f32<kBf16Format>, 80),
    // To nearest even.
    cvt("cvt.rn.f16.f32", "h", "f", kF16, kF32, narrow_f32<kF16Format, kToInfinity>),
    cvt("cvt.rn.bf16.f32", "h", "f", kBf16, kF32, narrow_f32<kBf16Format, kToInfinity>, 80),
    cvt("cvt.rn.f16x2.f32", "r", "ff", kF16x2, kF32, narrow_two_f32<kF16Format, kToInfinity>, 80),
    cvt("cvt.rn.bf16x2.f32", "r", "ff", kBf16x2, kF32, narrow_two_f32<kBf16Format, kToInfinity>,
        80),
    // 8 bits; .satfinite: NaN to 0x7f in both formats.
    cvt("cvt.rn.satfinite.e4m3x2.f32", "h", "ff", kBits, kF32,
        narrow_two_f32<kE4m3Format, kSatfinite>, 89),
    cvt("cvt.rn.satfinite.e4m3x2.f16x2", "h", "r", kBits, kF16x2,
        convert_pair<kE4m3Format, kF16Format, kSatfinite>, 89),
    cvt("cvt.rn.f16x2.e4m3x2", "r", "h", kF16x2, kBits,
        convert_pair<kF16Format, kE4m3Format, kToInfinity>, 89),
    cvt("cvt.rn.satfinite.e5m2x2.f32", "h", "ff", kBits, kF32,
        narrow_two_f32<kE5m2Format, kSatfinite>, 89),
    cvt("cvt.rn.satfinite.e5m2x2.f16x2", "h", "r", kBits, kF16x2,
        convert_pair<kE5m2Format, kF16Format, kSatfinite>, 89),
    cvt("cvt.rn.f16x2.e5m2x2", "r", "h", kF16x2, kBits,
        convert_pair<kF16Format, kE5m2Format, kToInfinity>, 89),
    // 4 and 6 bits, without NaN: one becomes the largest number.
    blackwell_cvt("cvt.rn.satfinite.e2m1x2.f32", "b", "ff", kBits, kF32,
                  narrow_two_f32<kE2m1Format, kSatfinite>),
    blackwell_cvt("cvt.rn.f16x2.e2m1x2", "r", "b", kF16x2, kBits,
                  convert_pair<kF16Format, kE2m1Format, kToInfinity>),
    blackwell_cvt("cvt.rn.satfinite.e2m3x2.f32", "h", "ff", kBits, kF32,
                  narrow_two_f32<kE2m3Format, kSatfinite>),
    blackwell_cvt("cvt.rn.f16x2.e2m3x2", "r", "h", kF16x2, kBits,
                  convert_pair<kF16Format, kE2m3Format, kToInfinity>),
    blackwell_cvt("cvt.rn.satfinite.e3m2x2.f32", "h", "ff", kBits, kF32,
                  narrow_two_f32<kE3m2Format, kSatfinite>),
    blackwell_cvt("cvt.rn.f16x2.e3m2x2", "r", "h", kF16x2, kBits,
                  convert_pair<kF16Format, kE3m2Format, kToInfinity>),
    // Powers of two.
    blackwell_cvt("cvt.rz.ue8m0x2.f32", "h", "ff", kBits, kF32,
                  scales_of_two_f32<kTowardZero, kToInfinity>),
    blackwell_cvt("cvt.rz.ue8m0x2.bf16x2", "h", "r", kBits, kBf16x2,
                  scales_of_bf16x2<kTowardZero, kToInfinity>),
    blackwell_cvt("cvt.rz.satfinite.ue8m0x2.f32", "h", "ff", kBits, kF32,
                  scales_of_two_f32<kTowardZero, kSatfinite>),
    blackwell_cvt("cvt.rz.satfinite.ue8m0x2.bf16x2", "h", "r", kBits, kBf16x2,
                  scales_of_bf16x2<kTowardZero, kSatfinite>),
    blackwell_cvt("cvt.rp.ue8m0x2.f32", "h", "ff", kBits, kF32,
                  scales_of_two_f32<kUp, kToInfinity>),
    blackwell_cvt("cvt.rp.ue8m0x2.bf16x2", "h", "r", kBits, kBf16x2,
                  scales_of_bf16x2<kUp, kToInfinity>),
    blackwell_cvt("cvt.rp.satfinite.ue8m0x2.f32", "h", "ff", kBits, kF32,
                  scales_of_two_f32<kUp, kSatfinite>),
    blackwell_cvt("cvt.rp.satfinite.ue8m0x2.bf16x2", "h", "r", kBits, kBf16x2,
                  scales_of_bf16x2<kUp, kSatfinite>),
    blackwell_cvt("cvt.rn.bf16x2.ue8m0x2", "r", "h", kBf16x2, kBits, scales_to_bf16x2),
    // Widths of registers: what a text needs around 8-bit ones.
    cvt("cvt.u16.u8", "h", "b", kBits, kBits, keep_bits<8>),
    cvt("cvt.u32.u8", "r", "b", kBits, kBits, keep_bits<8>),
    cvt("cvt.u8.u16", "b", "h", kBits, kBits, keep_bits<8>),
    cvt("cvt.u8.u32", "b", "r", kBits, kBits, keep_bits<8>),
    cvt("cvt.u32.u16", "r", "h", kBits, kBits, keep_bits<16>),
    cvt("cvt.u16.u32", "h", "r", kBits, kBits, keep_bits<16>),
    cvt("cvt.u64.u32", "l", "r", kBits, kBits, keep_bits<32>),
    cvt("cvt.u32.u64", "r", "l", kBits, kBits, keep_bits<32>),
    cvt("mov.b16", "h", "h", kBits, kBits, keep_bits<16>),
    cvt("mov.b32", "r", "r", kBits, kBits, keep_bits<32>),
    cvt("mov.b64", "l", "l", kBits, kBits, keep_bits<64>),
    cvt("mov.b16", "bb", "h", kBits, kBits, unpack<16, 2>),
    cvt("mov.b16", "h", "bb", kBits, kBits, pack<16, 2>),
    cvt("mov.b32", "hh", "r", kBits, kBits, unpack<32, 2>),
    cvt("mov.b32", "r", "hh", kBits, kBits, pack<32, 2>),
    cvt("mov.b32", "bbbb", "r", kBits, kBits, unpack<32, 4>),
    cvt("mov.b32", "r", "bbbb", kBits, kBits, pack<32, 4>),
    cvt("mov.b64", "rr", "l", kBits, kBits, unpack<64, 2>),
    cvt("mov.b64", "l", "rr", kBits, kBits, pack<64, 2>),
    cvt("mov.b64", "hhhh", "l", kBits, kBits, unpack<64, 4>),
    cvt("mov.b64", "l", "hhhh", kBits, kBits, pack<64, 4>),
};

}  // namespace

std::span<const PtxInstruction> conversion_instructions() { return kConversions; }

}  // namespace ktjit::runtime::ptx
