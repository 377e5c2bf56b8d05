// Models of PTX instructions against the definitions: facts, properties and arithmetic that the
// models don't use.
#include "runtime/ptx_instructions.h"

#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace ktjit::runtime {
namespace {

__extension__ typedef _Float16 Half;
__extension__ typedef __float128 Quad;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::bit_cast<float>(0x7fc12345u);

const PtxInstruction& get(std::string_view opcode) {
  const PtxInstruction* found = find_ptx_instruction(opcode);
  INFO(opcode);
  REQUIRE(found != nullptr);
  return *found;
}

std::uint64_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }
std::uint64_t half_bits(Half value) {
  std::uint16_t code;
  std::memcpy(&code, &value, sizeof code);
  return code;
}
Half half_from(std::uint64_t code) {
  const auto narrow = static_cast<std::uint16_t>(code);
  Half value;
  std::memcpy(&value, &narrow, sizeof value);
  return value;
}
bool is_half_nan(std::uint64_t code) { return (code & 0x7fffu) > 0x7c00u; }
float bf16_value(std::uint64_t code) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 16);
}

/// The only result.
std::uint64_t run(const PtxInstruction& instruction, const std::vector<std::uint64_t>& operands) {
  std::uint64_t result = ~0ull;
  instruction.run(&result, operands.data());
  return result;
}
std::uint64_t run(std::string_view opcode, const std::vector<std::uint64_t>& operands) {
  const PtxInstruction& instruction = get(opcode);
  REQUIRE(instruction.results == 1);
  REQUIRE(instruction.operands == static_cast<int>(operands.size()));
  return run(instruction, operands);
}

/// A float format by its definition, as a list: value of each code, in order of magnitude.
struct SmallFormat {
  std::string name;
  int exponent_bits, mantissa_bits, bias;
  int finite_codes;  // magnitudes 0 .. finite_codes - 1 are numbers

  double value(int magnitude) const {
    const int exponent = magnitude >> mantissa_bits;
    const double fraction = (magnitude & ((1 << mantissa_bits) - 1)) * std::exp2(-mantissa_bits);
    return exponent == 0 ? fraction * std::exp2(1 - bias)
                         : (1.0 + fraction) * std::exp2(exponent - bias);
  }
  /// By search: the nearest number, of two the one with the even code; the largest for what is
  /// larger.
  int nearest(double magnitude) const {
    int low = 0, high = finite_codes - 1;
    if (magnitude >= value(high)) return high;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (value(middle) <= magnitude ? low : high) = middle;
    }
    const double below = magnitude - value(low), above = value(high) - magnitude;
    if (below != above) return below < above ? low : high;
    return low % 2 == 0 ? low : high;
  }
};

const SmallFormat kE4m3{"e4m3", 4, 3, 7, 0x7f};
const SmallFormat kE5m2{"e5m2", 5, 2, 15, 0x7c};
const SmallFormat kE2m3{"e2m3", 2, 3, 1, 0x20};
const SmallFormat kE3m2{"e3m2", 3, 2, 3, 0x20};
const SmallFormat kE2m1{"e2m1", 2, 1, 1, 0x08};
const SmallFormat kAllSmall[] = {kE4m3, kE5m2, kE2m3, kE3m2, kE2m1};

int code_bits(const SmallFormat& format) { return 1 + format.exponent_bits + format.mantissa_bits; }
/// Bits from one code of a pair to the next.
int pair_shift(const SmallFormat& format) { return code_bits(format) == 4 ? 4 : 8; }

/// Floats around everything that matters to the format: its numbers, the points between them, their
/// neighbours, beyond both ends, and special values; of both signs.
std::vector<float> interesting_floats(const SmallFormat& format) {
  std::vector<float> floats = {0.0f, 0x1p-149f, 0x1p-126f, 0x1p127f, 0x1.fffffep127f, kInfinity};
  for (int code = 0; code + 1 < format.finite_codes + 3; ++code) {
    const double number = format.value(code), next = format.value(code + 1);
    for (const double at : {number, (number + next) / 2}) {
      const auto value = static_cast<float>(at);
      floats.insert(floats.end(),
                    {value, std::nextafter(value, 0.0f), std::nextafter(value, kInfinity)});
    }
  }
  const std::size_t positive = floats.size();
  for (std::size_t i = 0; i < positive; ++i) floats.push_back(-floats[i]);
  return floats;
}

}  // namespace

TEST_CASE("table of PTX instructions is coherent") {
  std::set<std::tuple<std::string_view, int, int>> forms;
  for (const PtxInstruction& entry : all_ptx_instructions()) {
    INFO(entry.opcode);
    CHECK(forms.emplace(entry.opcode, entry.results, entry.operands).second);
    CHECK(find_ptx_instruction(entry.opcode, entry.results, entry.operands) == &entry);
    CHECK(find_ptx_instruction(entry.opcode)->opcode == entry.opcode);
    CHECK(entry.results == static_cast<int>(entry.result_registers.size()));
    CHECK(entry.operands == static_cast<int>(entry.operand_registers.size()));
    CHECK(entry.result_registers.find_first_not_of("bhrflp") == std::string_view::npos);
    CHECK(entry.operand_registers.find_first_not_of("bhrflpn") == std::string_view::npos);
    CHECK((entry.run != nullptr) == (entry.kind == PtxInstruction::Kind::kThread));
    CHECK((entry.run_warp != nullptr) == (entry.kind == PtxInstruction::Kind::kWarp));
    CHECK((entry.memory.action != PtxMemoryAction::kNone) ==
          (entry.kind == PtxInstruction::Kind::kMemory));
    CHECK((!entry.any_nan || entry.result_type != PtxType::kBits));
    CHECK((entry.sum_error == 0.0 || entry.kind == PtxInstruction::Kind::kWarp));
    CHECK(entry.sum_error < 0.02);
  }
  CHECK(forms.size() > 150);
  CHECK(find_ptx_instruction("prmt") == nullptr);
  CHECK(find_ptx_instruction("mov.b32", 1, 3) == nullptr);
  CHECK(find_ptx_instruction("tcgen05.wait::ld.sync.aligned") == nullptr);
}

