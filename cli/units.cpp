#include "cli/units.h"

#include <array>
#include <charconv>
#include <fmt/format.h>

#include "cli/exit_code.h"
#include "jit/byte_size.h"

namespace ktjit::cli {
namespace {

constexpr double kStep = 1024.0;

std::optional<std::int64_t> parse_extent(std::string_view text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < 1) return std::nullopt;
  return value;
}

std::optional<Shape> try_parse_shape(std::string_view text) {
  const std::size_t cross = text.find_first_of("xX");
  if (cross == std::string_view::npos) return std::nullopt;
  const auto rows = parse_extent(text.substr(0, cross));
  const auto cols = parse_extent(text.substr(cross + 1));
  if (!rows || !cols) return std::nullopt;
  return Shape{*rows, *cols};
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / kStep;
  std::size_t unit = 0;
  // 1023.96 would print as 1024.0.
  while (value >= kStep - 0.05 && unit + 1 < kUnits.size()) {
    value /= kStep;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::uint64_t parse_bytes(std::string_view option, std::string_view text) {
  if (const auto bytes = parse_byte_size(text)) return *bytes;
  throw UsageError(fmt::format("{} is '{}'", option, text), "give a size such as 24G or 512M");
}

Shape parse_shape(std::string_view option, std::string_view text) {
  if (const auto shape = try_parse_shape(text)) return *shape;
  throw UsageError(fmt::format("{} is '{}'", option, text),
                   "give rows and columns, such as 4096x14336");
}

ScaleGrid parse_scale_block(std::string_view text, ScaleType type) {
  if (text == "tensor") return {0, 0, type};
  if (text == "row") return {1, 0, type};
  if (const auto shape = try_parse_shape(text)) return {shape->rows, shape->cols, type};
  throw UsageError(
      fmt::format("--scale-block is '{}'", text),
      "give rows and columns that share a scale, such as 128x128, or 'row' or 'tensor'");
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace ktjit::cli
