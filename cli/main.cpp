// The program `ktjit`: finds the verb, runs it, and turns errors into a message and an exit code.
#include <algorithm>
#include <array>
#include <csignal>
#include <exception>
#include <fmt/format.h>
#include <string>
#include <string_view>
#include <vector>

#include "cli/argument_parser.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace ktjit::cli {
namespace {

struct Verb {
  std::string_view name;
  std::string_view summary;
  int (*run)(const Arguments& arguments);
};

constexpr std::array kVerbs = {
    Verb{"doctor", "what this machine has, what is missing, and how FP8 is lowered on which GPU",
         run_doctor},
    Verb{"sample", "write a small model to try things on", run_sample},
    Verb{"inspect", "metadata, tensors, formats and sizes of a model", run_inspect},
    Verb{"plan", "which kernels a model needs on a target, and whether it fits", run_plan},
    Verb{"build", "compile them all into the cache", run_build},
    Verb{"run", "run every kernel on the real tensors, and check the results", run_run},
    Verb{"tune", "measure the kernels' knobs on this device, and keep the fastest", run_tune},
    Verb{"bench", "the steady speed of kernels, beside what the memory gives", run_bench},
    Verb{"exec", "one op on one tensor, from file to file", run_exec},
    Verb{"convert", "write a model in another format: FP8, MX, 16 bits, the FP8 + GGUF hybrid",
         run_convert},
    Verb{"emit", "print a kernel: spec, source, PTX, SASS, assembly, resources", run_emit},
    Verb{"cache", "look after the kernel cache", run_cache},
};

std::string help_text() {
  std::string text =
      "Usage: ktjit VERB [arguments]\n\n"
      "Kernels for quantised models, compiled for exactly the tensors of a model on exactly this\n"
      "chip: any GPU from Pascal on, or the CPU.\n\nVerbs:\n";
  for (const Verb& verb : kVerbs) text += fmt::format("  {:<8}  {}\n", verb.name, verb.summary);
  return text +
         "\n'ktjit VERB --help' has the options, exit codes and an example of each; "
         "'ktjit --version'\nprints the version.\n\n"
         "First steps:\n  ktjit sample sample.gguf\n  ktjit run sample.gguf\n";
}

std::vector<std::string> verb_names() {
  std::vector<std::string> names;
  for (const Verb& verb : kVerbs) names.emplace_back(verb.name);
  return names;
}

int run_verb(const std::string& name, const Arguments& arguments) {
  for (const Verb& verb : kVerbs) {
    if (verb.name == name) return verb.run(arguments);
  }
  const std::string hint = closest_name_hint(name, verb_names());
  throw UsageError(
      fmt::format("unknown {} '{}'", name.starts_with("-") ? "option" : "verb", name),
      hint.empty() ? fmt::format("the verbs are {}", fmt::join(verb_names(), ", ")) : hint);
}

int run_command(const Arguments& arguments) {
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h") {
    print(help_text());
    return kDone;
  }
  if (first == "--version") {
    print("ktjit " KTJIT_VERSION "\n");
    return kDone;
  }
  return run_verb(first, {arguments.begin() + 1, arguments.end()});
}

int run_guarded(const Arguments& arguments) {
  if (arguments.empty()) {
    print_to_stderr(help_text());
    return kUsage;
  }
  const bool known = std::any_of(kVerbs.begin(), kVerbs.end(),
                                 [&](const Verb& verb) { return verb.name == arguments.front(); });
  const std::string who = known ? fmt::format("ktjit {}", arguments.front()) : "ktjit";
  try {
    const int code = run_command(arguments);
    flush_output();
    return code;
  } catch (const BrokenPipe&) {
    return kBrokenPipe;
  } catch (const std::exception& error) {
    print_to_stderr(fmt::format("{}: {}", who, error.what()));
    return exit_code_of(error);
  }
}

}  // namespace
}  // namespace ktjit::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // writes then fail with EPIPE, which output.h handles
  std::signal(SIGXFSZ, SIG_IGN);  // writes beyond `ulimit -f` then fail as those to a full disk do
  return ktjit::cli::run_guarded({argv + 1, argv + argc});
}