TEST_CASE("results fill no more bits than their registers") {
  std::mt19937_64 random(1);
  const auto width = [](char letter) {
    return letter == 'b' ? 8 : letter == 'h' ? 16 : letter == 'l' ? 64 : letter == 'n' ? 8 : 32;
  };
  const auto mask = [&](char letter) { return ~0ull >> (64 - width(letter)); };
  for (const PtxInstruction& entry : all_ptx_instructions()) {
    if (entry.run == nullptr) continue;
    for (int trial = 0; trial < 1000; ++trial) {
      std::vector<std::uint64_t> operands, results(entry.result_registers.size(), ~0ull);
      for (char letter : entry.operand_registers) operands.push_back(random() & mask(letter));
      entry.run(results.data(), operands.data());
      for (std::size_t i = 0; i < results.size(); ++i) {
        INFO(entry.opcode << " result " << i);
        REQUIRE((results[i] & ~mask(entry.result_registers[i])) == 0);
      }
    }
  }
}

TEST_CASE("PTX instructions exist on the targets that the table of targets says") {
  for (const CudaFacts& facts : all_cuda_facts()) {
    const Target plain = make_cuda_target(facts.sm);
    const Target native = make_native_cuda_target(facts.sm);
    INFO(native.name());
    CHECK(get("dp4a.s32.s32").exists_on(plain) == facts.dp4a);
    CHECK(get("cvt.rn.bf16.f32").exists_on(plain) == facts.bf16_cvt);
    CHECK(get("cvt.rn.satfinite.e4m3x2.f32").exists_on(plain) == facts.fp8_cvt);
    CHECK(get("cvt.rn.f16x2.e2m1x2").exists_on(native) == facts.mx_cvt_with_a);
    CHECK_FALSE(get("cvt.rn.f16x2.e2m1x2").exists_on(plain));
    CHECK(get("prmt.b32").exists_on(plain));
  }
  CHECK_FALSE(get("prmt.b32").exists_on(make_cpu_target("x86-64", {})));
}

TEST_CASE("prmt picks bytes and repeats signs") {
  CHECK(run("prmt.b32", {0x33221100, 0x77665544, 0x3210}) == 0x33221100);
  CHECK(run("prmt.b32", {0x33221100, 0x77665544, 0x7654}) == 0x77665544);
  CHECK(run("prmt.b32", {0x33221100, 0x77665544, 0x0123}) == 0x00112233);
  CHECK(run("prmt.b32", {0x33221100, 0x77665544, 0x0426}) == 0x00442266);
  CHECK(run("prmt.b32", {0x807f1180, 0xff665544, 0xb8fc}) == 0xffffff00);
  CHECK(run("prmt.b32", {0x33221100, 0x77665544, 0xabcd3210}) == 0x33221100);
}

TEST_CASE("lop3 applies the table that its constants spell") {
  // PTX ISA, lop3: the immediate is the function applied to 0xf0, 0xcc and 0xaa.
  for (std::uint64_t table = 0; table < 256; ++table)
    CHECK((run("lop3.b32", {0xf0, 0xcc, 0xaa, table}) & 0xffu) == table);
  const std::uint64_t a = 0x12345678, b = 0x9abcdef0, c = 0x0f1e2d3c;
  CHECK(run("lop3.b32", {a, b, c, 0xf0 & 0xcc & 0xaa}) == (a & b & c));
  CHECK(run("lop3.b32", {a, b, c, (0xf0 & 0xcc) | 0xaa}) == ((a & b) | c));
  CHECK(run("lop3.b32", {a, b, c, 0xf0 ^ 0xcc ^ 0xaa}) == (a ^ b ^ c));
}

TEST_CASE("dp2a sums two products of halves and bytes, modulo 2^32") {
  CHECK(run("dp2a.lo.s32.s32", {0xfffe0003, 0x7f7f0580, 10}) ==
        static_cast<std::uint32_t>(3 * -128 + -2 * 5 + 10));
  CHECK(run("dp2a.hi.s32.s32", {0xfffe0003, 0x0580ffff, 10}) ==
        static_cast<std::uint32_t>(3 * -128 + -2 * 5 + 10));
  CHECK(run("dp2a.lo.s32.u32", {0xfffe0003, 0x7f7f0580, 10}) ==
        static_cast<std::uint32_t>(3 * 128 + -2 * 5 + 10));
  CHECK(run("dp2a.hi.s32.u32", {0xfffe0003, 0x0580ffff, 10}) ==
        static_cast<std::uint32_t>(3 * 128 + -2 * 5 + 10));
}

TEST_CASE("dp4a sums four products of bytes, modulo 2^32") {
  CHECK(run("dp4a.s32.s32", {0x80808080, 0x80808080, 0}) == 4 * 128 * 128);
  CHECK(run("dp4a.u32.u32", {0xffffffff, 0xffffffff, 0}) == 4 * 255 * 255);
  CHECK(run("dp4a.u32.s32", {0xffffffff, 0xffffffff, 0}) == static_cast<std::uint32_t>(-4 * 255));
  CHECK(run("dp4a.s32.u32", {0xffffffff, 0x000000ff, 0}) == static_cast<std::uint32_t>(-255));
  CHECK(run("dp4a.s32.s32", {0x04030201, 0x281e140a, 5}) == 10 + 40 + 90 + 160 + 5);
  CHECK(run("dp4a.u32.u32", {1, 1, 0xffffffff}) == 0);
}

