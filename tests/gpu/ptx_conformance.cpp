#include "tests/gpu/ptx_conformance.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <numeric>
#include <random>
#include <vector>

#include "tests/gpu/ptx_kernels.h"

namespace ktjit::test {
namespace {

using runtime::PtxInstruction;
using runtime::PtxMemoryAction;
using runtime::PtxType;

using Slots = std::vector<std::uint64_t>;  // [registers, n]
using Random = std::mt19937_64;

constexpr std::size_t kMemoryThreads = 4096;
constexpr int kLanes = 32;
constexpr std::byte kUntouched{0xee};

float f32_from(std::uint64_t slot) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(slot));
}
std::uint64_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

// ---- operands ----

std::uint64_t draw_f32(Random& random) {
  const auto any = static_cast<std::uint32_t>(random());
  switch (random() % 8) {
    case 0:
      return (any & 0x80ffffffu) | 0x3f000000u;  // near 1, so that sums cancel
    case 1:
      return (any & 0x8fffffffu) + 0x38000000u;  // where 8-bit floats and f16 lie
    case 2:
      return any & 0x81ffffffu;  // tiny: products are subnormal
    case 3: {  // on, and beside, what lies between two f16, bf16 or shorter floats
      const std::uint32_t kept = any & (0xffffffffu << (12 + any % 12));
      const std::uint32_t low[] = {0u, 1u, 0xffffffffu};
      return kept + low[random() % 3];
    }
    case 4: {
      const std::uint32_t special[] = {0x00000000u, 0x00000001u, 0x007fffffu, 0x00800000u,
                                       0x3f800000u, 0x477fe000u, 0x477fefffu, 0x477ff000u,
                                       0x7f7fffffu, 0x7f800000u, 0x7f800001u, 0x7fc00000u,
                                       0x7fffffffu, 0x43e00000u, 0x43e80000u, 0x47600000u};
      return special[random() % 16] | (any & 0x80000000u);
    }
    default:
      return any;
  }
}

std::uint64_t draw_16_bits(Random& random, PtxType type) {
  const std::uint64_t any = random() & 0xffffu;
  const bool is_half = type == PtxType::kF16 || type == PtxType::kF16x2;
  if (random() % 4 == 0) {  // special values
    const std::uint64_t half[] = {0x0000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0x7c00, 0x7e00};
    const std::uint64_t bf16[] = {0x0000, 0x0001, 0x007f, 0x0080, 0x3f80, 0x7f7f, 0x7f80, 0x7fc0};
    return (is_half ? half : bf16)[random() % 8] | (any & 0x8000u);
  }
  if (random() % 2 == 0)  // near 1
    return is_half ? (any & 0x8fffu) + 0x3000u : (any & 0x83ffu) + 0x3e00u;
  return any;
}

std::uint64_t draw(Random& random, PtxType type, char letter) {
  switch (letter) {
    case 'n':
    case 'b':
      return random() & 0xffu;
    case 'l':
      return random();
    case 'f':
      return draw_f32(random);
    case 'h':
      return draw_16_bits(random, type);
  }
  if (type == PtxType::kF16x2 || type == PtxType::kBf16x2)
    return draw_16_bits(random, type) << 16 | draw_16_bits(random, type);
  if (random() % 8 == 0) {
    const std::uint64_t special[] = {0, 0xffffffff, 0x80808080, 0x7f7f7f7f, 0x80000000, 0x7fffffff};
    return special[random() % 6];
  }
  return random() & 0xffffffffu;
}

bool is_one_short_register(const PtxInstruction& entry) {
  return entry.operand_registers == "h" || entry.operand_registers == "b";
}

Slots draw_thread_operands(const PtxInstruction& entry, std::size_t n, Random& random) {
  Slots operands(static_cast<std::size_t>(entry.operands) * n);
  for (std::size_t j = 0; j < static_cast<std::size_t>(entry.operands); ++j)
    for (std::size_t i = 0; i < n; ++i)
      operands[j * n + i] = draw(random, entry.operand_type, entry.operand_registers[j]);
  if (is_one_short_register(entry)) {
    const std::uint64_t mask = entry.operand_registers == "b" ? 0xffu : 0xffffu;
    for (std::size_t i = 0; i < n; ++i) operands[i] = i & mask;
  } else if (entry.operand_registers[0] == 'r') {
    const bool are_bytes = entry.opcode.starts_with("dp4a");
    for (std::size_t i = 0; i < std::min<std::size_t>(n, 0x10000); ++i) {
      if (are_bytes) {
        operands[i] = (operands[i] & ~0xffull) | (i & 0xff);
        operands[n + i] = (operands[n + i] & ~0xffull) | i >> 8;
      } else {  // every low half, then every high half
        operands[i] = (operands[i] & ~0xffffull) | i;
        if (0x10000 + i < n) operands[0x10000 + i] = (operands[0x10000 + i] & 0xffffull) | i << 16;
      }
    }
  }
  return operands;
}

