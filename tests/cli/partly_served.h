// A checkpoint of which one tensor has kernels and one has none.
#pragma once

#include <string>

#include "tests/cli/cli_fixture.h"

namespace ktjit::test {

/// Writes safetensors with "weights", f32 [4, 16], and "codes", u8 [4, 16], which nothing computes with; its path.
std::string make_partly_served(CliFixture& cli);

}  // namespace ktjit::test
