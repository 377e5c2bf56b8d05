// Models prepared for a target and restored, through files: every tensor comes back byte for byte, and what can't come back
// stays native.
#include "convert/prepare_model.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/reference_prepared.h"
#include "jit/toolchain.h"
#include "model/open_model.h"
#include "model/sample_model.h"
#include "tests/jit/made_model.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/kernel_inputs.h"

namespace ktjit::convert {
namespace {

struct Bench {
  test::ScratchFolder folder;
  Toolchain toolchain{[this] {
                        Options options;
                        options.cache_dir = folder.path() / "cache";
                        options.worker = KTJIT_WORKER_PATH;
                        return options;
                      }(),
                      {}};
  std::unique_ptr<runtime::Device> cpu = toolchain.open_device("cpu");

  std::string path(const char* name) const { return (folder.path() / name).string(); }

  void write(const Conversion& conversion, const char* name) {
    run_conversion(toolchain.engine(), *cpu, cpu->native_target(), conversion, path(name), {});
  }

  model::Model prepare(const model::Model& input, const char* name, PreparedOutput output = {}) {
    write(plan_prepare(toolchain.engine(), input, make_cuda_target(86), output), name);
    return model::open_model(path(name));
  }

  model::Model restore(const model::Model& input, Container container, const char* name) {
    PreparedOutput output;
    if (container == Container::kGguf) output = {OutputKind::kFile, name};
    write(plan_restore(input, container, output), name);
    return model::open_model(path(name));
  }
};

void check_same_tensors(const model::Model& got, const model::Model& want) {
  CHECK(got.tensors().size() == want.tensors().size());
  for (const model::TensorInfo& tensor : want.tensors()) {
    INFO(tensor.name);
    const model::TensorInfo* same = got.find_tensor(tensor.name);
    REQUIRE(same != nullptr);
    CHECK(same->format == tensor.format);
    CHECK(same->layout == LayoutKind::kNative);
    CHECK(same->ne == tensor.ne);
    CHECK(std::ranges::equal(same->data, tensor.data));
  }
}

const ConvertedTensor& find(const Conversion& conversion, std::string_view source) {
  return *std::ranges::find(conversion.tensors, source, &ConvertedTensor::source);
}

}  // namespace

TEST_CASE("a GGUF model is prepared and restored, tensors and metadata the same") {
  Bench bench;
  model::write_sample_model(bench.path("sample.gguf"));
  const model::Model sample = model::open_model(bench.path("sample.gguf"));
  PreparedOutput shards;
  shards.shard_bytes = std::uint64_t{1} << 20;  // three and more
  const model::Model prepared = bench.prepare(sample, "prepared", shards);
  CHECK(prepared.files().size() >= 3);
  CHECK(prepared.tensors().size() == sample.tensors().size());
  int count = 0;
  for (const model::TensorInfo& tensor : sample.tensors()) {
    INFO(tensor.name);
    const model::TensorInfo& there = prepared.get_tensor(tensor.name);
    CHECK(there.format == tensor.format);
    CHECK(there.ne == tensor.ne);
    if (there.layout == LayoutKind::kNative) {
      CHECK((find_prepared_layout(tensor.format) == nullptr || tensor.n_dims < 2));
      CHECK(std::ranges::equal(there.data, tensor.data));
      continue;
    }
    ++count;
    const std::size_t matrices = static_cast<std::size_t>(tensor.ne[2] * tensor.ne[3]);
    std::vector<std::byte> want;
    for (std::size_t i = 0; i < matrices; ++i) {
      const std::size_t bytes = tensor.data.size() / matrices;
      const auto one = prepare_reference({tensor.format,
                                          tensor.ne[1],
                                          tensor.ne[0],
                                          tensor.data.subspan(i * bytes, bytes),
                                          {},
                                          {}});
      want.insert(want.end(), one.begin(), one.end());
    }
    CHECK(std::ranges::equal(there.data, want));
  }
  CHECK(count >= 10);

  check_same_tensors(bench.restore(prepared, Container::kSafetensors, "native"), sample);
  const model::Model back = bench.restore(prepared, Container::kGguf, "again.gguf");
  check_same_tensors(back, sample);
  REQUIRE(back.metadata().entries().size() == sample.metadata().entries().size());
  for (const auto& [key, value] : sample.metadata().entries()) {
    INFO(key);
    const model::MetadataValue* same = back.metadata().find(key);
    REQUIRE(same != nullptr);
    CHECK(*same == value);
  }
}

TEST_CASE("every format that has a prepared layout comes back through files") {
  Bench bench;
  test::MadeModel made;
  std::mt19937 random(3);
  std::size_t formats = 0;
  for (const Format& format : all_formats()) {
    if (find_prepared_layout(format.id) == nullptr) continue;
    ++formats;
    const std::int64_t cols = format.block_elems == 256 ? 768 : 640, rows = 37;
    const std::int64_t matrices = formats % 3 == 0 ? 3 : 1;
    model::TensorInfo& tensor =
        made.add(std::string(format.name) + ".weight", format.id, rows, cols, matrices);
    tensor.data = made.keep(test::make_weights(format.id, rows * matrices, cols, random));
    if (const auto grid = fixed_scale_grid(format.id)) {
      tensor.scale_grid = grid;
      tensor.scale_data = made.keep(test::make_scales(*grid, rows * matrices, cols, random));
    }
  }
  CHECK(formats == 27);
  made.add("norm.weight", FormatId::kF32, 1, 64);
  const model::Model model = made.make();
  const model::Model prepared = bench.prepare(model, "prepared");
  for (const model::TensorInfo& tensor : prepared.tensors()) {
    INFO(tensor.name);
    CHECK((tensor.layout == LayoutKind::kPrepared) == (tensor.name != "norm.weight"));
  }
  const Conversion back = plan_restore(prepared, Container::kSafetensors, {});
  bench.write(back, "native");
  const model::Model native = model::open_model(bench.path("native"));
  for (const model::TensorInfo& tensor : model.tensors()) {
    INFO(tensor.name);
    if (!tensor.scale_grid) {
      CHECK(std::ranges::equal(native.get_tensor(tensor.name).data, tensor.data));
      continue;
    }
    // Under the name that the format's codes have in safetensors.
    const auto& same = *std::ranges::find_if(
        native.tensors(), [&](const model::TensorInfo& t) { return t.format == tensor.format; });
    CHECK(std::ranges::equal(same.data, tensor.data));
    CHECK(std::ranges::equal(same.scale_data, tensor.scale_data));
  }
}

TEST_CASE("weights with bytes that would come back as others stay native, with the reason") {
  Bench bench;
  test::MadeModel made;
  std::mt19937 random(5);
  const auto add = [&](const char* name, FormatId format) -> model::TensorInfo& {
    model::TensorInfo& tensor = made.add(name, format, 20, 256);
    tensor.data = made.keep(test::make_weights(format, 20, 256, random));
    if (const auto grid = fixed_scale_grid(format)) {
      tensor.scale_grid = grid;
      tensor.scale_data = made.keep(test::make_scales(*grid, 20, 256, random));
    }
    return tensor;
  };
  const auto with = [&](std::span<const std::byte> bytes, std::size_t at, int value) {
    std::vector<std::byte> changed(bytes.begin(), bytes.end());
    changed[at] = static_cast<std::byte>(value);
    return made.keep(std::move(changed));
  };
  add("plain.weight", FormatId::kQ4_0);
  auto& tq1_0 = add("tq1_0.weight", FormatId::kTQ1_0);
  tq1_0.data = with(tq1_0.data, 19 * 54, 1);  // 243 numbers of five digits leave 13 bytes over
  auto& ggml_nvfp4 = add("ggml_nvfp4.weight", FormatId::kGgmlNvfp4);
  ggml_nvfp4.data = with(ggml_nvfp4.data, 36, 0x80);
  auto& nvfp4 = add("nvfp4.weight", FormatId::kNvfp4);
  nvfp4.scale_data = with(nvfp4.scale_data, 40, 0xb0);
  const model::Model model = made.make();
  const Conversion plan = plan_prepare(bench.toolchain.engine(), model, make_cuda_target(75), {});
  CHECK(find(plan, "plain.weight").reason.empty());
  for (const char* name : {"tq1_0.weight", "ggml_nvfp4.weight", "nvfp4.weight"}) {
    INFO(name);
    CHECK_THAT(find(plan, name).reason, Catch::Contains("come back as others"));
  }
  bench.write(plan, "prepared");
  const model::Model prepared = model::open_model(bench.path("prepared"));
  CHECK(std::ranges::equal(prepared.get_tensor("tq1_0.weight").data,
                           model.get_tensor("tq1_0.weight").data));
}

TEST_CASE("preparing what can't be prepared, and restoring what isn't, are errors") {
  Bench bench;
  model::write_sample_model(bench.path("sample.gguf"));
  const model::Model sample = model::open_model(bench.path("sample.gguf"));
  Engine& engine = bench.toolchain.engine();
  for (const char* target : {"sm_60", "cpu:x86-64-v3"})
    CHECK_THROWS_AS(plan_prepare(engine, sample, parse_target(target, {}), {}), SpecError);
  CHECK_THROWS_AS(plan_restore(sample, Container::kSafetensors, {}), SpecError);
  const model::Model prepared = bench.prepare(sample, "prepared");
  CHECK_THROWS_AS(plan_prepare(engine, prepared, make_cuda_target(86), {}), SpecError);
  test::MadeModel plain;
  plain.add("w.weight", FormatId::kBF16, 16, 64);
  const model::Model floats = plain.make();
  CHECK_THROWS_AS(plan_prepare(engine, floats, make_cuda_target(86), {}), SpecError);

  // A file that ends early is none.
  const std::string file = bench.path("prepared") + "/model.safetensors";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  CHECK_THROWS_AS(model::open_model(bench.path("prepared")), InputError);
}

}  // namespace ktjit::convert
