#include "model/safetensors_writer.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "model/output_file.h"
#include "model/safetensors_format.h"
#include "model/stored_tensor.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

namespace st = safetensors;

void check_name(std::string_view name) {
  if (!name.empty() && name != st::kMetadataKey && is_valid_utf8(name) &&
      !has_control_character(name)) {
    return;
  }
  throw SpecError("tensor name", fmt::format("'{}'", escape_text(name)),
                  "UTF-8 without control characters, not empty, not __metadata__");
}

/// Checks what the format and the shape allow; the tensor's bytes.
std::uint64_t check_tensor(std::string_view name, FormatId format,
                           std::span<const std::int64_t> shape) {
  check_name(name);
  if (st::dtype_name(format).empty()) {
    throw SpecError(fmt::format("format of tensor '{}'", name), get_format(format).name,
                    fmt::format("one with a dtype in safetensors: {}", st::dtype_names()));
  }
  const bool is_negative = std::ranges::any_of(shape, [](std::int64_t e) { return e < 0; });
  const auto bytes = is_negative ? std::nullopt : st::count_bytes(format, shape);
  if (!bytes) {
    throw SpecError(fmt::format("shape of tensor '{}'", name), shape_to_text(shape),
                    "extents of 0 or more, and a whole number of bytes below 2^63");
  }
  return static_cast<std::uint64_t>(*bytes);
}

void check_size(std::string_view name, std::uint64_t given, std::uint64_t expected) {
  if (given == expected) return;
  throw SpecError(fmt::format("data of tensor '{}'", name), fmt::format("{} bytes", given),
                  fmt::format("{} bytes, as its shape and format say", expected));
}

void insert_name(std::set<std::string, std::less<>>& names, const std::string& name) {
  if (!names.insert(name).second)
    throw SpecError("tensor name", fmt::format("'{}'", name), "a name that is not taken yet");
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path) : path_(std::move(path)) {}

void SafetensorsWriter::set(std::string key, std::string value) {
  if (!is_valid_utf8(key) || !is_valid_utf8(value)) {
    throw SpecError("metadata", fmt::format("'{}': '{}'", escape_text(key), escape_text(value)),
                    "UTF-8");
  }
  const std::string shown = fmt::format("'{}'", escape_text(key));
  if (!metadata_.try_emplace(std::move(key), std::move(value)).second)
    throw SpecError("metadata key", shown, "a key that is not set yet");
}

void SafetensorsWriter::add_tensor(std::string name, FormatId format,
                                   std::span<const std::int64_t> shape,
                                   std::span<const std::byte> data) {
  check_size(name, data.size(), check_tensor(name, format, shape));
  add_tensor(std::move(name), format, shape, [data](const ByteSink& sink) { sink(data); });
}

void SafetensorsWriter::add_tensor(std::string name, FormatId format,
                                   std::span<const std::int64_t> shape, ByteSource source) {
  const std::uint64_t bytes = check_tensor(name, format, shape);
  insert_name(names_, name);
  tensors_.push_back(
      {std::move(name), format, {shape.begin(), shape.end()}, bytes, std::move(source)});
  data_bytes_ += bytes;
}

std::string SafetensorsWriter::make_header() const {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata_.empty()) header[std::string(st::kMetadataKey)] = metadata_;
  std::uint64_t offset = 0;
  for (const PlannedTensor& tensor : tensors_) {
    header[tensor.name] = {{"dtype", st::dtype_name(tensor.format)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes}}};
    offset += tensor.bytes;
  }
  std::string text = header.dump();
  text.resize(
      (text.size() + st::kHeaderAlignment - 1) / st::kHeaderAlignment * st::kHeaderAlignment, ' ');
  if (text.size() > st::kMaxHeaderBytes) {
    throw SpecError("header", fmt::format("{} bytes", text.size()),
                    fmt::format("at most {}; write several shards", st::kMaxHeaderBytes));
  }
  return text;
}

void SafetensorsWriter::sort_tensors() {
  // By the size of an element: an F32 tensor never begins at an odd byte.
  std::ranges::stable_sort(tensors_, std::greater<>(), [](const PlannedTensor& tensor) {
    return get_format(tensor.format).bits_per_element();
  });
}

FileLayout SafetensorsWriter::layout() {
  sort_tensors();
  const std::string header = make_header();
  const std::uint64_t header_bytes = header.size();
  FileLayout layout;
  layout.head.append(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes);
  layout.head += header;
  layout.bytes = layout.head.size();
  for (const PlannedTensor& tensor : tensors_) {
    layout.offsets[tensor.name] = layout.bytes;
    layout.bytes += tensor.bytes;
  }
  return layout;
}

void SafetensorsWriter::finish() {
  sort_tensors();
  const std::string header = make_header();
  const std::uint64_t header_bytes = header.size();
  OutputFile file(path_);
  file.write(std::as_bytes(std::span(&header_bytes, 1)));
  file.write(as_bytes(header));
  for (const PlannedTensor& tensor : tensors_) {
    std::uint64_t written = 0;
    tensor.source([&](std::span<const std::byte> bytes) {
      written += bytes.size();
      // Before the write: a source that never ends must not fill the disk.
      if (written > tensor.bytes) check_size(tensor.name, written, tensor.bytes);
      file.write(bytes);
    });
    check_size(tensor.name, written, tensor.bytes);
  }
  file.commit();
}

ShardedSafetensorsWriter::ShardedSafetensorsWriter(std::filesystem::path folder,
                                                   std::uint64_t shard_bytes)
    : folder_(std::move(folder)), shard_bytes_(shard_bytes) {}

void ShardedSafetensorsWriter::add_tensor(std::string name, FormatId format,
                                          std::span<const std::int64_t> shape, ByteSource source) {
  const std::uint64_t bytes = check_tensor(name, format, shape);
  insert_name(names_, name);
  std::size_t shard = tensors_.empty() ? 0 : tensors_.back().shard;
  if (bytes_in_shard_ > 0 && bytes > shard_bytes_ - std::min(bytes_in_shard_, shard_bytes_)) {
    ++shard;
    bytes_in_shard_ = 0;
  }
  bytes_in_shard_ += bytes;
  total_bytes_ += bytes;
  tensors_.push_back(
      {std::move(name), format, {shape.begin(), shape.end()}, std::move(source), shard});
}

void ShardedSafetensorsWriter::finish() {
  const std::size_t shards = tensors_.empty() ? 1 : tensors_.back().shard + 1;
  nlohmann::json weight_map = nlohmann::json::object();
  auto tensor = tensors_.begin();
  for (std::size_t shard = 0; shard < shards; ++shard) {
    const std::string name =
        shards == 1 ? "model.safetensors"
                    : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
    SafetensorsWriter writer(folder_ / name);
    writer.set("format", "pt");  // Hugging Face's loaders ask for it
    for (; tensor != tensors_.end() && tensor->shard == shard; ++tensor) {
      weight_map[tensor->name] = name;
      writer.add_tensor(tensor->name, tensor->format, tensor->shape, tensor->source);
    }
    writer.finish();
  }
  if (shards == 1) return;
  const nlohmann::json index = {{"metadata", {{"total_size", total_bytes_}}},
                                {"weight_map", std::move(weight_map)}};
  OutputFile file(folder_ / "model.safetensors.index.json");
  file.write(as_bytes(index.dump(2) + "\n"));
  file.commit();
}

}  // namespace ktjit::model
