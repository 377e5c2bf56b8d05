// The quantised weights are made as blocks, not by quantising: codes and sub-scales are random
// bits, and the block's scale is chosen so that the decoded weights have the wanted deviation. Only
// integer and basic float arithmetic, so that every machine writes the same bytes.
#include "model/sample_weights.h"

#include <cmath>
#include <cstring>
#include <span>

#include "core/error.h"
#include "model/half_float.h"
#include "model/model.h"

namespace ktjit::model {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  /// In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// Mean 0, deviation 1, by the sum of twelve uniforms: never beyond 6.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

  std::byte byte() { return static_cast<std::byte>(next() >> 56); }

 private:
  std::uint64_t state_;
};

using Block = std::span<std::byte>;

template <typename T>
void store(Block block, std::size_t at, T value) {
  std::memcpy(block.subspan(at, sizeof value).data(), &value, sizeof value);
}

void fill_random(Block block, Random& random) {
  for (std::byte& byte : block) byte = random.byte();
}

void store_scale(Block block, std::size_t at, double scale) {
  store(block, at, to_half_bits(scale));
}

/// Fills one block whose decoded weights deviate by `deviation`. The divisor in each case is the
/// deviation of the weights at scale 1, from the moments of uniform codes and sub-scales.
void fill_block(FormatId format, Block block, double deviation, Random& random) {
  const double weight = deviation * random.normal();  // for the plain floats
  fill_random(block, random);
  // Blocks differ a little in their scale, as real ones do.
  const double scale = deviation * (0.75 + 0.5 * random.uniform());
  switch (format) {
    case FormatId::kF32:
      store(block, 0, static_cast<float>(weight));
      return;
    case FormatId::kF16:
      store(block, 0, to_half_bits(weight));
      return;
    case FormatId::kBF16:
      store(block, 0, to_bfloat16_bits(static_cast<float>(weight)));
      return;
    case FormatId::kQ8_0:
      store_scale(block, 0, scale / 73.9);
      return;  // codes -128..127
    case FormatId::kQ4_0:
      store_scale(block, 0, scale / 4.6);
      return;              // codes -8..7
    case FormatId::kQ4_K:  // scale 0..63 * code 0..15, minus minimum 0..63 * 7.5
      store_scale(block, 0, scale / 258);
      store_scale(block, 2, 7.5 * scale / 258);
      return;
    case FormatId::kQ5_K:  // scale 0..63 * code 0..31, minus minimum 0..63 * 15.5
      store_scale(block, 0, scale / 527);
      store_scale(block, 2, 15.5 * scale / 527);
      return;
    case FormatId::kQ6_K: {  // scale -32..31 * code -32..31
      constexpr std::size_t kScalesAt = 192;
      constexpr std::size_t kScaleAt = 208;
      for (std::byte& sub_scale : block.subspan(kScalesAt, kScaleAt - kScalesAt)) {
        // Two bits less than the format allows, or the f16 scale would be subnormal.
        sub_scale = static_cast<std::byte>((std::to_integer<int>(sub_scale) & 63) - 32);
      }
      store_scale(block, kScaleAt, scale / 342);
      return;
    }
    // An odd number for a sub-scale, below 16 in iq1 and 32 in the others, * an element of a codebook.
    case FormatId::kIQ1_S:
      store_scale(block, 0, scale / 7.2);
      return;
    case FormatId::kIQ1_M: {
      constexpr std::size_t kScalesAt = 48;  // the top nibbles of four words are the f16 scale
      const unsigned bits = to_half_bits(scale / 7.2);
      for (std::size_t word = 0; word < 4; ++word) {
        std::byte& top = block[kScalesAt + 2 * word + 1];
        top = (top & std::byte{15}) | static_cast<std::byte>((bits >> (4 * word) & 15) << 4);
      }
      return;
    }
    case FormatId::kIQ2_XXS:
    case FormatId::kIQ2_XS:
    case FormatId::kIQ2_S:
      store_scale(block, 0, scale / 55);  // eighths
      return;
    case FormatId::kIQ3_XXS:  // quarters
    case FormatId::kIQ3_S:
      store_scale(block, 0, scale / 141);
      return;
    case FormatId::kIQ4_XS: {  // scale -16..15 * a codebook of 16 values, deviation 68
      unsigned high_bits = 0;  // two for each of 8 sub-scales: 01 or 10
      for (int i = 0; i < 8; ++i) high_bits |= (random.next() >> 63 ? 1u : 2u) << (2 * i);
      store_scale(block, 0, scale / 628);
      store(block, 2, static_cast<std::uint16_t>(high_bits));
      return;
    }
    case FormatId::kGgmlMxfp4:  // the nearest power of two * 0 to 6, deviation 2.9
      block[0] = static_cast<std::byte>(127 + std::lround(std::log2(deviation / 2.9)));
      return;
    case FormatId::kF64:
      store(block, 0, weight);
      return;
    case FormatId::kI8:
    case FormatId::kI16:
    case FormatId::kI32:
    case FormatId::kI64:
      return;
    case FormatId::kQ4_1:
      store_scale(block, 0, scale / 4.6);
      store_scale(block, 2, -7.5 * scale / 4.6);
      return;  // codes 0..15
    case FormatId::kQ5_0:
      store_scale(block, 0, scale / 9.25);
      return;  // codes -16..15
    case FormatId::kQ5_1:
      store_scale(block, 0, scale / 9.23);
      store_scale(block, 2, -15.5 * scale / 9.23);
      return;  // codes 0..31
    case FormatId::kQ8_1: {
      constexpr std::size_t kCodesAt = 4;
      int sum = 0;
      for (std::byte code : block.subspan(kCodesAt)) sum += static_cast<std::int8_t>(code);
      store_scale(block, 0, scale / 73.9);
      store_scale(block, 2, sum * scale / 73.9);
      return;
    }
    case FormatId::kQ2_K:  // scale 0..15 * code 0..3, minus minimum 0..15 * 1.5
      store_scale(block, 80, scale / 13.9);
      store_scale(block, 82, 1.5 * scale / 13.9);
      return;
    case FormatId::kQ3_K:  // scale -32..31 * code -4..3
      store_scale(block, 108, scale / 43.3);
      return;
    case FormatId::kQ8_K: {  // f32 scale, 256 codes, their sums by 16
      constexpr std::size_t kCodesAt = 4, kSumsAt = 260, kSummed = 16;
      store(block, 0, static_cast<float>(scale / 73.9));
      for (std::size_t at = kCodesAt; at < kSumsAt; at += kSummed) {
        std::int16_t sum = 0;
        for (std::byte code : block.subspan(at, kSummed)) sum += static_cast<std::int8_t>(code);
        store(block, kSumsAt + (at - kCodesAt) / kSummed * sizeof sum, sum);
      }
      return;
    }
    case FormatId::kIQ4_NL:  // the codebook's deviation is 67
      store_scale(block, 0, scale / 67.4);
      return;
    case FormatId::kGgmlNvfp4:  // four e4m3 scales, below 2^-5 multiples of 2^-9
      for (std::byte& code : block.first(4)) {
        const double group_scale = deviation * (0.75 + 0.5 * random.uniform()) / 2.93;
        code = static_cast<std::byte>(static_cast<int>(group_scale * 0x1p+9 + 0.5));
      }
      return;
    case FormatId::
        kTQ1_0: {  // digits -1..1, as a fraction of 256 rounded up; the last bytes have four
      constexpr std::size_t kFiveDigits = 48, kScaleAt = 52;
      for (std::size_t at = 0; at < kScaleAt; ++at) {
        const unsigned first_four = static_cast<unsigned>(random.next() % 81);
        const unsigned fifth = at < kFiveDigits ? static_cast<unsigned>(random.next() % 3) : 0;
        block[at] = static_cast<std::byte>(((first_four * 3 + fifth) * 256 + 242) / 243);
      }
      store_scale(block, kScaleAt, scale / 0.816);
      return;
    }
    case FormatId::kTQ2_0: {  // codes -1..1, stored plus 1
      constexpr std::size_t kScaleAt = 64;
      for (std::byte& codes : block.first(kScaleAt)) {
        unsigned four = 0;
        for (int i = 0; i < 4; ++i) four = four << 2 | static_cast<unsigned>(random.next() % 3);
        codes = static_cast<std::byte>(four);
      }
      store_scale(block, kScaleAt, scale / 0.816);
      return;
    }
    case FormatId::kQ1_0:  // codes -1 and 1
      store_scale(block, 0, scale);
      return;
    case FormatId::kQ2_0:  // codes -1..2
      store_scale(block, 0, scale / 1.22);
      return;
    default:
      KTJIT_UNREACHABLE("a format that the sample model uses");
  }
}

