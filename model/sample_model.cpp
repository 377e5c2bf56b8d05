// The quantised weights are made as blocks, not by quantising: codes and sub-scales are random
// bits, and the block's scale is chosen so that the decoded weights have the wanted deviation. Only
// integer and basic float arithmetic, so that every machine writes the same bytes.
#include "model/sample_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "model/gguf_writer.h"

namespace ktjit::model {
namespace {

constexpr std::int64_t kEmbedding = 256;
constexpr std::int64_t kFeedForward = 512;
constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kHeadsKv = 2;
constexpr std::int64_t kKeyValueRows = kEmbedding / kHeads * kHeadsKv;
constexpr std::int64_t kVocabulary = 1001;  // odd on purpose: no tile divides it
constexpr std::uint32_t kContext = 512;
constexpr std::uint32_t kLayers = 2;

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

/// Nearest f16, ties to even. REQUIRES: |value| < 65504.
std::uint16_t to_f16_bits(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);        // |value| = m * 2^exponent, m in [0.5, 1)
  exponent = std::max(exponent, -13);  // below 2^-14 the format is subnormal
  const double mantissa = std::nearbyint(std::ldexp(std::abs(value), 11 - exponent));
  const int magnitude = ((exponent + 13) << 10) + static_cast<int>(mantissa);
  return static_cast<std::uint16_t>(magnitude | (std::signbit(value) ? 0x8000 : 0));
}

/// Nearest bf16, ties to even. REQUIRES: value is finite and far from the largest.
std::uint16_t to_bf16_bits(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  bits += 0x7fff + ((bits >> 16) & 1);
  return static_cast<std::uint16_t>(bits >> 16);
}

void fill_random(Block block, Random& random) {
  for (std::byte& byte : block) byte = random.byte();
}

void store_scale(Block block, std::size_t at, double scale) {
  store(block, at, to_f16_bits(scale));
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
      store(block, 0, to_f16_bits(weight));
      return;
    case FormatId::kBF16:
      store(block, 0, to_bf16_bits(static_cast<float>(weight)));
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
    case FormatId::kIQ4_XS: {  // scale -16..15 * a codebook of 16 values, deviation 68
      unsigned high_bits = 0;  // two for each of 8 sub-scales: 01 or 10
      for (int i = 0; i < 8; ++i) high_bits |= (random.next() >> 63 ? 1u : 2u) << (2 * i);
      store_scale(block, 0, scale / 628);
      store(block, 2, static_cast<std::uint16_t>(high_bits));
      return;
    }
    case FormatId::kGgmlMxfp4: {  // a power of two, rounded up, * 0 to 6, deviation 2.9
      int exponent = 0;
      std::frexp(deviation / 2.9, &exponent);
      block[0] = static_cast<std::byte>(127 + exponent);
      return;
    }
    default:
      KTJIT_UNREACHABLE("a format that the sample model uses");
  }
}

struct SampleTensor {
  std::string name;
  FormatId format;
  std::vector<std::int64_t> ne;
};

std::vector<SampleTensor> list_tensors() {
  using enum FormatId;
  const std::vector<std::int64_t> vector = {kEmbedding};
  const std::vector<std::int64_t> square = {kEmbedding, kEmbedding};
  const std::vector<std::int64_t> key_value = {kEmbedding, kKeyValueRows};
  const std::vector<std::int64_t> up = {kEmbedding, kFeedForward};
  const std::vector<std::int64_t> down = {kFeedForward, kEmbedding};
  const std::vector<std::int64_t> vocabulary = {kEmbedding, kVocabulary};
  return {
      {"token_embd.weight", kQ4_K, vocabulary},    {"blk.0.attn_norm.weight", kF32, vector},
      {"blk.0.attn_q.weight", kQ4_K, square},      {"blk.0.attn_k.weight", kF16, key_value},
      {"blk.0.attn_v.weight", kQ8_0, key_value},   {"blk.0.attn_output.weight", kQ5_K, square},
      {"blk.0.ffn_norm.weight", kF32, vector},     {"blk.0.ffn_gate.weight", kQ4_0, up},
      {"blk.0.ffn_up.weight", kIQ4_XS, up},        {"blk.0.ffn_down.weight", kQ5_K, down},
      {"blk.1.attn_norm.weight", kF32, vector},    {"blk.1.attn_q.weight", kBF16, square},
      {"blk.1.attn_k.weight", kF32, key_value},    {"blk.1.attn_v.weight", kQ6_K, key_value},
      {"blk.1.attn_output.weight", kQ8_0, square}, {"blk.1.ffn_norm.weight", kF32, vector},
      {"blk.1.ffn_gate.weight", kQ4_0, up},        {"blk.1.ffn_up.weight", kGgmlMxfp4, up},
      {"blk.1.ffn_down.weight", kQ6_K, down},      {"output_norm.weight", kF32, vector},
      {"output.weight", kQ6_K, vocabulary},
  };
}