/// What a product's operands are made of.
enum class ProductCase { kWholeNumbers, kModerate, kAnyFinite, kSpecial };
ProductCase product_case(std::size_t problem) { return static_cast<ProductCase>(problem % 4); }

/// The codes of an element type of mma.
struct ElementType {
  std::string_view name;
  int bits;
  bool is_float;
  std::uint64_t infinity;  // magnitudes from here on are infinity or NaN
  std::uint64_t nan;
  std::uint64_t moderate;  // added to `spread` random low bits: about 2^-4 to 2^4
  std::uint64_t spread;
  std::uint64_t largest;     // magnitude drawn: its products and their sums stay finite in f32
  std::uint64_t numbers[3];  // magnitudes 0, 1, 2
};

constexpr ElementType kElementTypes[] = {
    {"f16", 16, true, 0x7c00, 0x7e00, 0x2c00, 0x1fff, 0x7bff, {0, 0x3c00, 0x4000}},
    {"bf16", 16, true, 0x7f80, 0x7fc0, 0x3d80, 0x03ff, 0x5dff, {0, 0x3f80, 0x4000}},
    {"e4m3", 8, true, 0x7f, 0x7f, 0x18, 0x3f, 0x7e, {0, 0x38, 0x40}},
    {"e5m2", 8, true, 0x7c, 0x7e, 0x2c, 0x1f, 0x7b, {0, 0x3c, 0x40}},
    {"s8", 8, false, 0, 0, 0, 0, 0xff, {0, 1, 2}},
    {"u8", 8, false, 0, 0, 0, 0, 0xff, {0, 1, 2}},
};

struct ProductTypes {
  const ElementType* a;
  const ElementType* b;
  std::size_t a_registers, b_registers;
};

/// Of "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32".
ProductTypes product_types(const PtxInstruction& entry) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= entry.opcode.size();) {
    const std::size_t end = std::min(entry.opcode.find('.', begin), entry.opcode.size());
    parts.push_back(entry.opcode.substr(begin, end - begin));
    begin = end + 1;
  }
  const auto find = [](std::string_view name) {
    return std::find_if(std::begin(kElementTypes), std::end(kElementTypes),
                        [&](const ElementType& type) { return type.name == name; });
  };
  const std::size_t inputs = static_cast<std::size_t>(entry.operands - entry.results);
  const std::size_t b_registers =
      entry.opcode.find(".m16n8") != std::string_view::npos ? inputs / 3 : inputs / 2;
  return {find(parts[parts.size() - 3]), find(parts[parts.size() - 2]), inputs - b_registers,
          b_registers};
}

std::uint64_t draw_element(Random& random, const ElementType& type, ProductCase kind) {
  const std::uint64_t sign = (random() & 1u) << (type.bits - 1);
  if (!type.is_float) return random() & 0xffu;
  switch (kind) {
    case ProductCase::kWholeNumbers:
      return type.numbers[random() % 3] | sign;
    case ProductCase::kModerate:
      return (type.moderate + (random() & type.spread)) | sign;
    case ProductCase::kAnyFinite:
      break;
    case ProductCase::kSpecial:
      if (random() % 64 == 0) return (random() % 2 == 0 ? type.infinity : type.nan) | sign;
  }
  return random() % (type.largest + 1) | sign;
}

std::uint64_t draw_sum(Random& random, bool is_float, ProductCase kind) {
  if (!is_float) return random() & 0xffffffffu;
  const auto any = static_cast<std::uint32_t>(random());
  if (kind == ProductCase::kWholeNumbers) return bits(static_cast<float>(any % 2001) - 1000.0f);
  if (kind == ProductCase::kSpecial && any % 64 == 0) return 0xff800000u;
  return (any & 0x87ffffffu) + 0x3c000000u;  // 2^-7 to 2^8
}

