#include "tests/model/model_test_files.h"

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <stdlib.h>

namespace ktjit::model {

namespace fs = std::filesystem;

ScratchFolder::ScratchFolder() {
  std::string pattern = (fs::temp_directory_path() / "ktjit-model-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no scratch folder");
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path ScratchFolder::write(std::string_view name, std::string_view bytes) const {
  const fs::path path = path_ / name;
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

std::string ScratchFolder::shorten(std::string message) const {
  for (const std::string& prefix : {path_.string() + "/", path_.string()}) {
    for (std::size_t at = message.find(prefix); at != std::string::npos;
         at = message.find(prefix)) {
      message.erase(at, prefix.size());
    }
  }
  return message;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

GgufBytes::GgufBytes(std::uint64_t tensor_count, std::uint64_t metadata_count,
                     std::uint32_t version)
    : bytes_("GGUF") {
  u32(version).u64(tensor_count).u64(metadata_count);
}

GgufBytes& GgufBytes::text(std::string_view value) {
  u64(value.size());
  bytes_ += value;
  return *this;
}

GgufBytes& GgufBytes::tensor(std::string_view name, std::vector<std::int64_t> ne,
                             std::uint32_t type_id, std::uint64_t offset) {
  text(name).u32(static_cast<std::uint32_t>(ne.size()));
  for (std::int64_t extent : ne) number(extent);
  return u32(type_id).u64(offset);
}

GgufBytes& GgufBytes::pad(std::size_t alignment) {
  return zeros((alignment - bytes_.size() % alignment) % alignment);
}

GgufBytes& GgufBytes::zeros(std::size_t count) {
  bytes_.append(count, '\0');
  return *this;
}

std::string safetensors_bytes(std::string_view header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += header;
  for (std::byte byte : make_bytes(data_bytes)) bytes += static_cast<char>(byte);
  return bytes;
}

}  // namespace ktjit::model
