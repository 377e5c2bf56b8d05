// What Clang lacks of the CUDA language when no CUDA header is included: the names that NVRTC has
// built in. Part of the compiler's identity.
#pragma once

#include <string>
#include <string_view>

namespace ktjit {

/// All of it, in pieces. A line "//@ NAME..." begins a piece, for texts that use one of the names;
/// what lies before the first is for every text.
std::string_view clang_cuda_prelude();

/// The pieces that `source` needs. Reading all of them takes Clang half as long as a small kernel.
std::string clang_cuda_prelude_for(std::string_view source);

}  // namespace ktjit