TEST_CASE("f16 and bf16 widen exactly, for all codes") {
  for (std::uint64_t code = 0; code < 0x10000; ++code) {
    const std::uint64_t wide = run(get("cvt.f32.f16"), {code});
    const std::uint64_t from_bf16 = run(get("cvt.f32.bf16"), {code});
    if (is_half_nan(code))
      REQUIRE(wide == 0x7fffffff);
    else
      REQUIRE(wide == bits(static_cast<float>(half_from(code))));
    if (std::isnan(bf16_value(code)))
      REQUIRE(from_bf16 == 0x7fffffff);
    else
      REQUIRE(from_bf16 == code << 16);
  }
}

TEST_CASE("f32 narrows to f16 and bf16 by the nearest, at every tie and its neighbours") {
  const PtxInstruction& to_half = get("cvt.rn.f16.f32");
  const PtxInstruction& to_bf16 = get("cvt.rn.bf16.f32");
  const auto check = [&](float value) {
    const std::uint64_t expected = half_bits(static_cast<Half>(value));
    REQUIRE(run(to_half, {bits(value)}) == expected);
    // To nearest even by carrying into the upper half.
    const std::uint64_t rounded =
        std::isinf(value) ? bits(value) : bits(value) + 0x7fffu + ((bits(value) >> 16) & 1u);
    REQUIRE(run(to_bf16, {bits(value)}) == rounded >> 16);
  };
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    for (std::uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float value = std::bit_cast<float>(code << 16 | low);
      if (!std::isnan(value)) check(value);
    }
    if (is_half_nan(code)) continue;
    const auto number = static_cast<float>(half_from(code));
    const float next = is_half_nan(code + 1) ? 0.0f : static_cast<float>(half_from(code + 1));
    const float tie = std::isinf(next) ? std::copysign(65520.0f, number) : (number + next) / 2;
    for (float value :
         {number, tie, std::nextafter(tie, kInfinity), std::nextafter(tie, -kInfinity)})
      if (!std::isnan(value)) check(value);
  }
  CHECK(run(to_half, {bits(kNan)}) == 0x7fff);
  CHECK(run(to_bf16, {bits(-kNan)}) == 0x7fff);
  CHECK(run("cvt.rn.f16x2.f32", {bits(1.0f), bits(-2.0f)}) == 0x3c00c000);
  CHECK(run("cvt.rn.bf16x2.f32", {bits(1.0f), bits(-2.0f)}) == 0x3f80c000);
}

TEST_CASE("small floats widen to f16 as their definition says, for all pairs of codes") {
  for (const SmallFormat& format : kAllSmall) {
    const PtxInstruction& widen = get("cvt.rn.f16x2." + format.name + "x2");
    const int shift = pair_shift(format);
    const int codes = 1 << code_bits(format), sign = codes / 2;
    const auto expected = [&](int code) -> std::uint64_t {
      const int magnitude = code & (sign - 1);
      if (magnitude >= format.finite_codes) {
        const bool is_infinity = format.name == "e5m2" && magnitude == 0x7c;
        return is_infinity ? 0x7c00u | (code & sign ? 0x8000u : 0u) : 0x7fffu;
      }
      const double value = format.value(magnitude);
      return half_bits(static_cast<Half>(code & sign ? -value : value));
    };
    for (int high = 0; high < codes; ++high)
      for (int low = 0; low < codes; ++low) {
        INFO(format.name << " " << high << " " << low);
        REQUIRE(run(widen, {static_cast<std::uint64_t>(high << shift | low)}) ==
                (expected(high) << 16 | expected(low)));
      }
  }
}

TEST_CASE("f32 narrows to small floats by the nearest, saturating") {
  for (const SmallFormat& format : kAllSmall) {
    const PtxInstruction& narrow = get("cvt.rn.satfinite." + format.name + "x2.f32");
    const int shift = pair_shift(format);
    const auto sign = std::uint64_t{1} << (code_bits(format) - 1);
    for (float value : interesting_floats(format)) {
      const auto code = static_cast<std::uint64_t>(format.nearest(std::fabs(double{value}))) |
                        (std::signbit(value) ? sign : 0u);
      INFO(format.name << " " << value);
      REQUIRE(run(narrow, {bits(value), bits(0.0f)}) == code << shift);
      REQUIRE(run(narrow, {bits(0.0f), bits(value)}) == code);
    }
    // A NaN of either sign: 0x7f where the format has NaNs, else the largest number.
    const auto nan_code =
        static_cast<std::uint64_t>(code_bits(format) == 8 ? 0x7f : format.finite_codes - 1);
    CHECK(run(narrow, {bits(kNan), bits(-kNan)}) == (nan_code << shift | nan_code));
  }
}

TEST_CASE("pairs of f16 narrow to 8-bit floats by the nearest, saturating, for all f16") {
  for (const SmallFormat& format : {kE4m3, kE5m2}) {
    const PtxInstruction& narrow = get("cvt.rn.satfinite." + format.name + "x2.f16x2");
    for (std::uint64_t code = 0; code < 0x10000; ++code) {
      const auto value = static_cast<double>(half_from(code));
      const std::uint64_t expected =
          is_half_nan(code) ? 0x7fu
                            : static_cast<std::uint64_t>(format.nearest(std::fabs(value))) |
                                  (code & 0x8000u) >> 8;
      INFO(format.name << " " << code);
      REQUIRE(run(narrow, {code << 16 | 0x3c00}) ==
              (expected << 8 | static_cast<std::uint64_t>(format.bias << format.mantissa_bits)));
    }
  }
}

