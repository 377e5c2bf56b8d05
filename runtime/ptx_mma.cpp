// Products of small matrices by a whole warp. PTX ISA 9.0, "mma", for the shapes and for which lane
// holds what.
//
// Of floats, NVIDIA leaves open in what order and how exactly the products are summed. Here
// products are exact and summed in double, c first, then in the order of k; the sum is rounded once
// to f32. A GPU may cut each addend at 2^-23 (f16, bf16) of the largest one and round, also in
// several steps; sum_error bounds that, see below.
#include <cstring>
#include <type_traits>
#include <vector>

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

/// PTX ISA, "movmatrix": a lane has elements 2 place and 2 place + 1 of row group, and gets those of column group.
void transpose(std::uint64_t* const results[kLanes], const std::uint64_t* const operands[kLanes]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane / 4, place = lane % 4;
    std::uint32_t pair = 0;
    for (int i = 0; i < 2; ++i)
      pair |= element<16>(operands[4 * (2 * place + i) + group / 2][0], group % 2) << (16 * i);
    results[lane][0] = pair;
  }
}

template <class Element>
void add_products(int cols, std::uint64_t* const results[kLanes],
                  const std::uint64_t* const operands[kLanes], const std::byte* shared) {
  constexpr int kRows = 16, kRegistersA = 4, kBytes = Element::kBits / 8, kOfWord = 4 / kBytes;
  constexpr int kDepth = 32 / kBytes;
  const int sums = cols / 2;
  double a[kRows][kDepth];
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kRegistersA; ++i) {
      for (int e = 0; e < kOfWord; ++e) {
        a[lane / 4 + 8 * (i % 2)][kOfWord * (lane % 4 + i / 2 * 4) + e] =
            Element::value(element<Element::kBits>(operands[lane][sums + i], e));
      }
    }
  }
  const std::uint64_t descriptor = operands[0][sums + kRegistersA];
  const bool adds = operands[0][sums + kRegistersA + 1] != 0;
  for (int col = 0; col < cols; ++col) {
    double b[kDepth];
    for (int k = 0; k < kDepth; ++k) {
      std::uint32_t code = 0;
      std::memcpy(&code, shared + matrix_place(descriptor, col, k * kBytes / 16) + k * kBytes % 16,
                  kBytes);
      b[k] = Element::value(code);
    }
    for (int row = 0; row < kRows; ++row) {
      const int lane = row % 8 * 4 + col % 8 / 2, slot = col / 8 * 4 + row / 8 * 2 + col % 2;
      double sum = adds ? sum_of(operands[lane][slot], double{}) : 0.0;
      for (int k = 0; k < kDepth; ++k) sum += a[row][k] * b[k];
      results[lane][slot] = slot_of(sum);
    }
  }
}

const std::vector<PtxInstruction>& warp_instructions() {
  static const std::vector<PtxInstruction> all = [] {
    std::vector<PtxInstruction> rows(std::begin(kProducts), std::end(kProducts));
    rows.push_back({.opcode = "movmatrix.sync.aligned.m8n8.trans.b16",
                    .result_registers = "r",
                    .operand_registers = "r",
                    .kind = PtxInstruction::Kind::kWarp,
                    .run_warp = transpose,
                    .min_sm = 75,
                    .proved_in_kernels = "no product, as others of a warp are"});
    return rows;
  }();
  return all;
}

}  // namespace

std::span<const PtxInstruction> mma_instructions() { return warp_instructions(); }

}  // namespace ktjit::runtime::ptx

namespace ktjit::runtime {

std::uint64_t matrix_place(std::uint64_t descriptor, int row, int half) {
  constexpr std::uint64_t kField = 0x3fff, kRowBytes = 128, kHalfBytes = 16;
  const std::uint64_t start = (descriptor & kField) << 4, step = (descriptor >> 32 & kField) << 4;
  const auto r = static_cast<std::uint64_t>(row);
  const std::uint64_t at =
      start + r / 8 * step + r % 8 * kRowBytes + static_cast<std::uint64_t>(half) * kHalfBytes;
  return at ^ (at >> 3 & 0x70);
}

bool is_simulated_descriptor(std::uint64_t descriptor) {
  return descriptor >> 62 == 1 && (descriptor >> 49 & 7) == 0;
}

void warpgroup_product(const PtxMemory& memory, std::uint64_t* const results[32],
                       const std::uint64_t* const operands[32], const std::byte* shared) {
  switch (memory.element) {
    case PtxElement::kF16:
      return ptx::add_products<ptx::F16>(memory.cols, results, operands, shared);
    case PtxElement::kBf16:
      return ptx::add_products<ptx::Bf16>(memory.cols, results, operands, shared);
    case PtxElement::kE4m3:
      return ptx::add_products<ptx::E4m3>(memory.cols, results, operands, shared);
  }
}

}  // namespace ktjit::runtime
