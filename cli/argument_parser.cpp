#include "cli/argument_parser.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>
#include <sstream>
#include <utility>

#include "cli/exit_code.h"
#include "cli/output.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

constexpr unsigned kHelpColumns = 98;

/// Levenshtein's: insertions, deletions and substitutions that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string closest_name_hint(std::string_view given, const std::vector<std::string>& known) {
  constexpr std::size_t kLongest = 64;  // the search is quadratic in the length
  const std::string* closest = nullptr;
  std::size_t least = given.size() / 3 + 2;
  for (const std::string& name : known) {
    const bool begins = given.size() > 2 && name.starts_with(given);
    const std::size_t distance = begins ? 0 : edit_distance(given.substr(0, kLongest), name);
    if (distance < least) {
      least = distance;
      closest = &name;
    }
  }
  return closest == nullptr ? "" : fmt::format("did you mean '{}'?", *closest);
}

ArgumentParser::ArgumentParser(VerbHelp help)
    : help_(std::move(help)), visible_("Options", kHelpColumns, kHelpColumns / 2) {}

po::options_description_easy_init ArgumentParser::add_options() { return visible_.add_options(); }

void ArgumentParser::add_positional(const char* name, std::string* value) {
  hidden_.add_options()(name, po::value(value));
  positional_.add(name, 1);
}

void ArgumentParser::add_flag(const char* name, bool* value, const char* description) {
  visible_.add_options()(name, po::bool_switch(value), description);
}

std::string ArgumentParser::help_text() const {
  std::ostringstream options;
  options << visible_;
  return fmt::format("Usage: ktjit {}\n\n{}\n{}\nExit codes:\n{}\nExample:\n  {}\n", help_.usage,
                     help_.description, options.str(), help_.exit_codes, help_.example);
}

void ArgumentParser::refuse_option(std::string option) const {
  std::vector<std::string> known;
  for (const auto& description : visible_.options()) {
    known.push_back("--" + description->long_name());
  }
  std::string hint = closest_name_hint(option, known);
  if (hint.empty()) {
    hint = fmt::format("'ktjit {} --help' lists the options",
                       help_.usage.substr(0, help_.usage.find(' ')));
  }
  throw UsageError(fmt::format("unknown option '{}'", option), hint);
}

bool ArgumentParser::parse(const std::vector<std::string>& arguments) {
  bool help = false;
  visible_.add_options()("help,h", po::bool_switch(&help), "print this text");
  po::options_description all;
  all.add(visible_).add(hidden_);
  constexpr int kStyle =
      po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
  try {
    po::variables_map values;
    po::store(
        po::command_line_parser(arguments).options(all).positional(positional_).style(kStyle).run(),
        values);
    po::notify(values);
  } catch (const po::unknown_option& error) {
    refuse_option(error.get_option_name());
  } catch (const po::too_many_positional_options_error&) {
    throw UsageError("too many arguments", fmt::format("usage: ktjit {}", help_.usage));
  } catch (const po::error& error) {
    throw UsageError(error.what());
  }
  if (help) print(help_text());
  return !help;
}

}  // namespace ktjit::cli
