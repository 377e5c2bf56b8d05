// Reads, compares or rewrites golden files.
#include "tests/support/golden_text.h"

#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

namespace ktjit::test {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(KTJIT_SOURCE_DIR) / "tests" / "golden";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

std::optional<std::string> difference_from_golden(const std::string& path,
                                                  const std::string& text) {
  const std::filesystem::path file = kFolder / path;
  if (const char* update = std::getenv("KTJIT_UPDATE_GOLDEN");
      update != nullptr && std::string_view(update) == "1") {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return std::nullopt;
  }
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return fmt::format("{} is missing; KTJIT_UPDATE_GOLDEN=1 writes it", path);
  const std::string golden{std::istreambuf_iterator<char>(stream),
                           std::istreambuf_iterator<char>()};
  if (golden == text) return std::nullopt;

  const std::vector<std::string> want = lines_of(golden), got = lines_of(text);
  std::size_t line = 0;
  while (line < want.size() && line < got.size() && want[line] == got[line]) ++line;
  std::string message = fmt::format("{}, line {}:\n", path, line + 1);
  for (std::size_t i = line < 2 ? 0 : line - 2; i < line; ++i)
    message += fmt::format("    {}\n", want[i]);
  message += fmt::format("  - {}\n", line < want.size() ? want[line] : "(end of file)");
  message += fmt::format("  + {}\n", line < got.size() ? got[line] : "(end of text)");
  for (std::size_t i = line + 1; i < line + 3 && i < want.size(); ++i)
    message += fmt::format("    {}\n", want[i]);
  return message;
}

}  // namespace ktjit::test
