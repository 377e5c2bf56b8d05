// Conversions on a real GPU: codes and scales are those of the plain reference, whatever the format before.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fmt/format.h>

#include "convert/conversion_plan.h"

#include "jit/ruled_model.h"
#include "jit/toolchain.h"
#include "model/open_model.h"
#include "model/sample_model.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit::convert {

TEST_CASE("a conversion on a GPU writes the codes and scales of the reference") {
  const test::ScratchFolder scratch;
  Options options;
  options.cache_enabled = false;
  Toolchain toolchain(options, [](std::string_view) {});
  const auto device = toolchain.open_device("cuda");
  const std::filesystem::path sample = scratch.path() / "sample.gguf";
  model::write_sample_model(sample);
  const model::Model input = model::open_model(sample);
  for (const char* name : {"fp8_e4m3", "mxfp8_e4m3", "mxfp4", "bf16"}) {
    const WeightFormat to = std::string_view(name) == "fp8_e4m3"
                                ? WeightFormat{FormatId::kFp8E4M3, ScaleGrid{128, 128}}
                                : get_weight_format(name);
    ConvertRequest request;
    request.input = &input;
    request.kind = OutputKind::kFile;
    request.file_name = fmt::format("{}.safetensors", name);
    request.choose = choose_linears(to, false);
    const Conversion conversion = plan_conversion(request);
    const std::filesystem::path output = scratch.path() / request.file_name;
    run_conversion(toolchain.engine(), *device, device->native_target(), conversion, output, {});
    const model::Model written = model::open_model(output);
    int converted = 0;
    for (const ConvertedTensor& tensor : conversion.tensors) {
      if (tensor.is_copy || tensor.format != to) continue;
      CAPTURE(name, tensor.source, tensor.from);
      const OwnedTensor expected = convert_tensor(input.get_tensor(tensor.source), to);
      const model::TensorInfo& found = written.get_tensor(tensor.name);
      CHECK(std::ranges::equal(found.data, expected.codes));
      CHECK(std::ranges::equal(found.scale_data, expected.scales));
      ++converted;
    }
    CHECK(converted > 10);
  }
}

}  // namespace ktjit::convert
