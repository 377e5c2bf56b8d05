// What the tests of model/ share: a scratch folder, GGUF bytes written by hand, and errors as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace ktjit::model {

inline std::filesystem::path test_model(std::string_view name) {
  return std::filesystem::path(KTJIT_TEST_DATA_DIR) / "models" / name;
}

/// An empty folder that goes when the object goes.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  /// Writes a file of these bytes and returns its path.
  std::filesystem::path write(std::string_view name, std::string_view bytes) const;
  /// Without this folder's path, so that a message can be compared whole.
  std::string shorten(std::string message) const;

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::filesystem::path& path);

/// The message of the E that `action` throws, "no error" or "another error: ..." if it doesn't.
template <typename E>
std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

/// GGUF bytes put together field by field, right or wrong.
class GgufBytes {
 public:
  explicit GgufBytes(std::uint64_t tensor_count = 0, std::uint64_t metadata_count = 0,
                     std::uint32_t version = 3);

  template <typename T>
  GgufBytes& number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBytes& u32(std::uint32_t value) { return number(value); }
  GgufBytes& u64(std::uint64_t value) { return number(value); }
  GgufBytes& text(std::string_view value);
  GgufBytes& tensor(std::string_view name, std::vector<std::int64_t> ne, std::uint32_t type_id,
                    std::uint64_t offset);
  GgufBytes& pad(std::size_t alignment = 32);
  GgufBytes& zeros(std::size_t count);

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// The bytes of a safetensors file with this header and as many bytes of data.
std::string safetensors_bytes(std::string_view header, std::size_t data_bytes);

/// Type ids in GGUF.
inline constexpr std::uint32_t kU8 = 0, kU16 = 2, kU32 = 4, kI32 = 5, kBool = 7, kString = 8,
                               kArray = 9, kU64 = 10;
inline constexpr std::uint32_t kTypeF32 = 0, kTypeQ4_0 = 2, kTypeQ4_K = 12, kTypeQ2_0 = 42;

inline std::vector<std::byte> make_bytes(std::size_t count, unsigned seed = 1) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::byte>((i * 7 + seed * 31) & 0xff);
  }
  return bytes;
}

inline bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace ktjit::model