Slots draw_product_operands(const PtxInstruction& entry, std::size_t n, Random& random) {
  const ProductTypes types = product_types(entry);
  Slots operands(static_cast<std::size_t>(entry.operands) * n);
  for (std::size_t j = 0; j < static_cast<std::size_t>(entry.operands); ++j) {
    for (std::size_t i = 0; i < n; ++i) {
      const ProductCase kind = product_case(i / kLanes);
      std::uint64_t& slot = operands[j * n + i];
      if (j >= types.a_registers + types.b_registers) {
        slot = draw_sum(random, types.a->is_float, kind);
        continue;
      }
      const ElementType& type = j < types.a_registers ? *types.a : *types.b;
      for (int at = 0; at < 32; at += type.bits) slot |= draw_element(random, type, kind) << at;
    }
  }
  return operands;
}

// ---- the model ----

/// results[k * n + i], of operands[j * n + i].
Slots run_model(const PtxInstruction& entry, const Slots& operands, std::size_t n) {
  const auto operand_count = static_cast<std::size_t>(entry.operands);
  const auto result_count = static_cast<std::size_t>(entry.results);
  const std::size_t lanes = entry.kind == PtxInstruction::Kind::kWarp ? kLanes : 1;
  Slots results(result_count * n);
  std::uint64_t in[kLanes][16], out[kLanes][4];
  const std::uint64_t* in_rows[kLanes];
  std::uint64_t* out_rows[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    in_rows[lane] = in[lane];
    out_rows[lane] = out[lane];
  }
  for (std::size_t i = 0; i < n; i += lanes) {
    for (std::size_t lane = 0; lane < lanes; ++lane)
      for (std::size_t j = 0; j < operand_count; ++j) in[lane][j] = operands[j * n + i + lane];
    if (entry.run != nullptr)
      entry.run(out[0], in[0]);
    else
      entry.run_warp(out_rows, in_rows);
    for (std::size_t lane = 0; lane < lanes; ++lane)
      for (std::size_t k = 0; k < result_count; ++k) results[k * n + i + lane] = out[lane][k];
  }
  return results;
}

/// The sum of the magnitudes of all addends, for each result: what the model makes of operands
/// without their signs.
Slots magnitude_sums(const PtxInstruction& entry, Slots operands, std::size_t n) {
  const ProductTypes types = product_types(entry);
  for (std::size_t j = 0; j < static_cast<std::size_t>(entry.operands); ++j) {
    const ElementType& type = j < types.a_registers ? *types.a : *types.b;
    const bool is_sum = j >= types.a_registers + types.b_registers;
    const std::uint64_t mask = is_sum ? 0x7fffffff : type.bits == 16 ? 0x7fff7fff : 0x7f7f7f7f;
    for (std::size_t i = 0; i < n; ++i) operands[j * n + i] &= mask;
  }
  return run_model(entry, operands, n);
}

bool is_nan(PtxType type, std::uint64_t code) {
  switch (type) {
    case PtxType::kF32:
      return (code & 0x7fffffffu) > 0x7f800000u;
    case PtxType::kF16:
    case PtxType::kF16x2:
      return (code & 0x7fffu) > 0x7c00u;
    case PtxType::kBf16:
    case PtxType::kBf16x2:
      return (code & 0x7fffu) > 0x7f80u;
    case PtxType::kBits:
      break;
  }
  return false;
}

/// Equal, or, where PTX leaves the NaN open, both NaN; pairs half by half.
bool is_same(const PtxInstruction& entry, std::uint64_t model, std::uint64_t device) {
  if (model == device) return true;
  if (!entry.any_nan) return false;
  const PtxType type = entry.result_type;
  if (type != PtxType::kF16x2 && type != PtxType::kBf16x2)
    return is_nan(type, model) && is_nan(type, device);
  for (int at = 0; at < 32; at += 16) {
    const std::uint64_t ours = model >> at & 0xffffu, theirs = device >> at & 0xffffu;
    if (ours != theirs && !(is_nan(type, ours) && is_nan(type, theirs))) return false;
  }
  return true;
}

bool is_within(double bound, std::uint64_t model, std::uint64_t device) {
  const double difference = double{f32_from(model)} - double{f32_from(device)};
  return std::fabs(difference) <= bound;
}

// ---- the device ----