TEST_CASE("e8m0 is the power of two below or above, clipped") {
  struct Case {
    float value;
    std::uint64_t toward_zero, up;
  };
  const Case cases[] = {
      {1.0f, 127, 127},
      {1.5f, 127, 128},
      {-1.5f, 127, 128},
      {2.0f, 128, 128},
      {0x1.fffffep0f, 127, 128},
      {0.0f, 0, 0},
      {-0.0f, 0, 0},
      {0x1p-149f, 0, 0},
      {0x1p-127f, 0, 0},
      {0x1.000004p-127f, 0, 1},
      {0x1p-126f, 1, 1},
      {0x1.8p-126f, 1, 2},
      {0x1p127f, 254, 254},
  };
  for (const Case& each : cases) {
    INFO(each.value);
    for (const std::string saturate : {"", ".satfinite"}) {
      CHECK(run("cvt.rz" + saturate + ".ue8m0x2.f32", {bits(each.value), bits(1.0f)}) ==
            (each.toward_zero << 8 | 127));
      CHECK(run("cvt.rp" + saturate + ".ue8m0x2.f32", {bits(1.0f), bits(each.value)}) ==
            (127u << 8 | each.up));
    }
  }
  for (float beyond : {0x1.8p127f, 0x1.fffffep127f}) {
    CHECK(run("cvt.rp.satfinite.ue8m0x2.f32", {bits(beyond), bits(beyond)}) == 0xfefe);
    CHECK(run("cvt.rp.ue8m0x2.f32", {bits(beyond), bits(beyond)}) == 0xffff);
    CHECK(run("cvt.rz.ue8m0x2.f32", {bits(beyond), bits(beyond)}) == 0xfefe);
  }
  CHECK(run("cvt.rz.satfinite.ue8m0x2.f32", {bits(kInfinity), bits(kNan)}) == 0xfeff);
  CHECK(run("cvt.rz.ue8m0x2.f32", {bits(-kInfinity), bits(kNan)}) == 0xffff);
  // bf16: as the f32 of the same value.
  for (std::uint64_t code = 0; code < 0x10000; ++code)
    for (const std::string mode : {"rz", "rp", "rz.satfinite", "rp.satfinite"})
      REQUIRE(run(get("cvt." + mode + ".ue8m0x2.bf16x2"), {0x3f80u << 16 | code}) ==
              run(get("cvt." + mode + ".ue8m0x2.f32"), {bits(1.0f), code << 16}));
  for (std::uint64_t code = 0; code < 0xff; ++code)
    CHECK(bf16_value(run("cvt.rn.bf16x2.ue8m0x2", {127u << 8 | code}) & 0xffff) ==
          std::ldexp(1.0f, static_cast<int>(code) - 127));
  CHECK(run("cvt.rn.bf16x2.ue8m0x2", {0xff7f}) == 0x7fff3f80);
}

TEST_CASE("moves split and join registers, the lowest part first") {
  const std::uint64_t word = 0x44332211;
  std::uint64_t parts[4] = {};
  find_ptx_instruction("mov.b32", 2, 1)->run(parts, &word);
  CHECK(parts[0] == 0x2211);
  CHECK(parts[1] == 0x4433);
  find_ptx_instruction("mov.b32", 4, 1)->run(parts, &word);
  CHECK(parts[0] == 0x11);
  CHECK(parts[3] == 0x44);
  std::uint64_t joined = 0;
  find_ptx_instruction("mov.b32", 1, 4)->run(&joined, parts);
  CHECK(joined == word);
  const std::uint64_t words[] = {0x89abcdef, 0x01234567};
  find_ptx_instruction("mov.b64", 1, 2)->run(&joined, words);
  CHECK(joined == 0x0123456789abcdef);
  CHECK(run("cvt.u64.u32", {0x89abcdef}) == 0x89abcdef);
  CHECK(run("cvt.u32.u64", {0x0123456789abcdef}) == 0x89abcdef);
}

