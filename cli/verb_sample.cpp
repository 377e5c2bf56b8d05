// ktjit sample: writes a sample model or checkpoint.
#include <filesystem>
#include <fmt/format.h>

#include "cli/argument_parser.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "model/open_model.h"
#include "model/sample_checkpoint.h"
#include "model/sample_model.h"

namespace po = boost::program_options;

namespace ktjit::cli {

int run_sample(const Arguments& arguments) {
  constexpr std::string_view kGguf = "gguf";
  std::string path;
  std::string kind;
  ArgumentParser parser(
      {"sample OUT [--kind KIND]",
       "Writes a small model of noise, the same bytes every time.\n"
       "  gguf          OUT is a file: five llama-like layers, about 2.3 MB, with tensors of "
       "every\n"
       "                format of GGUF; an older file is replaced\n"
       "  deepseek-fp8  OUT is a new or empty folder: a DeepSeek-V3-like checkpoint of two "
       "layers,\n"
       "                FP8 with 128x128 scales, in shards with an index and config.json\n"
       "  hybrid        the same as KTransformers' merge script writes it: GGUF's names, routed\n"
       "                experts as q4_K and q6_K bytes\n"
       "  mixed         FP8 safetensors, and the routed experts as a GGUF file beside them\n",
       exit_code_help("the model is written"),
       "ktjit sample sample.gguf\n  ktjit sample --kind deepseek-fp8 sample-fp8"});
  parser.add_positional("OUT", &path);
  parser.add_options()("kind",
                       po::value(&kind)->value_name("KIND")->default_value(std::string(kGguf)),
                       "gguf, deepseek-fp8, hybrid or mixed");
  if (!parser.parse(arguments)) return kDone;
  if (path.empty()) throw UsageError("OUT is missing");
  if (kind == kGguf) {
    model::write_sample_model(path);
  } else {
    model::write_sample_checkpoint(path, model::get_sample_kind(kind));
  }
  print(fmt::format("wrote {}, {}; 'ktjit run {}' runs its kernels\n", path,
                    human_bytes(model::open_model(path).file_bytes()), path));
  return kDone;
}

}  // namespace ktjit::cli