std::unique_ptr<runtime::Kernel> load(const std::string& source, const PtxPlace& place) {
  return place.device.load(
      place.compiler.compile({source, kPtxKernelName, place.target, place.kind}));
}

LaunchGrid grid_of(std::size_t threads) {
  LaunchGrid grid;
  grid.x = static_cast<unsigned>(threads / kPtxThreads);
  grid.threads = kPtxThreads;
  return grid;
}

Slots run_on_device(const PtxInstruction& entry, const Slots& operands, std::size_t n,
                    const PtxPlace& place) {
  const auto kernel = load(make_register_kernel(entry), place);
  runtime::Device& device = place.device;
  const auto stream = device.make_stream();
  Slots results(static_cast<std::size_t>(entry.results) * n);
  const auto in = device.allocate(std::max<std::size_t>(operands.size() * 8, 8));
  const auto out = device.allocate(results.size() * 8);
  device.upload(*stream, std::as_bytes(std::span(operands)), *in, 0);
  device.fill(*stream, *out, kUntouched);
  const std::uint64_t arguments[] = {in->address(), out->address(), n};
  kernel->launch(*stream, grid_of(n), arguments);
  device.download(*stream, *out, 0, std::as_writable_bytes(std::span(results)));
  stream->synchronize();
  return results;
}

PtxCheckResult check_registers(const PtxInstruction& entry, const PtxPlace& place) {
  Random random(std::hash<std::string_view>()(entry.opcode));
  const bool is_product = entry.kind == PtxInstruction::Kind::kWarp;
  const std::size_t n = is_one_short_register(entry) ? 0x10000 : place.executions;
  const Slots operands =
      is_product ? draw_product_operands(entry, n, random) : draw_thread_operands(entry, n, random);
  const Slots expected = run_model(entry, operands, n);
  const Slots magnitudes = entry.sum_error > 0 ? magnitude_sums(entry, operands, n) : Slots();
  const Slots actual = run_on_device(entry, operands, n, place);

  PtxCheckResult check;
  for (std::size_t at = 0; at < expected.size(); ++at) {
    ++check.compared;
    const std::size_t i = at % n;
    if (is_same(entry, expected[at], actual[at])) continue;
    double bound = 0;
    if (entry.sum_error > 0 && product_case(i / kLanes) != ProductCase::kWholeNumbers &&
        std::isfinite(f32_from(expected[at]))) {
      bound = entry.sum_error * double{f32_from(magnitudes[at])};
      if (is_within(bound, expected[at], actual[at])) continue;
    }
    if (check.wrong++ > 0) continue;
    check.first_problem = fmt::format("thread {}, result {}: {:#x}, the model gives {:#x}", i,
                                      at / n, actual[at], expected[at]);
    if (bound > 0) check.first_problem += fmt::format(", bound {}", bound);
    for (std::size_t j = 0; j < static_cast<std::size_t>(entry.operands); ++j)
      check.first_problem +=
          fmt::format("{} {:#x}", j == 0 ? "; operands" : ",", operands[j * n + i]);
  }  // at: of the results
  return check;
}

/// What a memory kernel's `out` must hold, see make_memory_kernel.
std::vector<std::byte> expected_memory(const PtxInstruction& entry, int copy_bytes,
                                       const std::vector<std::byte>& in, const Slots& parameter) {
  std::vector<std::byte> out(in.size(), kUntouched);
  for (std::size_t i = 0; i < parameter.size(); ++i) {
    const std::byte* from = in.data() + i * kPtxLaneBytes;
    std::byte* to = out.data() + i * kPtxLaneBytes;
    switch (entry.memory.action) {
      case PtxMemoryAction::kLoad:
      case PtxMemoryAction::kStore:
        std::copy_n(from, entry.memory.registers * entry.memory.bytes_per_register, to);
        break;
      case PtxMemoryAction::kLoadMatrix: {
        const std::size_t warp = i / kLanes * kLanes;
        for (std::size_t m = 0; m < static_cast<std::size_t>(entry.memory.registers); ++m) {
          const std::byte* rows[8];
          for (std::size_t row = 0; row < 8; ++row)
            rows[row] = in.data() + (warp + parameter[warp + 8 * m + row]) * kPtxLaneBytes;
          const std::uint32_t value = runtime::ldmatrix_register(rows, static_cast<int>(i % kLanes),
                                                                 entry.memory.transposed);
          std::memcpy(to + 4 * m, &value, sizeof value);
        }
        break;
      }
      case PtxMemoryAction::kCopyAsync:
        std::fill_n(to, copy_bytes, std::byte{0});
        std::copy_n(from, entry.operands == 4 ? static_cast<int>(parameter[i]) : copy_bytes, to);
        break;
      case PtxMemoryAction::kCommitCopies:
      case PtxMemoryAction::kWaitForCopies:
      case PtxMemoryAction::kWaitForAll:
      case PtxMemoryAction::kNoEffect:
        std::copy_n(from, kPtxLaneBytes, to);
        break;
      case PtxMemoryAction::kToSharedAddress: {
        const std::uint64_t distance = i % kPtxThreads * kPtxLaneBytes;
        std::memcpy(to, &distance, sizeof distance);
        break;
      }
      case PtxMemoryAction::kInitBarrier:
      case PtxMemoryAction::kArrive:
      case PtxMemoryAction::kArriveAfterCopies:
      case PtxMemoryAction::kExpectBytes:
      case PtxMemoryAction::kCopyBox:
      case PtxMemoryAction::kWaitForPhase:
      case PtxMemoryAction::kWarpgroupProduct:
      case PtxMemoryAction::kNone:
        break;
    }
  }  // i: of the threads
  return out;
}

