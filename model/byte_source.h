// How writers of model files are given the bytes of a tensor: in pieces, when they are wanted.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

namespace ktjit::model {

/// Takes the next bytes of a tensor.
using ByteSink = std::function<void(std::span<const std::byte>)>;
/// Gives all bytes of a tensor to the sink, in pieces of any size.
using ByteSource = std::function<void(const ByteSink&)>;

}  // namespace ktjit::model