TEST_CASE("f32 arithmetic is rounded once, subnormals kept") {
  std::mt19937 random(2);
  const auto draw = [&]() -> std::uint64_t {
    const auto any = static_cast<std::uint32_t>(random());
    switch (random() % 4) {
      case 0:
        return any;
      case 1:
        return (any & 0x80ffffffu) | 0x3f000000u;  // near 1, so that sums cancel
      case 2:
        return any & 0x81ffffffu;  // tiny
      default: {
        const float special[] = {0.0f,      1.0f, 0x1p-149f, 0x1p-126f, 0x1.fffffep127f,
                                 kInfinity, kNan};
        return bits(special[random() % 7]) | (any & 0x80000000u);
      }
    }
  };
  const auto check = [](std::string_view opcode, std::vector<std::uint64_t> operands,
                        float expected) {
    const std::uint64_t result = run(get(opcode), operands);
    INFO(opcode << std::hex << " " << operands[0] << " " << operands[operands.size() - 1]);
    REQUIRE(result == (std::isnan(expected) ? 0x7fffffffu : bits(expected)));
  };
  for (int trial = 0; trial < 1 << 17; ++trial) {
    const std::uint64_t x = draw(), y = draw(), z = draw();
    const auto value = [](std::uint64_t slot) {
      return std::bit_cast<float>(static_cast<std::uint32_t>(slot));
    };
    const float a = value(x), b = value(y), c = value(z);
    check("add.rn.f32", {x, y}, a + b);
    check("sub.rn.f32", {x, y}, a - b);
    check("mul.rn.f32", {x, y}, a * b);
    check("div.rn.f32", {x, y}, a / b);
    check("fma.rn.f32", {x, y, z}, std::fma(a, b, c));
    check("sqrt.rn.f32", {x}, std::sqrt(a));
  }
  // The product, 1 + 2^-11 + 2^-24, lies between two f32; the far smaller addend decides.
  const std::uint64_t factor = bits(0x1.001p0f);
  check("fma.rn.f32", {factor, factor, bits(0x1p-100f)}, 0x1.002002p0f);
  check("fma.rn.f32", {factor, factor, bits(0.0f)}, 0x1.002p0f);
  check("fma.rn.f32", {factor, factor, bits(-0x1p-100f)}, 0x1.002p0f);
  check("fma.rn.f32", {bits(0x1p-75f), bits(0x1p-75f), bits(0x1p-149f)}, 0x1p-148f);
  check("fma.rn.f32", {bits(0x1.8p-75f), bits(0x1p-75f), bits(0.0f)}, 0x1p-149f);
}

TEST_CASE("f16x2 arithmetic is rounded once, half by half") {
  std::mt19937 random(3);
  for (int trial = 0; trial < 1 << 17; ++trial) {
    const std::uint64_t x = random(), y = random(), z = random();
    for (int half = 0; half < 2; ++half) {
      const auto value = [&](std::uint64_t pair) {
        return static_cast<Quad>(half_from(pair >> (16 * half)));
      };
      const auto check = [&](std::string_view opcode, std::vector<std::uint64_t> operands,
                             Quad exact) {
        const std::uint64_t result = run(get(opcode), operands) >> (16 * half) & 0xffff;
        const std::uint64_t expected = half_bits(static_cast<Half>(exact));
        INFO(opcode << std::hex << " " << x << " " << y << " " << z << " half " << half);
        REQUIRE(result == (is_half_nan(expected) ? 0x7fff : expected));
      };
      const Quad a = value(x), b = value(y), c = value(z);
      check("add.rn.f16x2", {x, y}, a + b);
      check("sub.rn.f16x2", {x, y}, a - b);
      check("mul.rn.f16x2", {x, y}, a * b);
      check("fma.rn.f16x2", {x, y, z}, a * b + c);
    }
  }
}

