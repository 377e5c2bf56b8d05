// KTJIT_TEST_DATA_DIR, the absolute path of tests/data, is a compile definition.
#include "tests/support/golden_data.h"

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace ktjit::test {
namespace {

static_assert(std::endian::native == std::endian::little, "f32 files are little-endian");

std::filesystem::path golden_folder() {
  return std::filesystem::path(KTJIT_TEST_DATA_DIR) / "golden";
}

std::vector<std::byte> read_file(const std::filesystem::path& path, std::size_t expected_bytes) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(file),
                                std::istreambuf_iterator<char>()};
  if (chars.size() != expected_bytes) {
    throw InputError(path.string(), "has " + std::to_string(chars.size()) + " bytes, expected " +
                                        std::to_string(expected_bytes));
  }
  std::vector<std::byte> bytes(chars.size());
  std::memcpy(bytes.data(), chars.data(), chars.size());
  return bytes;
}

nlohmann::json load_index() {
  const std::filesystem::path path = golden_folder() / "index.json";
  std::ifstream file(path);
  if (!file) throw InputError(path.string(), "can't be read");
  return nlohmann::json::parse(file).at("entries");
}

GoldenEntry load_entry(const nlohmann::json& item) {
  GoldenEntry entry;
  entry.type = item.at("type").get<std::string>();
  const Format* format = find_ggml_format(item.at("type_id").get<std::uint32_t>());
  if (format == nullptr) throw InputError("index.json", "has unknown type " + entry.type);
  entry.format = format->id;
  entry.rows = item.at("rows").get<std::int64_t>();
  entry.cols = item.at("cols").get<std::int64_t>();
  entry.row_bytes = item.at("row_bytes").get<std::int64_t>();
  entry.row_kinds = item.at("row_kinds").get<std::vector<std::string>>();

  const auto elements = static_cast<std::size_t>(entry.rows * entry.cols);
  entry.encoded = read_file(golden_folder() / item.at("q").get<std::string>(),
                            static_cast<std::size_t>(entry.rows * entry.row_bytes));
  const std::vector<std::byte> values =
      read_file(golden_folder() / item.at("f32").get<std::string>(), elements * sizeof(float));
  entry.values.resize(elements);
  std::memcpy(entry.values.data(), values.data(), values.size());
  return entry;
}

}  // namespace

std::vector<GoldenEntry> load_golden() {
  std::vector<GoldenEntry> entries;
  for (const nlohmann::json& item : load_index()) entries.push_back(load_entry(item));
  return entries;
}

GoldenEntry get_golden(std::string_view name) {
  const Format* wanted = find_format(name);
  for (const nlohmann::json& item : load_index()) {
    const bool same_type = item.at("type").get<std::string>() == name;
    const Format* format = find_ggml_format(item.at("type_id").get<std::uint32_t>());
    if (same_type || (wanted != nullptr && format == wanted)) return load_entry(item);
  }
  throw InputError("index.json", "has no type " + std::string(name));
}

}  // namespace ktjit::test
