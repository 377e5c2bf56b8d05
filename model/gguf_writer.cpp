#include "model/gguf_writer.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/error.h"
#include "model/gguf_format.h"
#include "model/output_file.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

constexpr std::size_t kMaxTensorNameBytes = 63;  // llama.cpp reads no longer ones (GGML_MAX_NAME)

template <typename T>
void append_number(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append_number(out, std::uint64_t{text.size()});
  out += text;
}

template <typename T>
void append_scalar(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    append_text(out, value);
  } else if constexpr (std::is_same_v<T, bool>) {
    append_number(out, static_cast<std::uint8_t>(value));
  } else {
    append_number(out, value);
  }
}

template <typename T>
void append_value(std::string& out, const T& value) {
  append_number(out, gguf::type_id<T>());
  append_scalar(out, value);
}

template <typename T>
void append_value(std::string& out, const std::vector<T>& array) {
  append_number(out, gguf::kArrayTypeId);
  append_number(out, gguf::type_id<T>());
  append_number(out, std::uint64_t{array.size()});
  for (const auto& element : array) append_scalar<T>(out, element);
}

void check_name(std::string_view field, std::string_view name, std::size_t max_bytes) {
  const bool is_good = !name.empty() && name.size() <= max_bytes && is_valid_utf8(name) &&
                       !has_control_character(name);
  if (is_good) return;
  throw SpecError(field, fmt::format("'{}'", escape_text(name)),
                  fmt::format("1 to {} bytes of UTF-8 without control characters", max_bytes));
}

/// Nothing on overflow.
std::optional<std::int64_t> count_elements(std::span<const std::int64_t> ne) {
  std::int64_t elements = 1;
  std::int64_t without_zeros = 1;  // as the reader: a zero must not hide an overflow
  for (std::int64_t extent : ne) {
    elements *= extent == 0 ? 0 : 1;
    if (__builtin_mul_overflow(without_zeros, std::max<std::int64_t>(extent, 1), &without_zeros)) {
      return std::nullopt;
    }
  }
  return elements * without_zeros;
}

std::uint64_t count_bytes(std::string_view name, const Format& format,
                          std::span<const std::int64_t> ne) {
  const auto fail = [&](std::string_view allowed) {
    throw SpecError(fmt::format("shape of tensor '{}'", name),
                    fmt::format("[{}]", fmt::join(ne, ", ")), allowed);
  };
  if (ne.empty() || ne.size() > gguf::kMaxDims) fail("1 to 4 dimensions");
  if (std::any_of(ne.begin(), ne.end(), [](std::int64_t extent) { return extent < 0; })) {
    fail("extents of 0 or more");
  }
  if (ne[0] % format.block_elems != 0) {
    fail(fmt::format("columns that are a multiple of {}, the block of {}", format.block_elems,
                     format.name));
  }
  const auto elements = count_elements(ne);
  std::int64_t bytes = 0;
  if (!elements ||
      __builtin_mul_overflow(*elements / format.block_elems, format.block_bytes, &bytes)) {
    fail("less than 2^63 bytes");
  }
  return static_cast<std::uint64_t>(bytes);
}

void check_size(std::string_view name, std::uint64_t given, std::uint64_t expected) {
  if (given == expected) return;
  throw SpecError(fmt::format("data of tensor '{}'", name), fmt::format("{} bytes", given),
                  fmt::format("{} bytes, as its shape and format say", expected));
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

void pad(OutputFile& file, std::uint64_t alignment) {
  const std::uint64_t padded = gguf::align_up(file.bytes_written(), alignment);
  const std::vector<std::byte> zeros(padded - file.bytes_written());
  file.write(zeros);
}

}  // namespace

GgufWriter::GgufWriter(std::filesystem::path path, std::uint32_t alignment)
    : path_(std::move(path)), alignment_(alignment) {
  if (!gguf::is_valid_alignment(alignment)) {
    throw SpecError("alignment", fmt::format("{}", alignment),
                    "a power of two that is a multiple of 8");
  }
  if (alignment != gguf::kDefaultAlignment) {
    metadata_.add(std::string(gguf::kAlignmentKey), alignment);
  }
}

