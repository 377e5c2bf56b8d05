// ktjit sample: writes the sample model.
#include <filesystem>
#include <fmt/format.h>

#include "cli/argument_parser.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "model/sample_model.h"

namespace ktjit::cli {

int run_sample(const Arguments& arguments) {
  std::string path;
  ArgumentParser parser(
      {"sample OUT.gguf",
       "Writes a small model: two llama-like layers of noise, about 1.5 MB, with\n"
       "tensors of ten formats. The same bytes every time. An older file is replaced.\n",
       exit_code_help("the file is written"), "ktjit sample sample.gguf"});
  parser.add_positional("OUT.gguf", &path);
  if (!parser.parse(arguments)) return kDone;
  if (path.empty()) throw UsageError("OUT.gguf is missing");
  model::write_sample_model(path);
  print(fmt::format("wrote {}, {}; 'ktjit run {}' runs its kernels\n", path,
                    human_bytes(std::filesystem::file_size(path)), path));
  return kDone;
}

}  // namespace ktjit::cli
