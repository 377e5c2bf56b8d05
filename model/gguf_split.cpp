#include "model/gguf_split.h"

#include <fmt/format.h>

namespace ktjit::model {
namespace {

constexpr std::size_t kDigits = 5;

// Takes `kDigits` digits off the end of `text`.
std::optional<int> take_number(std::string_view& text) {
  if (text.size() < kDigits) return std::nullopt;
  int number = 0;
  for (char digit : text.substr(text.size() - kDigits)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    number = 10 * number + (digit - '0');
  }
  text.remove_suffix(kDigits);
  return number;
}

bool take_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

}  // namespace

std::optional<SplitName> parse_split_name(std::string_view file_name) {
  std::string_view rest = file_name;
  if (!take_suffix(rest, ".gguf")) return std::nullopt;
  const std::optional<int> count = take_number(rest);
  if (!count || !take_suffix(rest, "-of-")) return std::nullopt;
  const std::optional<int> number = take_number(rest);
  if (!number || !take_suffix(rest, "-")) return std::nullopt;
  if (*number < 1 || *number > *count) return std::nullopt;
  return SplitName{std::string(rest), *number, *count};
}

std::string split_file_name(const SplitName& part) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", part.prefix, part.number, part.count);
}

}  // namespace ktjit::model
