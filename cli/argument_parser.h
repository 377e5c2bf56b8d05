// The command line of one verb: options, help, and hints for what was mistyped.
#pragma once

#include <boost/program_options.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit::cli {

/// What `ktjit VERB --help` says besides the options.
struct VerbHelp {
  std::string usage;        ///< "run MODEL [options]"
  std::string description;  ///< what it does, in lines of at most 98 columns
  std::string exit_codes;   ///< of exit_code_help
  std::string example;      ///< a command line that works
};

class ArgumentParser {
 public:
  explicit ArgumentParser(VerbHelp help);

  /// Adds options as Boost.Program_options does; values are bound to variables that outlive parse.
  boost::program_options::options_description_easy_init add_options();
  /// The next arguments without a dash go to `value`.
  void add_positional(const char* name, std::string* value);
  void add_flag(const char* name, bool* value, const char* description);

  /// False if help was asked for, and printed.
  /// Errors: UsageError with the closest option for one that doesn't exist.
  bool parse(const std::vector<std::string>& arguments);

 private:
  std::string help_text() const;
  [[noreturn]] void refuse_option(std::string option) const;

  VerbHelp help_;
  boost::program_options::options_description visible_;
  boost::program_options::options_description hidden_;
  boost::program_options::positional_options_description positional_;
};

/// "did you mean 'run'?" if one of `known` is close to `given`, else "".
std::string closest_name_hint(std::string_view given, const std::vector<std::string>& known);

}  // namespace ktjit::cli