TEST_CASE("bf16x2 arithmetic is rounded once, half by half") {
  std::mt19937 random(4);
  // Exponents at most 30 from 1, so that a quad holds every result exactly.
  const auto draw = [&]() -> std::uint64_t {
    const auto one = [&] {
      return (random() & 0x807fu) | static_cast<std::uint32_t>(97 + random() % 61) << 7;
    };
    return std::uint64_t{one()} << 16 | one();
  };
  const auto nearest = [](Quad exact) -> std::uint64_t {
    // To f32 by cutting with a sticky bit, then to nearest even.
    auto cut = static_cast<float>(exact);
    if (static_cast<Quad>(cut) != exact) {
      const bool too_far = (cut < 0 ? -static_cast<Quad>(cut) : static_cast<Quad>(cut)) >
                           (exact < 0 ? -exact : exact);
      auto word = std::bit_cast<std::uint32_t>(cut);
      if (too_far) --word;
      cut = std::bit_cast<float>(word | 1u);
    }
    const auto word = std::bit_cast<std::uint32_t>(cut);
    return (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  };
  for (int trial = 0; trial < 1 << 17; ++trial) {
    const std::uint64_t x = draw(), y = draw(), z = draw();
    for (int half = 0; half < 2; ++half) {
      const auto value = [&](std::uint64_t pair) {
        return static_cast<Quad>(bf16_value(pair >> (16 * half) & 0xffff));
      };
      const auto check = [&](std::string_view opcode, std::vector<std::uint64_t> operands,
                             Quad exact) {
        INFO(opcode << std::hex << " " << x << " " << y << " " << z << " half " << half);
        REQUIRE((run(get(opcode), operands) >> (16 * half) & 0xffff) == nearest(exact));
      };
      const Quad a = value(x), b = value(y), c = value(z);
      check("add.rn.bf16x2", {x, y}, a + b);
      check("sub.rn.bf16x2", {x, y}, a - b);
      check("mul.rn.bf16x2", {x, y}, a * b);
      check("fma.rn.bf16x2", {x, y, z}, a * b + c);
    }
  }
  // 7 * 37 = 259 lies between 258 and 260; the far smaller addend decides.
  const auto bf16 = [](float exact) { return bits(exact) >> 16; };
  const std::uint64_t seven = bf16(7), thirty_seven = bf16(37);
  CHECK(run("fma.rn.bf16x2", {seven, thirty_seven, 0}) == bf16(260));
  CHECK(run("fma.rn.bf16x2", {seven, thirty_seven, bf16(0x1p-120f)}) == bf16(260));
  CHECK(run("fma.rn.bf16x2", {seven, thirty_seven, bf16(-0x1p-120f)}) == bf16(258));
  // A product by -0, which keeps the sign of zeros.
  CHECK(run("fma.rn.bf16x2", {0x00008000, 0x3f803f80, 0x80008000}) == 0x00008000);
}

TEST_CASE("max and min skip a NaN, unless .NaN, and order the zeros") {
  const std::uint64_t zero = bits(0.0f), minus_zero = bits(-0.0f), one = bits(1.0f),
                      nan = bits(kNan);
  CHECK(run("max.f32", {zero, minus_zero}) == zero);
  CHECK(run("max.f32", {minus_zero, zero}) == zero);
  CHECK(run("min.f32", {zero, minus_zero}) == minus_zero);
  CHECK(run("min.f32", {minus_zero, zero}) == minus_zero);
  CHECK(run("max.f32", {nan, one}) == one);
  CHECK(run("min.f32", {one, nan}) == one);
  CHECK(run("max.f32", {nan, nan}) == 0x7fffffff);
  CHECK(run("max.NaN.f32", {nan, one}) == 0x7fffffff);
  CHECK(run("min.NaN.f32", {one, nan}) == 0x7fffffff);
  CHECK(run("max.f32", {bits(-kInfinity), bits(-5.0f)}) == bits(-5.0f));
  CHECK(run("min.f32", {bits(0x1p-149f), bits(0x1p-148f)}) == bits(0x1p-149f));
  CHECK(run("max.f16x2", {0x7e003c00, 0x3c00bc00}) == 0x3c003c00);
  CHECK(run("max.NaN.f16x2", {0x7e003c00, 0x3c00bc00}) == 0x7fff3c00);
  CHECK(run("min.bf16x2", {0x80003f80, 0x0000ff80}) == 0x8000ff80);
  CHECK(run("max.NaN.bf16x2", {0xffc10000, 0x3f808000}) == 0x7fff0000);
  CHECK(run("abs.f16x2", {0xbc008000}) == 0x3c000000);
  CHECK(run("neg.bf16x2", {0x3f808000}) == 0xbf800000);
  CHECK(run("abs.f32", {minus_zero}) == zero);
  CHECK(run("neg.f32", {one}) == bits(-1.0f));
}

TEST_CASE("set fills the halves whose comparison holds") {
  const float values[] = {0.0f, -0.0f, 1.0f, -1.0f, 0x1p-24f, kInfinity, -kInfinity, kNan};
  using Compare = bool (*)(float, float);
  const std::pair<std::string, Compare> ordered[] = {
      {"eq", [](float a, float b) { return a == b; }},
      {"ne", [](float a, float b) { return a < b || a > b; }},
      {"lt", [](float a, float b) { return a < b; }},
      {"le", [](float a, float b) { return a <= b; }},
      {"gt", [](float a, float b) { return a > b; }},
      {"ge", [](float a, float b) { return a >= b; }},
      {"num", [](float a, float b) { return !std::isunordered(a, b); }},
  };
  for (const std::string type : {"f16x2", "bf16x2"}) {
    const auto code = [&](float value) {
      return run(get(type == "f16x2" ? "cvt.rn.f16.f32" : "cvt.rn.bf16.f32"), {bits(value)});
    };
    for (float a : values) {
      for (float b : values) {
        for (const auto& [name, compare] : ordered) {
          INFO(name << " " << type << " " << a << " " << b);
          const std::uint64_t low = compare(a, b) ? 0xffff : 0, high = compare(b, a) ? 0xffff : 0;
          CHECK(run("set." + name + ".u32." + type,
                    {code(b) << 16 | code(a), code(a) << 16 | code(b)}) == (high << 16 | low));
          const bool or_unordered = compare(a, b) || std::isunordered(a, b);
          const std::string unordered = name == "num" ? "nan" : name + "u";
          const bool expected = name == "num" ? std::isunordered(a, b) : or_unordered;
          CHECK(run("set." + unordered + ".u32." + type, {code(a), code(b)}) ==
                ((expected ? 0xffffu : 0u) |
                 (run("set." + unordered + ".u32." + type, {0, 0}) & 0xffff0000u)));
        }
      }
    }
  }
  CHECK(run("set.eq.u32.f16x2", {0x3c003c00, 0x3c00bc00}) == 0xffff0000);
}

namespace {

/// Where an element of a fragment lies, as the PTX ISA writes it for each shape.
struct Place {
  int row, col;
};

/// Element `i` of a lane's part of a, Rows x K with elements of 16 or 8 bits.
Place place_in_a(int lane, int i, int rows, int k, int bits_each) {
  const int group = lane >> 2, thread = lane % 4;
  if (rows == 8) return {group, thread * 4 + i};  // m8n8k16
  if (bits_each == 16 && k == 8) return {i < 2 ? group : group + 8, thread * 2 + (i & 1)};
  if (bits_each == 16)  // m16n8k16
    return {i < 2 || (4 <= i && i < 6) ? group : group + 8,
            thread * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
  if (k == 16) return {i < 4 ? group : group + 8, thread * 4 + (i & 3)};  // m16n8k16, 8 bits
  return {i < 4 || (8 <= i && i < 12) ? group : group + 8,
          thread * 4 + (i & 3) + (i >= 8 ? 16 : 0)};  // m16n8k32
}

/// Element `i` of a lane's part of b, K x 8.
Place place_in_b(int lane, int i, int bits_each) {
  const int group = lane >> 2, thread = lane % 4;
  if (bits_each == 16) return {thread * 2 + (i & 1) + (i >= 2 ? 8 : 0), group};
  return {thread * 4 + (i & 3) + (i >= 4 ? 16 : 0), group};
}

Place place_in_c(int lane, int i) {
  return {i < 2 ? lane >> 2 : (lane >> 2) + 8, (lane % 4) * 2 + (i & 1)};
}

struct Shape {
  int rows, k, bits_each;
  std::string a, b;
};

/// "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32".
Shape shape_of(std::string_view opcode) {
  Shape shape;
  shape.rows = opcode.find(".m8n8") != std::string_view::npos ? 8 : 16;
  const auto k_at = opcode.find("n8k") + 3;
  shape.k = std::stoi(std::string(opcode.substr(k_at, opcode.find('.', k_at) - k_at)));
  std::vector<std::string> parts(1);
  for (char c : opcode) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  shape.b = parts[parts.size() - 2];
  shape.a = parts[parts.size() - 3];
  shape.bits_each = shape.a == "f16" || shape.a == "bf16" ? 16 : 8;
  return shape;
}

/// The code of a small whole number in an element type.
std::uint64_t whole_number(const std::string& type, int value) {
  const auto magnitude = static_cast<double>(std::abs(value));
  if (type == "f16") return half_bits(static_cast<Half>(value));
  if (type == "bf16") return bits(static_cast<float>(value)) >> 16;
  if (type == "e4m3" || type == "e5m2")
    return static_cast<std::uint64_t>((type == "e4m3" ? kE4m3 : kE5m2).nearest(magnitude)) |
           (value < 0 ? 0x80u : 0u);
  return static_cast<std::uint8_t>(value);
}

}  // namespace

TEST_CASE("movmatrix exchanges rows and columns") {
  const PtxInstruction* entry = find_ptx_instruction("movmatrix.sync.aligned.m8n8.trans.b16");
  REQUIRE(entry != nullptr);
  // Element (row, col) is 8 row + col; lane 4 row + place has columns 2 place and the next.
  std::uint64_t operands[32][1], results[32][1];
  const std::uint64_t* operand_rows[32];
  std::uint64_t* result_rows[32];
  for (std::uint64_t lane = 0; lane < 32; ++lane) {
    operands[lane][0] = 2 * lane | (2 * lane + 1) << 16;
    operand_rows[lane] = operands[lane];
    result_rows[lane] = results[lane];
  }
  entry->run_warp(result_rows, operand_rows);
  for (std::uint64_t lane = 0; lane < 32; ++lane) {
    const std::uint64_t row = lane / 4, col = lane % 4 * 2;
    CHECK(results[lane][0] == ((8 * col + row) | (8 * (col + 1) + row) << 16));
  }
}

TEST_CASE("wgmma multiplies by rows of swizzled shared memory as the PTX ISA says") {
  // Rows of b^T of 128 bytes; 16-byte places exchanged by the row, as cute's Swizzle<3, 4, 3>.
  constexpr std::uint64_t kDescriptor = 0x4000004000010000ull;
  CHECK(is_simulated_descriptor(kDescriptor));
  CHECK_FALSE(is_simulated_descriptor(kDescriptor & 0x3fffffffffffffffull));
  CHECK(matrix_place(kDescriptor, 0, 0) == 0);
  CHECK(matrix_place(kDescriptor, 0, 1) == 16);
  CHECK(matrix_place(kDescriptor, 3, 0) == 3 * 128 + 3 * 16);
  CHECK(matrix_place(kDescriptor, 9, 1) == 1024 + 128);            // place 1 xor row 1
  CHECK(matrix_place(kDescriptor + 2, 5, 0) == 5 * 128 + 7 * 16);  // 32 bytes on: place 2 xor row 5
  const PtxInstruction* entry =
      find_ptx_instruction("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16");
  REQUIRE(entry != nullptr);
  // a: row r has r + 1 in column r, else 0; b^T: row 0 has k in column k, row n 16 n in each.
  std::vector<std::byte> shared(1024);
  const auto bf16 = [](int value) {
    return static_cast<std::uint16_t>(bits(static_cast<float>(value)) >> 16);
  };
  for (int n = 0; n < 8; ++n) {
    for (int k = 0; k < 16; ++k) {
      const std::uint16_t code = bf16(n == 0 ? k : 16 * n);
      std::memcpy(shared.data() + matrix_place(kDescriptor, n, k / 8) + 2 * (k % 8), &code, 2);
    }
  }
  std::uint64_t operands[32][14] = {}, results[32][4] = {};
  const std::uint64_t* operand_rows[32];
  std::uint64_t* result_rows[32];
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      operands[lane][i] = bits(1000.0f);  // d before
      for (int e = 0; e < 2; ++e) {
        const int row = lane / 4 + 8 * (i % 2), col = 2 * (lane % 4) + 8 * (i / 2) + e;
        if (row == col) operands[lane][4 + i] |= std::uint64_t{bf16(row + 1)} << (16 * e);
      }
    }
    operands[lane][8] = kDescriptor;
    operand_rows[lane] = operands[lane];
    result_rows[lane] = results[lane];
  }
  for (const std::uint64_t adds : {1u, 0u}) {
    for (auto& own : operands) own[9] = adds;
    warpgroup_product(entry->memory, result_rows, operand_rows, shared.data());
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, n = 2 * (lane % 4) + i % 2;
        const int want = (row + 1) * (n == 0 ? row : 16 * n) + (adds != 0 ? 1000 : 0);
        CHECK(results[lane][i] == bits(static_cast<float>(want)));
      }
    }
  }
}