std::uint64_t seed_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a: a tensor keeps its bytes when others come
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

double deviation_of(std::int64_t cols) { return 1 / std::sqrt(static_cast<double>(cols)); }

}  // namespace

std::vector<std::byte> make_sample_weights(std::string_view name, FormatId id, std::int64_t rows,
                                           std::int64_t cols) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows) * row_bytes(id, cols));
  Random random(seed_of(name));
  const auto block_bytes = static_cast<std::size_t>(get_format(id).block_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += block_bytes) {
    fill_block(id, std::span(bytes).subspan(at, block_bytes), deviation_of(cols), random);
  }
  return bytes;
}

std::vector<std::byte> make_sample_norm(std::string_view name, std::int64_t elements) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(elements) * sizeof(float));
  Random random(seed_of(name));
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(float)) {
    store(Block(bytes), at, static_cast<float>(1 + 0.1 * random.normal()));
  }
  return bytes;
}

std::vector<std::byte> make_sample_fp8(std::string_view name, std::int64_t rows,
                                       std::int64_t cols) {
  constexpr std::byte kMagnitude{0x7f};  // all of its bits set are NaN, whatever the sign
  std::vector<std::byte> codes(static_cast<std::size_t>(rows * cols));
  Random random(seed_of(name));
  for (std::byte& code : codes) {
    do {
      code = random.byte();
    } while ((code & kMagnitude) == kMagnitude);
  }
  return codes;
}

std::vector<std::byte> make_sample_fp8_scales(std::string_view name, std::int64_t rows,
                                              std::int64_t cols, std::int64_t weight_cols) {
  constexpr double kCodeDeviation = 100.06;  // of the 254 values that are no NaN, each as likely
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * cols) * sizeof(float));
  Random random(seed_of(name));
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(float)) {
    const double scale = deviation_of(weight_cols) / kCodeDeviation;
    store(Block(bytes), at, static_cast<float>(scale * (0.75 + 0.5 * random.uniform())));
  }
  return bytes;
}

}  // namespace ktjit::model
