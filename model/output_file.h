// A file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace ktjit::model {

/// The machine did not take what was to be written: a full disk, no permission.
class OutputError : public Error {
 public:
  OutputError(const std::filesystem::path& path, std::string_view problem);
};

/// Writes to a temporary name in the folder of `path`; commit() makes it durable and gives it its
/// name, replacing an older file. Without a commit the temporary file is removed.
/// A device or a pipe of that name is written to as it is, never replaced.
class OutputFile {
 public:
  /// Errors: OutputError, here and in the other functions.
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  std::uint64_t bytes_written() const { return bytes_written_; }

  /// No write may follow.
  void commit();

 private:
  void flush();
  void write_through(std::span<const std::byte> bytes);
  [[noreturn]] void fail_with_errno(std::string_view doing) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_path_;  ///< empty when writing in place
  int fd_ = -1;
  std::uint64_t bytes_written_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace ktjit::model
