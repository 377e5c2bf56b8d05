// What a file is, told from its first bytes: for the message when a model file is expected and
// something else was given.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ktjit::model {

bool begins_like_gguf(std::span<const std::byte> bytes);
/// Eight bytes with a sane length, then a JSON object.
bool begins_like_safetensors(std::span<const std::byte> bytes);

/// What to do with a model that is a Python pickle, which is a program: it isn't read.
extern const std::string_view kPickleAdvice;
/// .bin, .pt, .pth, .ckpt.
bool has_pickle_extension(const std::filesystem::path& path);

/// A phrase to follow "is", and advice where there is some: "a safetensors file", "a Git LFS
/// pointer ...". REQUIRES: bytes is the whole file, and does not begin like GGUF.
std::string describe_file(std::span<const std::byte> bytes);

}  // namespace ktjit::model
