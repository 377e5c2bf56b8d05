// Looks for instructions in PTX text that some GPU lacks or is slow at.
#pragma once

#include <string>
#include <string_view>

namespace ktjit::test {

/// The first line with arithmetic on f16 or bf16 (conversions, loads and moves are none), or "".
std::string find_f16_arithmetic(std::string_view ptx);

/// The first line with dp4a or dp2a, or "".
std::string find_dp4a(std::string_view ptx);

}  // namespace ktjit::test
