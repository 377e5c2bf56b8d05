#include "model/sample_model.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <stdexcept>

#include "model/open_model.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

template <typename T>
T load(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.subspan(at, sizeof value).data(), sizeof value);
  return value;
}

double from_f16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  if (exponent == 31) throw std::runtime_error("infinity or NaN");
  return bits & 0x8000 ? -magnitude : magnitude;
}

double from_bf16(std::uint16_t bits) {
  const std::uint32_t wide = std::uint32_t{bits} << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

/// Where the f16 scales lie in a block.
std::vector<std::size_t> scale_places(FormatId format) {
  switch (format) {
    case FormatId::kQ8_0:
    case FormatId::kQ4_0:
    case FormatId::kIQ1_S:
    case FormatId::kIQ2_XXS:
    case FormatId::kIQ2_XS:
    case FormatId::kIQ2_S:
    case FormatId::kIQ3_XXS:
    case FormatId::kIQ3_S:
    case FormatId::kIQ4_XS:
    case FormatId::kQ4_1:
    case FormatId::kQ5_0:
    case FormatId::kQ5_1:
    case FormatId::kQ8_1:
    case FormatId::kIQ4_NL:
    case FormatId::kQ1_0:
    case FormatId::kQ2_0:
      return {0};
    case FormatId::kQ2_K:
      return {80, 82};
    case FormatId::kQ3_K:
      return {108};
    case FormatId::kTQ1_0:
      return {52};
    case FormatId::kTQ2_0:
      return {64};
    case FormatId::kQ4_K:
    case FormatId::kQ5_K:
      return {0, 2};
    case FormatId::kQ6_K:
      return {208};
    default:
      return {};
  }
}

/// Decodes the formats whose decode is one line.
std::vector<double> decode_simple(const TensorInfo& tensor) {
  std::vector<double> weights;
  const Format& format = get_format(tensor.format);
  const auto block_bytes = static_cast<std::size_t>(format.block_bytes);
  for (std::size_t at = 0; at < tensor.data.size(); at += block_bytes) {
    const auto block = tensor.data.subspan(at, block_bytes);
    if (format.id == FormatId::kF32) weights.push_back(static_cast<double>(load<float>(block, 0)));
    if (format.id == FormatId::kF16) weights.push_back(from_f16(load<std::uint16_t>(block, 0)));
    if (format.id == FormatId::kBF16) weights.push_back(from_bf16(load<std::uint16_t>(block, 0)));
    for (std::size_t i = 0; format.id == FormatId::kQ8_0 && i < 32; ++i) {
      weights.push_back(from_f16(load<std::uint16_t>(block, 0)) * load<std::int8_t>(block, 2 + i));
    }
    for (std::size_t i = 0; format.id == FormatId::kQ4_0 && i < 32; ++i) {
      const auto codes = load<std::uint8_t>(block, 2 + i % 16);
      const int code = i < 16 ? codes & 15 : codes >> 4;
      weights.push_back(from_f16(load<std::uint16_t>(block, 0)) * (code - 8));
    }
  }
  return weights;
}

TEST_CASE("the sample model is a llama of sane size, with every format of GGUF") {
  const ScratchFolder folder;
  write_sample_model(folder / "sample.gguf");
  const Model model = open_model(folder / "sample.gguf");
  CHECK(model.file_bytes() > 1'000'000);
  CHECK(model.file_bytes() < 4'000'000);
  CHECK(model.notes().empty());
  std::set<std::string_view> formats;
  std::set<std::int64_t> columns;
  bool has_odd_rows = false;
  for (const TensorInfo& tensor : model.tensors()) {
    formats.insert(get_format(tensor.format).name);
    columns.insert(tensor.cols());
    has_odd_rows = has_odd_rows || (tensor.n_dims == 2 && tensor.rows() % 2 == 1);
  }
  std::set<std::string_view> formats_of_gguf;
  for (const Format& format : all_formats()) {
    if (format.ggml_type >= 0) formats_of_gguf.insert(format.name);
  }
  CHECK(formats == formats_of_gguf);
  CHECK(columns == std::set<std::int64_t>{256, 512});
  CHECK(has_odd_rows);

  const Metadata& metadata = model.metadata();
  CHECK(metadata.find_string("general.architecture") == "llama");
  CHECK(metadata.find_uint("llama.block_count") == 5);
  CHECK(metadata.find_uint("llama.embedding_length") == 256);
  CHECK(metadata.find_uint("llama.feed_forward_length") == 512);
  CHECK(metadata.find_uint("llama.attention.head_count") == 4);
  CHECK(metadata.find_uint("llama.attention.head_count_kv") == 2);
  CHECK(metadata.find_uint("llama.context_length") == 512);
  CHECK(metadata.find_strings("tokenizer.ggml.tokens").size() ==
        static_cast<std::size_t>(model.get_tensor("output.weight").rows()));
}

TEST_CASE("the sample model is the same at every call") {
  const ScratchFolder folder;
  write_sample_model(folder / "a.gguf");
  write_sample_model(folder / "b.gguf");
  CHECK(read_file(folder / "a.gguf") == read_file(folder / "b.gguf"));
}

TEST_CASE("the sample's f16 scales are normal numbers") {
  const ScratchFolder folder;
  write_sample_model(folder / "sample.gguf");
  const Model model = open_model(folder / "sample.gguf");
  for (const TensorInfo& tensor : model.tensors()) {
    CAPTURE(tensor.name);
    const auto block_bytes = static_cast<std::size_t>(get_format(tensor.format).block_bytes);
    double smallest = 1;
    double largest = 0;
    for (std::size_t at = 0; at < tensor.data.size(); at += block_bytes) {
      for (std::size_t place : scale_places(tensor.format)) {
        const double scale = from_f16(load<std::uint16_t>(tensor.data, at + place));
        smallest = std::min(smallest, scale);
        largest = std::max(largest, scale);
      }
    }
    CHECK(smallest >= 0x1p-14);
    CHECK(largest < 0.1);
  }
}

TEST_CASE("the sample's weights deviate by 1 / sqrt(columns)") {
  const ScratchFolder folder;
  write_sample_model(folder / "sample.gguf");
  const Model model = open_model(folder / "sample.gguf");
  int checked = 0;
  for (const TensorInfo& tensor : model.tensors()) {
    if (tensor.n_dims == 1) continue;
    const std::vector<double> weights = decode_simple(tensor);
    if (weights.empty()) continue;
    CAPTURE(tensor.name);
    REQUIRE(weights.size() == static_cast<std::size_t>(tensor.elements()));
    double sum_of_squares = 0;
    for (double weight : weights) sum_of_squares += weight * weight;
    const double deviation = std::sqrt(sum_of_squares / static_cast<double>(weights.size()));
    CHECK(deviation * std::sqrt(static_cast<double>(tensor.cols())) == Approx(1).epsilon(0.1));
    ++checked;
  }
  CHECK(checked == 7);
}

}  // namespace
}  // namespace ktjit::model