void check_memory(const PtxInstruction& entry, int copy_bytes, const PtxPlace& place,
                  PtxCheckResult& check) {
  Random random(std::hash<std::string_view>()(entry.opcode));
  const std::size_t n = kMemoryThreads;
  std::vector<std::byte> in(n * kPtxLaneBytes);
  for (std::byte& byte : in) byte = static_cast<std::byte>(random());
  Slots parameter(n);
  const bool copies = entry.memory.action == PtxMemoryAction::kCopyAsync;
  for (std::size_t warp = 0; warp < n; warp += kLanes) {
    const auto of_warp = parameter.begin() + static_cast<std::ptrdiff_t>(warp);
    std::iota(of_warp, of_warp + kLanes, 0);
    std::shuffle(of_warp, of_warp + kLanes, random);
  }
  if (copies)
    for (std::uint64_t& bytes_to_read : parameter)
      bytes_to_read %= static_cast<std::uint64_t>(copy_bytes) + 1;

  const auto kernel = load(make_memory_kernel(entry, copy_bytes), place);
  runtime::Device& device = place.device;
  const auto stream = device.make_stream();
  const auto in_buffer = device.allocate(in.size());
  const auto parameter_buffer = device.allocate(n * 8);
  const auto out_buffer = device.allocate(in.size());
  device.upload(*stream, in, *in_buffer, 0);
  device.upload(*stream, std::as_bytes(std::span(parameter)), *parameter_buffer, 0);
  device.fill(*stream, *out_buffer, kUntouched);
  const std::uint64_t arguments[] = {in_buffer->address(), parameter_buffer->address(),
                                     out_buffer->address()};
  kernel->launch(*stream, grid_of(n), arguments);
  std::vector<std::byte> actual(in.size());
  device.download(*stream, *out_buffer, 0, actual);
  stream->synchronize();

  const std::vector<std::byte> expected = expected_memory(entry, copy_bytes, in, parameter);
  for (std::size_t at = 0; at < expected.size(); ++at) {
    ++check.compared;
    if (actual[at] == expected[at]) continue;
    if (check.wrong++ == 0)
      check.first_problem = fmt::format(
          "{} bytes a copy, thread {}, byte {} of what it wrote: {:#x}, expected {:#x}; parameter "
          "{}",
          copy_bytes, at / kPtxLaneBytes, at % kPtxLaneBytes, static_cast<int>(actual[at]),
          static_cast<int>(expected[at]), parameter[at / kPtxLaneBytes]);
  }
}

}  // namespace

PtxCheckResult check_ptx_instruction(const PtxInstruction& entry, const PtxPlace& place) {
  if (entry.kind != PtxInstruction::Kind::kMemory) return check_registers(entry, place);
  PtxCheckResult check;
  const bool has_sizes =
      entry.memory.action == PtxMemoryAction::kCopyAsync && !entry.memory.only_16_bytes;
  for (int copy_bytes : {4, 8, 16})
    if (has_sizes || copy_bytes == 16) check_memory(entry, copy_bytes, place, check);
  return check;
}

}  // namespace ktjit::test