TEST_CASE("mma multiplies matrices laid out over the lanes as the PTX ISA says") {
  std::mt19937 random(5);
  int shapes = 0;
  for (const PtxInstruction& entry : all_ptx_instructions()) {
    if (!entry.opcode.starts_with("mma.")) continue;
    INFO(entry.opcode);
    ++shapes;
    const Shape shape = shape_of(entry.opcode);
    const bool is_float = entry.result_registers[0] == 'f';
    const int elements = 32 / shape.bits_each;
    const int a_registers = shape.rows * shape.k / 32 / elements;
    const int b_registers = 8 * shape.k / 32 / elements;
    REQUIRE(entry.results == shape.rows * 8 / 32);
    REQUIRE(entry.operands == a_registers + b_registers + entry.results);

    // Whole numbers that every type holds.
    const auto draw = [&](const std::string& type) {
      const int value = static_cast<int>(random() % 5);
      return type[0] == 'u' ? value : value - 2;
    };
    int a[16][32], b[32][8], c[16][8];
    for (auto& row : a)
      for (int& value : row) value = draw(shape.a);
    for (auto& row : b)
      for (int& value : row) value = draw(shape.b);
    for (auto& row : c)
      for (int& value : row) value = static_cast<int>(random() % 2001) - 1000;

    std::uint64_t operands[32][12] = {}, results[32][4] = {};
    const std::uint64_t* operand_rows[32];
    std::uint64_t* result_rows[32];
    for (int lane = 0; lane < 32; ++lane) {
      operand_rows[lane] = operands[lane];
      result_rows[lane] = results[lane];
      for (int i = 0; i < a_registers * elements; ++i) {
        const Place at = place_in_a(lane, i, shape.rows, shape.k, shape.bits_each);
        operands[lane][i / elements] |= whole_number(shape.a, a[at.row][at.col])
                                        << (shape.bits_each * (i % elements));
      }
      for (int i = 0; i < b_registers * elements; ++i) {
        const Place at = place_in_b(lane, i, shape.bits_each);
        operands[lane][a_registers + i / elements] |= whole_number(shape.b, b[at.row][at.col])
                                                      << (shape.bits_each * (i % elements));
      }
      for (int i = 0; i < entry.results; ++i) {
        const Place at = place_in_c(lane, i);
        const int value = c[at.row][at.col];
        operands[lane][a_registers + b_registers + i] =
            is_float ? bits(static_cast<float>(value)) : static_cast<std::uint32_t>(value);
      }
    }
    entry.run_warp(result_rows, operand_rows);

    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < entry.results; ++i) {
        const Place at = place_in_c(lane, i);
        int sum = c[at.row][at.col];
        for (int k = 0; k < shape.k; ++k) sum += a[at.row][k] * b[k][at.col];
        REQUIRE(results[lane][i] ==
                (is_float ? bits(static_cast<float>(sum)) : static_cast<std::uint32_t>(sum)));
      }
    }
  }
  CHECK(shapes == 20);
}