std::uint64_t seed_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a: a tensor keeps its bytes when others come
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::vector<std::byte> make_weights(const SampleTensor& tensor) {
  const Format& format = get_format(tensor.format);
  std::int64_t rows = 1;
  for (std::size_t i = 1; i < tensor.ne.size(); ++i) rows *= tensor.ne[i];
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows) *
                               row_bytes(tensor.format, tensor.ne[0]));
  Random random(seed_of(tensor.name));
  const double deviation = 1 / std::sqrt(static_cast<double>(tensor.ne[0]));
  const auto block_bytes = static_cast<std::size_t>(format.block_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += block_bytes) {
    fill_block(tensor.format, std::span(bytes).subspan(at, block_bytes), deviation, random);
  }
  return bytes;
}

/// The weights of a norm lie around 1.
std::vector<std::byte> make_norm(const SampleTensor& tensor) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.ne[0]) * sizeof(float));
  Random random(seed_of(tensor.name));
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(float)) {
    store(Block(bytes), at, static_cast<float>(1 + 0.1 * random.normal()));
  }
  return bytes;
}

void set_metadata(GgufWriter& writer) {
  constexpr std::uint32_t kMostlyQ4_K = 15;  // llama.cpp's LLAMA_FTYPE_MOSTLY_Q4_K_M
  const auto u32 = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  writer.set("general.architecture", "llama");
  writer.set("general.name", "ktjit sample");
  writer.set("general.file_type", kMostlyQ4_K);
  writer.set("general.quantization_version", 2u);
  writer.set("llama.block_count", kLayers);
  writer.set("llama.context_length", kContext);
  writer.set("llama.embedding_length", u32(kEmbedding));
  writer.set("llama.feed_forward_length", u32(kFeedForward));
  writer.set("llama.attention.head_count", u32(kHeads));
  writer.set("llama.attention.head_count_kv", u32(kHeadsKv));
  writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.set("llama.rope.dimension_count", u32(kEmbedding / kHeads));
  writer.set("llama.rope.freq_base", 10000.0f);
  writer.set("llama.vocab_size", u32(kVocabulary));

  constexpr std::int32_t kUnknown = 2;  // token types of llama.cpp
  constexpr std::int32_t kControl = 3;
  constexpr std::int32_t kNormal = 1;
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {kUnknown, kControl, kControl};
  std::vector<float> scores(tokens.size(), 0.0f);
  while (tokens.size() < kVocabulary) {
    scores.push_back(-static_cast<float>(tokens.size()));
    types.push_back(kNormal);
    tokens.push_back(fmt::format("token{}", tokens.size()));
  }
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.tokens", std::move(tokens));
  writer.set("tokenizer.ggml.scores", std::move(scores));
  writer.set("tokenizer.ggml.token_type", std::move(types));
  writer.set("tokenizer.ggml.bos_token_id", 1u);
  writer.set("tokenizer.ggml.eos_token_id", 2u);
  writer.set("tokenizer.ggml.unknown_token_id", 0u);
}

}  // namespace

void write_sample_model(const std::filesystem::path& path) {
  GgufWriter writer(path);
  set_metadata(writer);
  for (const SampleTensor& tensor : list_tensors()) {
    writer.add_tensor(tensor.name, tensor.format, tensor.ne, [tensor](const ByteSink& sink) {
      sink(tensor.ne.size() == 1 ? make_norm(tensor) : make_weights(tensor));
    });
  }
  writer.finish();
}

}  // namespace ktjit::model