void GgufWriter::set(std::string key, MetadataValue value) {
  check_name("metadata key", key, gguf::kMaxKeyBytes);
  if (key == gguf::kAlignmentKey) {
    if (value != MetadataValue(alignment_)) {
      throw SpecError("general.alignment", value_to_text(value),
                      fmt::format("{} as u32, the writer's alignment", alignment_));
    }
    metadata_.add(std::move(key), std::move(value));  // may be there from the constructor
    return;
  }
  const std::string shown = fmt::format("'{}'", escape_text(key));
  if (!key.starts_with("tokenizer.") && count_invalid_utf8(value) != 0) {
    throw SpecError(fmt::format("metadata {}", shown), value_to_text(value, 4), "UTF-8");
  }
  if (!metadata_.add(std::move(key), std::move(value))) {
    throw SpecError("metadata key", shown, "a key that is not set yet");
  }
}

void GgufWriter::add_tensor(std::string name, FormatId format, std::span<const std::int64_t> ne,
                            std::span<const std::byte> data) {
  add_tensor(name, format, ne, [data](const ByteSink& sink) { sink(data); });
  const PlannedTensor& added = tensors_.back();
  if (data.size() == added.bytes) return;
  const std::uint64_t expected = added.bytes;
  tensors_.pop_back();
  tensor_names_.erase(name);
  check_size(name, data.size(), expected);
}

void GgufWriter::add_tensor(std::string name, FormatId id, std::span<const std::int64_t> ne,
                            ByteSource source) {
  check_name("tensor name", name, kMaxTensorNameBytes);
  const Format& format = get_format(id);
  if (format.ggml_type < 0) {
    throw SpecError(fmt::format("format of tensor '{}'", name), format.name,
                    "a format that has a type id in GGUF");
  }
  const std::uint64_t bytes = count_bytes(name, format, ne);
  if (!tensor_names_.insert(name).second) {
    throw SpecError("tensor name", fmt::format("'{}'", name), "a name that is not taken yet");
  }
  tensors_.push_back({std::move(name), id, {ne.begin(), ne.end()}, bytes, std::move(source)});
}

void GgufWriter::add_tensor(const TensorInfo& tensor) {
  add_tensor(tensor.name, tensor.format,
             std::span(tensor.ne).first(static_cast<std::size_t>(tensor.n_dims)), tensor.data);
}

std::string GgufWriter::make_header() const {
  std::string header = "GGUF";
  append_number(header, gguf::kNewestVersion);
  append_number(header, std::uint64_t{tensors_.size()});
  append_number(header, std::uint64_t{metadata_.entries().size()});
  for (const Metadata::Entry& entry : metadata_.entries()) {
    append_text(header, entry.key);
    std::visit([&](const auto& value) { append_value(header, value); }, entry.value);
  }
  std::uint64_t offset = 0;
  for (const PlannedTensor& tensor : tensors_) {
    append_text(header, tensor.name);
    append_number(header, static_cast<std::uint32_t>(tensor.ne.size()));
    for (std::int64_t extent : tensor.ne) append_number(header, extent);
    append_number(header, static_cast<std::uint32_t>(get_format(tensor.format).ggml_type));
    append_number(header, offset);
    offset += gguf::align_up(tensor.bytes, alignment_);
  }
  return header;
}

FileLayout GgufWriter::layout() const {
  FileLayout layout;
  layout.head = make_header();
  layout.head.resize(gguf::align_up(layout.head.size(), alignment_), '\0');
  layout.bytes = layout.head.size();
  for (const PlannedTensor& tensor : tensors_) {
    layout.offsets[tensor.name] = layout.bytes;
    layout.bytes += gguf::align_up(tensor.bytes, alignment_);
  }
  return layout;
}

void GgufWriter::finish() {
  OutputFile file(path_);
  file.write(as_bytes(make_header()));
  pad(file, alignment_);
  for (const PlannedTensor& tensor : tensors_) {
    std::uint64_t written = 0;
    tensor.source([&](std::span<const std::byte> bytes) {
      written += bytes.size();
      // Before the write: a source that never ends must not fill the disk.
      if (written > tensor.bytes) check_size(tensor.name, written, tensor.bytes);
      file.write(bytes);
    });
    check_size(tensor.name, written, tensor.bytes);
    pad(file, alignment_);
  }
  file.commit();
}

}  // namespace ktjit::model
