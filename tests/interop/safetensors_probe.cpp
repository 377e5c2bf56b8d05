// Our side of the comparison with Python's safetensors:
//   safetensors_probe write OUT   a file with a tensor of each dtype, see make_pattern
//   safetensors_probe dump IN     one JSON object: for each tensor its dtype, shape and bytes in hex
#include <cstdio>
#include <exception>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/format.h"
#include "model/safetensors_format.h"
#include "model/safetensors_part.h"
#include "model/safetensors_writer.h"

namespace {

using ktjit::Format;

/// All 256 bytes, turned by `seed`; a BOOL has 0 and 1 only. Python makes the same.
std::vector<std::byte> make_pattern(const Format& format, std::size_t count) {
  const auto seed =
      static_cast<std::size_t>(ktjit::model::safetensors::dtype_name(format.id).size());
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t value = i * 7 + seed * 31;
    bytes[i] =
        static_cast<std::byte>(format.id == ktjit::FormatId::kBool ? value & 1 : value & 255);
  }
  return bytes;
}

void write(const std::string& path) {
  ktjit::model::SafetensorsWriter writer(path);
  writer.set("origin", "ktjit");
  for (const Format& format : ktjit::all_formats()) {
    const std::string dtype(ktjit::model::safetensors::dtype_name(format.id));
    if (dtype.empty()) continue;
    const std::vector<std::int64_t> shape = {3, 5, 32};
    const std::vector<std::byte> bytes = make_pattern(
        format, static_cast<std::size_t>(480 / format.block_elems * format.block_bytes));
    writer.add_tensor("t_" + dtype, format.id, shape,
                      [bytes](const ktjit::model::ByteSink& sink) { sink(bytes); });
    writer.add_tensor("none_" + dtype, format.id, std::vector<std::int64_t>{0, 4},
                      std::span<const std::byte>());
  }
  writer.finish();
}

void dump(const std::string& path) {
  const ktjit::model::SafetensorsPart part = ktjit::model::read_safetensors_part(path);
  nlohmann::json document = {{"metadata", nlohmann::json::object()},
                             {"tensors", nlohmann::json::object()}};
  for (const auto& [key, value] : part.metadata) document["metadata"][key] = value;
  for (const ktjit::model::StoredTensor& tensor : part.tensors) {
    std::string hex;
    for (std::byte byte : tensor.data) hex += fmt::format("{:02x}", std::to_integer<int>(byte));
    document["tensors"][tensor.name] = {
        {"dtype", ktjit::model::safetensors::dtype_name(tensor.format)},
        {"shape", tensor.shape},
        {"hex", std::move(hex)}};
  }
  std::puts(document.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments.size() == 2 && arguments[0] == "write") {
      write(arguments[1]);
    } else if (arguments.size() == 2 && arguments[0] == "dump") {
      dump(arguments[1]);
    } else {
      std::fputs("usage: safetensors_probe write OUT | dump IN\n", stderr);
      return 2;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
