// Small checkpoints for tests: tensors of given shapes, and config.json.
#pragma once

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "model/open_model.h"
#include "model/safetensors_format.h"
#include "model/safetensors_writer.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {

using Shape = std::vector<std::int64_t>;

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// So many f32, all different, none of them odd.
inline std::vector<float> some_scales(std::size_t count) {
  std::vector<float> scales(count);
  for (std::size_t i = 0; i < count; ++i) scales[i] = 0.5f + 0.25f * static_cast<float>(i);
  return scales;
}

/// One safetensors file, which open() writes and reads.
class CheckpointBuilder {
 public:
  CheckpointBuilder() : writer_(folder_ / "model.safetensors") {}

  /// Bytes of the shape, none of which is NaN as E8M0 or E4M3.
  CheckpointBuilder& add(std::string name, FormatId format, const Shape& shape) {
    std::vector<std::byte> bytes(
        static_cast<std::size_t>(safetensors::count_bytes(format, shape).value()));
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(1 + i % 100);
    return add(std::move(name), format, shape, bytes);
  }
  CheckpointBuilder& add(std::string name, FormatId format, const Shape& shape,
                         std::vector<std::byte> bytes) {
    writer_.add_tensor(std::move(name), format, shape,
                       [bytes = std::move(bytes)](const ByteSink& sink) { sink(bytes); });
    return *this;
  }
  CheckpointBuilder& scales(std::string name, const Shape& shape) {
    std::size_t count = 1;
    for (std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
    return add(std::move(name), FormatId::kF32, shape, bytes_of(some_scales(count)));
  }
  CheckpointBuilder& config(std::string_view json) {
    folder_.write("config.json", json);
    return *this;
  }

  Model open() {
    writer_.finish();
    return open_model(folder_.path());
  }
  /// The message of the error that opening throws.
  std::string message() {
    return folder_.shorten(error_of<InputError>([&] { open(); }));
  }

 private:
  ScratchFolder folder_;
  SafetensorsWriter writer_;
};

}  // namespace ktjit::model
