#include "jit/byte_size.h"

#include <cctype>
#include <charconv>
#include <cmath>

namespace ktjit {

std::optional<std::uint64_t> parse_byte_size(std::string_view text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (error != std::errc() || !(value > 0) || !std::isfinite(value)) return std::nullopt;
  std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  if (!unit.empty()) {
    const std::size_t power = std::string_view("BKMGT").find(
        static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front()))));
    if (power == std::string_view::npos) return std::nullopt;
    unit.remove_prefix(1);
    if (!unit.empty() && (power == 0 || (unit != "B" && unit != "iB" && unit != "b"))) {
      return std::nullopt;
    }
    value *= std::pow(1024.0, static_cast<double>(power));
  }
  constexpr double kLargest = 0x1p62;
  if (value > kLargest) return std::nullopt;
  return static_cast<std::uint64_t>(value);
}

}  // namespace ktjit
