// Damage that nobody thought of: every truncation and many changes of every byte of a header. A
// damaged file opens or is refused with InputError, and never takes memory that its size does not
// justify.
#include <array>
#include <catch2/catch.hpp>
#include <fcntl.h>
#include <limits>
#include <stdexcept>
#include <unistd.h>

#include "model/gguf_reader.h"
#include "model/gguf_writer.h"
#include "tests/model/allocation_watch.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

/// A file with every type of metadata and a few tensors.
std::filesystem::path write_small_model(const ScratchFolder& folder) {
  const auto path = folder / "small.gguf";
  GgufWriter writer(path);
  writer.set("u8", std::uint8_t{1});
  writer.set("i16", std::int16_t{-2});
  writer.set("f64", 0.5);
  writer.set("bool", true);
  writer.set("str", "text");
  writer.set("strs", std::vector<std::string>{"a", "", "bc"});
  writer.set("u32s", std::vector<std::uint32_t>{1, 2, 3});
  writer.set("bools", std::vector<bool>{true, false});
  writer.set("general.alignment", 32u);
  const auto add = [&](std::string name, FormatId format, std::vector<std::int64_t> ne) {
    std::uint64_t bytes = row_bytes(format, ne[0]);
    for (std::size_t i = 1; i < ne.size(); ++i) bytes *= static_cast<std::uint64_t>(ne[i]);
    writer.add_tensor(std::move(name), format, ne,
                      [bytes](const ByteSink& sink) { sink(make_bytes(bytes)); });
  };
  add("norm", FormatId::kF32, {32});
  add("q", FormatId::kQ4_0, {64, 3});
  add("experts", FormatId::kF16, {4, 3, 2});
  writer.finish();
  return path;
}

std::uint64_t looked_at = 0;  // so that no read is optimised away

/// Opens a file and looks at all that the reader hands out. True if it was accepted.
bool try_open(const std::filesystem::path& path) {
  try {
    const Model model = read_gguf(path);
    unsigned sum = 0;
    for (const TensorInfo& tensor : model.tensors()) {
      for (const std::byte byte : tensor.data) sum += std::to_integer<unsigned>(byte);
      sum += static_cast<unsigned>(tensor.rows() + tensor.elements());
    }
    for (const Metadata::Entry& entry : model.metadata().entries()) {
      sum += static_cast<unsigned>(value_to_text(entry.value).size());
    }
    looked_at += sum;
    return true;
  } catch (const InputError&) {
    return false;
  }
}

/// A copy of a file that is changed in place, byte by byte.
class DamagedFile {
 public:
  DamagedFile(const ScratchFolder& folder, std::string bytes)
      : bytes_(std::move(bytes)), path_(folder.write("damaged.gguf", bytes_)) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    REQUIRE(fd_ >= 0);
  }
  ~DamagedFile() { ::close(fd_); }
  DamagedFile(const DamagedFile&) = delete;
  DamagedFile& operator=(const DamagedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::string& bytes() const { return bytes_; }

  void overwrite(std::size_t at, std::string_view with) {
    const auto written = ::pwrite(fd_, with.data(), with.size(), static_cast<off_t>(at));
    if (written != static_cast<ssize_t>(with.size())) throw std::runtime_error("short write");
  }
  void restore(std::size_t at, std::size_t count) {
    overwrite(at, std::string_view(bytes_).substr(at, count));
  }

 private:
  std::string bytes_;
  std::filesystem::path path_;
  int fd_ = -1;
};

std::size_t header_bytes(const std::filesystem::path& path) {
  const Model model = read_gguf(path);
  if (model.tensors().empty()) return model.file_bytes();
  const std::string bytes = read_file(path);
  const std::span<const std::byte> first = model.tensors().front().data;
  return bytes.find(std::string_view(reinterpret_cast<const char*>(first.data()), first.size()));
}

