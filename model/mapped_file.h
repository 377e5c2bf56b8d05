// A file mapped into memory for reading. Tensors are views into such maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace ktjit::model {

/// A regular file, mapped whole and read-only. Move-only; bytes() keeps its address when the owner
/// moves.
///
/// The file must keep its size while it is mapped: touching a page that another process has cut off
/// ends this process with SIGBUS. Replacing the file by rename is harmless, the map keeps the old
/// one.
class MappedFile {
 public:
  /// Errors: InputError if the path is missing, unreadable, or not a regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return bytes_.size(); }
  /// Empty for an empty file.
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

}  // namespace ktjit::model
