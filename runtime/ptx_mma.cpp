// Products of small matrices by a whole warp. PTX ISA 9.0, "mma", for the shapes and for which lane
// holds what.
//
// Of floats, NVIDIA leaves open in what order and how exactly the products are summed. Here
// products are exact and summed in double, c first, then in the order of k; the sum is rounded once
// to f32. A GPU may cut each addend at 2^-23 (f16, bf16) of the largest one and round, also in
// several steps; sum_error bounds that, see below.
#include <type_traits>

#include "runtime/ptx_numbers.h"
#include "runtime/ptx_tables.h"

namespace ktjit::runtime::ptx {
namespace {

constexpr int kLanes = 32;
constexpr int kCols = 8;  // of b and d: n8

template <const FloatFormat& Format>
struct FloatElement {
  using Value = double;
  static constexpr int kBits = Format.sign_bit() + 1;
  static double value(std::uint32_t code) { return decode(Format, code); }
};

template <class Byte>
struct IntegerElement {
  using Value = std::int64_t;
  static constexpr int kBits = 8;
  static std::int64_t value(std::uint32_t code) { return static_cast<Byte>(code); }
};

double sum_of(std::uint64_t slot, double) { return decode(kF32Format, low32(slot)); }
std::uint64_t slot_of(double sum) { return encode(kF32Format, sum); }
std::int64_t sum_of(std::uint64_t slot, std::int64_t) { return low32(slot); }
/// Modulo 2^32: without .satfinite.
std::uint64_t slot_of(std::int64_t sum) { return static_cast<std::uint32_t>(sum); }

/// Element `at` of a register's `Bits`-bit elements, the first in the low bits.
template <int Bits>
std::uint32_t element(std::uint64_t slot, int at) {
  return (low32(slot) >> (Bits * at)) & ((1u << Bits) - 1u);
}

/// d = a b + c; a is Rows x K, b K x 8. Operands: the registers of a, of b, of c.
template <int Rows, int K, class A, class B>
void mma(std::uint64_t* const results[kLanes], const std::uint64_t* const operands[kLanes]) {
  using Value = typename A::Value;
  static_assert(A::kBits == B::kBits);
  constexpr int kElements = 32 / A::kBits;          // of a register
  constexpr int kStripes = Rows / 8;                // a lane holds rows g and, of 16, g + 8
  constexpr int kRegistersB = K / (4 * kElements);  // 4 lanes share a row of a, a column of b
  constexpr int kRegistersA = kRegistersB * kStripes;

  Value a[Rows][K], b[K][kCols];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane / 4, place = lane % 4;
    for (int i = 0; i < kRegistersA; ++i) {
      const int row = group + 8 * (i % kStripes);
      const int k = kElements * (place + 4 * (i / kStripes));
      for (int e = 0; e < kElements; ++e)
        a[row][k + e] = A::value(element<A::kBits>(operands[lane][i], e));
    }
    for (int i = 0; i < kRegistersB; ++i) {
      const int k = kElements * (place + 4 * i);
      for (int e = 0; e < kElements; ++e)
        b[k + e][group] = B::value(element<B::kBits>(operands[lane][kRegistersA + i], e));
    }
  }

  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane / 4, place = lane % 4;
    for (int i = 0; i < 2 * kStripes; ++i) {
      const int row = group + 8 * (i / 2), col = 2 * place + i % 2;
      Value sum = sum_of(operands[lane][kRegistersA + kRegistersB + i], Value{});
      for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][col];
      results[lane][i] = slot_of(sum);
    }
  }
}

/// Of K + 1 addends whose magnitudes sum to S, each loses at most 2^-f of the largest intermediate
/// magnitude, which is at most S, when it is aligned to it with f bits of fraction; each of at most
/// K + 1 roundings of sums loses no more. So |d - exact| <= 2 (K + 1) 2^-f S; the model's own error
/// is far smaller. f is 23 or more for f16 and bf16 (Fasi, Higham, Mikaitis, Pranesh, "Numerical
/// behavior of NVIDIA tensor cores", 2021) and 12 for 8-bit floats on Hopper, where the highest 14
/// bits of a product are kept (DeepSeek-V3 technical report, 2024, section 3.5.2), two before the
/// point.
///
/// Makes an entry; fraction_bits is that f, 0 for integers, whose sums are exact.
template <int Rows, int K, class A, class B>
constexpr PtxInstruction product(std::string_view opcode, int min_sm, int fraction_bits = 0) {
  constexpr bool kIsFloat = std::is_same_v<typename A::Value, double>;
  constexpr std::size_t kRegistersB = K * B::kBits / 128, kRegistersA = kRegistersB * Rows / 8;
  constexpr std::size_t kSums = 2 * Rows / 8;
  constexpr std::string_view kOperands = kIsFloat ? "rrrrrrffff" : "rrrrrrrrrr";
  constexpr std::string_view kInputs = kOperands.substr(6 - kRegistersA - kRegistersB);
  return {.opcode = opcode,
          .result_registers = kOperands.substr(6, kSums),
          .operand_registers = kInputs.substr(0, kRegistersA + kRegistersB + kSums),
          .kind = PtxInstruction::Kind::kWarp,
          .result_type = kIsFloat ? PtxType::kF32 : PtxType::kBits,
          .any_nan = kIsFloat,
          .run_warp = mma<Rows, K, A, B>,
          .min_sm = min_sm,
          .sum_error = kIsFloat ? 2.0 * (K + 1) / static_cast<double>(1 << fraction_bits) : 0.0};
}

using F16 = FloatElement<kF16Format>;
using Bf16 = FloatElement<kBf16Format>;
using E4m3 = FloatElement<kE4m3Format>;
using E5m2 = FloatElement<kE5m2Format>;
using S8 = IntegerElement<std::int8_t>;
using U8 = IntegerElement<std::uint8_t>;

const PtxInstruction kProducts[] = {
    product<16, 8, F16, F16>("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 75, 23),
    product<16, 16, F16, F16>("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 80, 23),
    product<16, 8, Bf16, Bf16>("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", 80, 23),
    product<16, 16, Bf16, Bf16>("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 80, 23),
    product<16, 32, E4m3, E4m3>("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", 89, 12),
    product<16, 32, E4m3, E5m2>("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32", 89, 12),
    product<16, 32, E5m2, E4m3>("mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e4m3.f32", 89, 12),
    product<16, 32, E5m2, E5m2>("mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32", 89, 12),
    product<8, 16, S8, S8>("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32", 75),
    product<8, 16, S8, U8>("mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32", 75),
    product<8, 16, U8, S8>("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32", 75),
    product<8, 16, U8, U8>("mma.sync.aligned.m8n8k16.row.col.s32.u8.u8.s32", 75),
    product<16, 16, S8, S8>("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32", 80),
    product<16, 16, S8, U8>("mma.sync.aligned.m16n8k16.row.col.s32.s8.u8.s32", 80),
    product<16, 16, U8, S8>("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32", 80),
    product<16, 16, U8, U8>("mma.sync.aligned.m16n8k16.row.col.s32.u8.u8.s32", 80),
    product<16, 32, S8, S8>("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", 80),
    product<16, 32, S8, U8>("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32", 80),
    product<16, 32, U8, S8>("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32", 80),
    product<16, 32, U8, U8>("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32", 80),
};

}  // namespace

std::span<const PtxInstruction> mma_instructions() { return kProducts; }

}  // namespace ktjit::runtime::ptx