TEST_CASE("a file cut at any byte of its header or data is refused") {
  const ScratchFolder folder;
  const std::string whole = read_file(write_small_model(folder));
  const Model model = read_gguf(folder / "small.gguf");
  const std::size_t last_padding = (32 - model.get_tensor("experts").bytes() % 32) % 32;
  std::size_t accepted = 0;
  for (std::size_t size = 0; size < whole.size() - last_padding; ++size) {
    const auto path = folder.write("cut.gguf", std::string_view(whole).substr(0, size));
    if (try_open(path)) ++accepted;
  }
  CHECK(accepted == 0);
  CHECK(try_open(
      folder.write("cut.gguf", std::string_view(whole).substr(0, whole.size() - last_padding))));
}

TEST_CASE("a vocabulary cut at any byte is refused") {
  const ScratchFolder folder;
  const std::string whole = read_file(test_model("tiny-vocab-only.gguf"));
  const std::size_t end = whole.find_last_not_of('\0') + 1;  // the padding after it may go
  std::size_t accepted = 0;
  for (std::size_t size = 0; size < end; ++size) {
    const auto path = folder.write("cut.gguf", std::string_view(whole).substr(0, size));
    if (try_open(path)) ++accepted;
  }
  CHECK(accepted == 0);
}

TEST_CASE("any changed byte of a header is harmless") {
  const ScratchFolder folder;
  const auto path = write_small_model(folder);
  const std::size_t end = header_bytes(path);
  REQUIRE(end > 400);
  DamagedFile file(folder, read_file(path));
  reset_largest_allocation();
  std::size_t refused = 0;
  for (std::size_t at = 0; at < end; ++at) {
    for (unsigned value = 0; value < 256; ++value) {
      file.overwrite(at, std::string(1, static_cast<char>(value)));
      if (!try_open(file.path())) ++refused;
    }
    file.restore(at, 1);
  }
  CHECK(refused > end);
  CHECK(largest_allocation() < 64 * 1024);
  CHECK(try_open(file.path()));
}

TEST_CASE("extreme numbers at any place of a header are harmless") {
  constexpr std::array<std::uint64_t, 9> kExtremes = {
      0,
      std::numeric_limits<std::uint64_t>::max(),
      std::numeric_limits<std::int64_t>::max(),
      std::uint64_t{1} << 63,
      std::uint64_t{1} << 62,
      std::uint64_t{1} << 32,
      std::numeric_limits<std::uint32_t>::max(),
      std::uint64_t{1} << 31,
      std::numeric_limits<std::uint64_t>::max() - 31};
  const ScratchFolder folder;
  const auto path = write_small_model(folder);
  const std::size_t end = header_bytes(path);
  DamagedFile file(folder, read_file(path));
  reset_largest_allocation();
  for (std::size_t at = 0; at + 8 <= end; ++at) {
    for (std::uint64_t value : kExtremes) {
      file.overwrite(at, {reinterpret_cast<const char*>(&value), sizeof value});
      try_open(file.path());
    }
    file.restore(at, 8);
  }
  CHECK(largest_allocation() < 64 * 1024);
  CHECK(try_open(file.path()));
}

TEST_CASE("any changed byte of a real vocabulary is harmless") {
  const ScratchFolder folder;
  DamagedFile file(folder, read_file(test_model("tiny-vocab-only.gguf")));
  reset_largest_allocation();
  for (std::size_t at = 0; at < file.bytes().size(); ++at) {
    for (unsigned flip : {0x01u, 0x80u, 0xffu}) {
      const auto byte = static_cast<unsigned char>(file.bytes()[at]);
      file.overwrite(at, std::string(1, static_cast<char>(byte ^ flip)));
      try_open(file.path());
    }
    file.restore(at, 1);
  }
  CHECK(largest_allocation() < 256 * 1024);
  CHECK(try_open(file.path()));
}

}  // namespace
}  // namespace ktjit::model
