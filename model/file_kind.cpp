// Magic numbers: the PKZIP application note, the pickle module's protocol opcodes, safetensors'
// format page, ggml before GGUF (llama.cpp of August 2023), and the formats' own pages for the
// rest.
#include "model/file_kind.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fmt/format.h>
#include <string_view>

#include "model/folder_listing.h"
#include "model/safetensors_format.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

using namespace std::string_view_literals;

struct Magic {
  std::string_view bytes;
  std::string_view description;
};

constexpr std::array kMagics = {
    Magic{"version https://git-lfs"sv,
          "a Git LFS pointer, not the model itself; fetch it with git lfs pull"},
    Magic{"lmgg"sv,
          "a GGML file of before August 2023, older than GGUF; make it again from the "
          "original model"},
    Magic{"tjgg"sv,
          "a GGJT file of before August 2023, older than GGUF; make it again from the "
          "original model"},
    Magic{"fmgg"sv,
          "a GGMF file of before August 2023, older than GGUF; make it again from the "
          "original model"},
    Magic{"algg"sv, "a GGLA adapter of before August 2023, older than GGUF"},
    Magic{"\x89HDF"sv, "an HDF5 file"},
    Magic{"\x93NUMPY"sv, "a NumPy array"},
    Magic{"\x1f\x8b"sv, "a gzip archive; unpack it first"},
    Magic{"\x28\xb5\x2f\xfd"sv, "a zstd archive; unpack it first"},
    Magic{"\xfd"
          "7zXZ"sv,
          "an xz archive; unpack it first"},
    Magic{"7z\xbc\xaf"sv, "a 7-Zip archive; unpack it first"},
    Magic{"\x7f"
          "ELF"sv,
          "a program or a shared library"},
    Magic{"<!DOCTYPE"sv, "a web page; the download went wrong"},
    Magic{"<!doctype"sv, "a web page; the download went wrong"},
    Magic{"<html"sv, "a web page; the download went wrong"},
};

// PROTO (0x80) with protocol 2 to 5, as pickle.dump and torch.save before version 1.6 begin.
bool is_pickle(std::string_view text) {
  return text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5;
}

bool is_text(std::string_view head) {
  // The last sequence of the excerpt may be cut; four bytes at most belong to it.
  while (!head.empty()) {
    const std::size_t bytes = utf8_sequence_bytes(head);
    if (bytes == 0) return head.size() < 4;
    const auto lead = static_cast<unsigned char>(head[0]);
    if (lead < 0x20 && lead != '\n' && lead != '\r' && lead != '\t') return false;
    head.remove_prefix(bytes);
  }
  return true;
}

}  // namespace

const std::string_view kPickleAdvice =
    "a pickle can run any program when it is read, so it is not; save the tensors with Python's "
    "safetensors.torch.save_file, or convert the model with llama.cpp's convert_hf_to_gguf.py";

bool has_pickle_extension(const std::filesystem::path& path) {
  constexpr std::array kExtensions = {".bin"sv, ".pt"sv, ".pth"sv, ".ckpt"sv};
  return std::ranges::any_of(
      kExtensions, [&](std::string_view extension) { return has_extension(path, extension); });
}

bool begins_like_safetensors(std::span<const std::byte> bytes) {
  std::uint64_t length = 0;
  if (bytes.size() <= sizeof length || bytes[sizeof length] != std::byte{'{'}) return false;
  std::memcpy(&length, bytes.data(), sizeof length);
  return length >= 2 && length <= safetensors::kMaxHeaderBytes;
}

bool begins_like_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

std::string describe_file(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.empty()) return "empty (0 bytes)";
  for (const Magic& magic : kMagics) {
    if (text.starts_with(magic.bytes)) return std::string(magic.description);
  }
  if (text.starts_with("PK\x03\x04")) {
    return fmt::format("a zip archive, as torch.save writes (.bin, .pt, .pth, .ckpt); {}",
                       kPickleAdvice);
  }
  if (begins_like_safetensors(bytes)) return "a safetensors file";
  if (is_pickle(text)) {
    return fmt::format("a Python pickle, as older torch.save writes (.bin, .pt, .pth, .ckpt); {}",
                       kPickleAdvice);
  }
  const std::string_view head = text.substr(0, 4096);
  if (std::all_of(head.begin(), head.end(), [](char c) { return c == 0; })) {
    return "filled with zeros at its start, as an unfinished download is";
  }
  const std::string start = escape_text(text.substr(0, 24));
  if (is_text(head)) {
    return fmt::format("{} that begins with '{}'", text[0] == '{' ? "a JSON file" : "a text file",
                       start);
  }
  return fmt::format("of an unknown kind and begins with the bytes '{}'", start);
}

}  // namespace ktjit::model