TEST_CASE("mma sums in double and rounds once, and keeps NaN and infinity") {
  const PtxInstruction& entry = get("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32");
  std::uint64_t operands[32][7] = {}, results[32][4] = {};
  const std::uint64_t* operand_rows[32];
  std::uint64_t* result_rows[32];
  for (int lane = 0; lane < 32; ++lane) {
    operand_rows[lane] = operands[lane];
    result_rows[lane] = results[lane];
  }
  // Row 0 of a is {1, 1, ...}, held by lanes 0 to 3; column 0 of b by the same lanes.
  for (int lane = 0; lane < 4; ++lane) operands[lane][0] = 0x3c003c00;
  operands[0][2] = 0x0c003c00;     // b[0][0] = 1, b[1][0] = 2^-12
  operands[1][2] = 0x0c000c00;     // two more 2^-12
  operands[0][3] = bits(0x1p12f);  // c[0][0]
  entry.run_warp(result_rows, operand_rows);
  CHECK(results[0][0] == bits(0x1.001004p12f));  // 4097 and 1.5 units in the last place
  operands[3][0] = 0x7c000000;
  entry.run_warp(result_rows, operand_rows);
  CHECK(results[0][0] == 0x7fffffff);  // infinity * 0
  operands[3][2] = 0x3c000000;
  entry.run_warp(result_rows, operand_rows);
  CHECK(results[0][0] == bits(kInfinity));
  CHECK(results[4][0] == 0);
}

TEST_CASE("integer mma wraps modulo 2^32") {
  const PtxInstruction& entry = get("mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32");
  std::uint64_t operands[32][4] = {}, results[32][2] = {};
  const std::uint64_t* operand_rows[32];
  std::uint64_t* result_rows[32];
  for (int lane = 0; lane < 32; ++lane) {
    operand_rows[lane] = operands[lane];
    result_rows[lane] = results[lane];
    operands[lane][0] = 0x80808080;
    operands[lane][1] = 0xffffffff;
    operands[lane][2] = 0x80000000;
  }
  entry.run_warp(result_rows, operand_rows);
  CHECK(results[17][0] == static_cast<std::uint32_t>(0x80000000u - 16u * 128u * 255u));
  CHECK(results[17][1] == static_cast<std::uint32_t>(-16 * 128 * 255));
}

TEST_CASE("ldmatrix gives each lane two neighbours of a row, or of a column") {
  std::uint16_t matrix[8][8];
  const std::byte* rows[8];
  for (int row = 0; row < 8; ++row) {
    rows[row] = reinterpret_cast<const std::byte*>(matrix[row]);
    for (int col = 0; col < 8; ++col) matrix[row][col] = static_cast<std::uint16_t>(row * 16 + col);
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto at = [](int row, int col) { return static_cast<std::uint32_t>(row * 16 + col); };
    const int major = lane / 4, minor = lane % 4 * 2;
    CHECK(ldmatrix_register(rows, lane, false) == (at(major, minor + 1) << 16 | at(major, minor)));
    CHECK(ldmatrix_register(rows, lane, true) == (at(minor + 1, major) << 16 | at(minor, major)));
  }
}

}  // namespace ktjit::runtime
