// What a file is, told from its first bytes: for the message when a model file is expected and
// something else was given.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace ktjit::model {

bool begins_like_gguf(std::span<const std::byte> bytes);

/// A phrase to follow "is", and advice where there is some: "a safetensors file", "a Git LFS
/// pointer ...". REQUIRES: bytes is the whole file, and does not begin like GGUF.
std::string describe_file(std::span<const std::byte> bytes);

}  // namespace ktjit::model
