// Instructions on integers and bits. PTX ISA 9.0, "prmt", "lop3", "dp4a", "dp2a".
#include "runtime/ptx_numbers.h"
#include "runtime/ptx_tables.h"

namespace ktjit::runtime::ptx {
namespace {

/// d, a, b, selector: each nibble of the selector picks one of the 8 bytes of {b, a}; its top bit
/// asks for that byte's sign, repeated.
void prmt(std::uint64_t* results, const std::uint64_t* operands) {
  const std::uint64_t bytes = std::uint64_t{low32(operands[1])} << 32 | low32(operands[0]);
  const std::uint32_t selector = low32(operands[2]);
  std::uint32_t picked = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t nibble = (selector >> (4 * i)) & 0xfu;
    const auto byte = static_cast<std::uint32_t>(bytes >> (8 * (nibble & 7u))) & 0xffu;
    const std::uint32_t sign = (byte & 0x80u) != 0 ? 0xffu : 0x00u;
    picked |= ((nibble & 8u) != 0 ? sign : byte) << (8 * i);
  }
  results[0] = picked;
}

/// d, a, b, c, table: each bit of d is bit 4 a + 2 b + c of the table, of the bits in its place.
void lop3(std::uint64_t* results, const std::uint64_t* operands) {
  const std::uint32_t a = low32(operands[0]), b = low32(operands[1]), c = low32(operands[2]);
  std::uint32_t value = 0;
  for (std::uint32_t entry = 0; entry < 8; ++entry) {
    if (((operands[3] >> entry) & 1u) == 0) continue;
    value |=
        ((entry & 4u) != 0 ? a : ~a) & ((entry & 2u) != 0 ? b : ~b) & ((entry & 1u) != 0 ? c : ~c);
  }
  results[0] = value;
}

template <class Byte>
std::int64_t byte_as(std::uint64_t slot, int byte) {
  return static_cast<Byte>(byte_of(slot, byte));
}

/// d, a, b, c: c plus the four products of bytes, modulo 2^32.
template <class ByteA, class ByteB>
void dp4a(std::uint64_t* results, const std::uint64_t* operands) {
  std::int64_t sum = low32(operands[2]);
  for (int i = 0; i < 4; ++i)
    sum += byte_as<ByteA>(operands[0], i) * byte_as<ByteB>(operands[1], i);
  results[0] = static_cast<std::uint32_t>(sum);
}

/// d, a, b, c: c plus the halves of a times bytes kFirst and kFirst + 1 of b, modulo 2^32. PTX ISA 9.0, "dp2a".
template <int kFirst, class ByteB>
void dp2a(std::uint64_t* results, const std::uint64_t* operands) {
  std::int64_t sum = low32(operands[2]);
  for (int i = 0; i < 2; ++i) {
    const auto half = static_cast<std::int16_t>(low32(operands[0]) >> (16 * i));
    sum += std::int64_t{half} * byte_as<ByteB>(operands[1], kFirst + i);
  }
  results[0] = static_cast<std::uint32_t>(sum);
}

using S8 = std::int8_t;
using U8 = std::uint8_t;

constexpr PtxInstruction on_words(std::string_view opcode, std::string_view operands,
                                  void (*run)(std::uint64_t*, const std::uint64_t*), int min_sm) {
  return {.opcode = opcode,
          .result_registers = "r",
          .operand_registers = operands,
          .run = run,
          .min_sm = min_sm};
}

/// The first operand if the last one, a predicate, is true.
void selp(std::uint64_t* results, const std::uint64_t* operands) {
  results[0] = operands[2] != 0 ? low32(operands[0]) : low32(operands[1]);
}

const PtxInstruction kIntegers[] = {
    {.opcode = "selp.u32",
     .result_registers = "r",
     .operand_registers = "rrp",
     .run = selp,
     .proved_in_kernels = "a predicate is no operand of inline assembly"},
    on_words("prmt.b32", "rrr", prmt, 60),
    on_words("lop3.b32", "rrrn", lop3, 60),
    on_words("dp4a.s32.s32", "rrr", dp4a<S8, S8>, 61),
    on_words("dp4a.s32.u32", "rrr", dp4a<S8, U8>, 61),
    on_words("dp4a.u32.s32", "rrr", dp4a<U8, S8>, 61),
    on_words("dp4a.u32.u32", "rrr", dp4a<U8, U8>, 61),
    on_words("dp2a.lo.s32.s32", "rrr", dp2a<0, S8>, 61),
    on_words("dp2a.hi.s32.s32", "rrr", dp2a<2, S8>, 61),
    on_words("dp2a.lo.s32.u32", "rrr", dp2a<0, U8>, 61),
    on_words("dp2a.hi.s32.u32", "rrr", dp2a<2, U8>, 61),
};

}  // namespace

std::span<const PtxInstruction> integer_instructions() { return kIntegers; }

}  // namespace ktjit::runtime::ptx
