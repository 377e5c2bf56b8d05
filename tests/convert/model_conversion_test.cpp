// Conversions through the CPU's kernels and the simulator's: killed at every write, checked, refused.
#include "convert/model_conversion.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

#include "convert/conversion_plan.h"
#include "convert/verify.h"

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/toolchain.h"
#include "model/gguf_writer.h"
#include "model/open_model.h"
#include "model/output_file.h"
#include "model/safetensors_writer.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit::convert {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using test::ScratchFolder;

/// What a test throws where a process would be killed.
struct Killed {};

class ConvertFixture {
 public:
  ConvertFixture() : toolchain_(options(scratch_), {}), device_(toolchain_.open_device("cpu")) {}

  const fs::path& path() const { return scratch_.path(); }
  const ScratchFolder& scratch() const { return scratch_; }

  /// A llama of two layers: f32 matrices, heads of 32 rows, norms.
  fs::path make_llama(std::string_view name = "llama.gguf") const {
    const fs::path file = path() / name;
    model::GgufWriter writer(file);
    writer.set("general.architecture", "llama");
    writer.set("llama.block_count", 1u);
    writer.set("llama.embedding_length", 96u);
    writer.set("llama.attention.head_count", 4u);
    writer.set("llama.attention.head_count_kv", 2u);
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0, 0.05f);
    std::vector<std::vector<float>> kept;
    const auto add = [&](const std::string& tensor, std::vector<std::int64_t> ne) {
      std::int64_t count = 1;
      for (const std::int64_t extent : ne) count *= extent;
      std::vector<float>& values = kept.emplace_back(static_cast<std::size_t>(count));
      for (float& value : values) value = normal(random);
      writer.add_tensor(tensor, FormatId::kF32, ne, [&values](const model::ByteSink& sink) {
        sink(std::as_bytes(std::span(values)));
      });
    };
    kept.reserve(16);
    add("token_embd.weight", {96, 50});
    add("blk.0.attn_norm.weight", {96});
    add("blk.0.attn_q.weight", {96, 128});
    add("blk.0.attn_k.weight", {96, 64});
    add("blk.0.attn_v.weight", {96, 64});
    add("blk.0.attn_output.weight", {128, 96});
    add("blk.0.ffn_up.weight", {96, 333});
    add("output.weight", {96, 50});
    writer.finish();
    return file;
  }

  ConvertRequest request(const model::Model& input, const WeightFormat& to) const {
    ConvertRequest request;
    request.input = &input;
    request.choose = choose_linears(to, false);
    request.shard_bytes = 40'000;
    return request;
  }

  ConvertResult run(const Conversion& conversion, const fs::path& output,
                    ConvertOptions options = {}) {
    options.threads = 2;
    if (options.batch_bytes > 20'000) options.batch_bytes = 20'000;
    return run_conversion(toolchain_.engine(), *device_, toolchain_.get_target("cpu"), conversion,
                          output, options);
  }

  Toolchain& toolchain() { return toolchain_; }

 private:
  static Options options(const ScratchFolder& scratch) {
    Options options;
    options.cache_dir = scratch.path() / "cache";
    options.worker = KTJIT_WORKER_PATH;
    return options;
  }

  ScratchFolder scratch_;
  Toolchain toolchain_;
  std::unique_ptr<runtime::Device> device_;
};

/// Every file of a folder.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().filename()] = {std::istreambuf_iterator<char>(file),
                                      std::istreambuf_iterator<char>()};
  }
  return files;
}

const WeightFormat kFp8{FormatId::kFp8E4M3, ScaleGrid{128, 128}};
const WeightFormat kTensorScale{FormatId::kFp8E4M3, ScaleGrid{0, 0}};

}  // namespace

TEST_CASE(
    "a conversion that is killed at any write and run again gives the bytes of an unbroken one") {
  ConvertFixture fixture;
  const model::Model input = model::open_model(fixture.make_llama());
  for (const WeightFormat& to : {kFp8, kTensorScale, get_weight_format("nvfp4")}) {
    CAPTURE(scale_grid_name(to.scale));
    const Conversion conversion = plan_conversion(fixture.request(input, to));
    const fs::path whole = fixture.path() / "whole";
    fs::remove_all(whole);
    std::atomic<int> writes = 0;
    ConvertOptions counting;
    counting.before_write = [&] { ++writes; };
    fixture.run(conversion, whole, counting);
    REQUIRE(writes > 10);
    const auto expected = contents(whole);
    CHECK(expected.size() > 3);  // shards, index, config.json
    for (int at = 0; at < writes; ++at) {
      CAPTURE(at);
      const fs::path output = fixture.path() / "broken";
      fs::remove_all(output);
      std::atomic<int> left = at;
      ConvertOptions killing;
      killing.before_write = [&] {
        if (left-- <= 0) throw Killed();
      };
      REQUIRE_THROWS_AS(fixture.run(conversion, output, killing), Killed);
      CHECK_FALSE(fs::exists(output));
      fixture.run(conversion, output);
      CHECK(contents(output) == expected);
    }
  }
}

TEST_CASE("what an earlier run has done is not done again") {
  ConvertFixture fixture;
  const model::Model input = model::open_model(fixture.make_llama());
  const Conversion conversion = plan_conversion(fixture.request(input, kFp8));
  std::atomic<int> left = 15;
  ConvertOptions killing;
  killing.before_write = [&] {
    if (left-- <= 0) throw Killed();
  };
  REQUIRE_THROWS_AS(fixture.run(conversion, fixture.path() / "out", killing), Killed);
  const ConvertResult result = fixture.run(conversion, fixture.path() / "out");
  CHECK(result.resumed_bytes > 0);
  CHECK(result.resumed_bytes + result.input_bytes == conversion.input_bytes());
}

TEST_CASE("remains are not taken up when the input has changed") {
  ConvertFixture fixture;
  const fs::path file = fixture.make_llama();
  std::atomic<int> left = 15;
  ConvertOptions killing;
  killing.before_write = [&] {
    if (left-- <= 0) throw Killed();
  };
  {
    const model::Model input = model::open_model(file);
    REQUIRE_THROWS_AS(
        fixture.run(plan_conversion(fixture.request(input, kFp8)), fixture.path() / "out", killing),
        Killed);
  }
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
  const model::Model input = model::open_model(file);
  const ConvertResult result =
      fixture.run(plan_conversion(fixture.request(input, kFp8)), fixture.path() / "out");
  CHECK(result.resumed_bytes == 0);
  CHECK(result.replaced_other_plan);
}

TEST_CASE("stopped work says so and is kept") {
  ConvertFixture fixture;
  const model::Model input = model::open_model(fixture.make_llama());
  const Conversion conversion = plan_conversion(fixture.request(input, kFp8));
  std::stop_source source;
  ConvertOptions options;
  options.stop = source.get_token();
  options.on_progress = [&](std::uint64_t, std::uint64_t) { source.request_stop(); };
  CHECK_THROWS_AS(fixture.run(conversion, fixture.path() / "out", options), InterruptedError);
  CHECK_FALSE(fs::exists(fixture.path() / "out"));
  fixture.run(conversion, fixture.path() / "out");
  CHECK(fs::exists(fixture.path() / "out" / "config.json"));
}

TEST_CASE("the check finds a byte that was changed") {
  ConvertFixture fixture;
  const model::Model input = model::open_model(fixture.make_llama());
  ConvertRequest request = fixture.request(input, kFp8);
  request.kind = OutputKind::kFile;
  request.file_name = "out.safetensors";
  const Conversion conversion = plan_conversion(request);
  const fs::path output = fixture.path() / "out.safetensors";
  fixture.run(conversion, output);
  CHECK(verify_conversion(conversion, model::open_model(output), {}).ok);
  for (std::size_t job = 0; job < conversion.jobs.size(); ++job) {
    CAPTURE(conversion.tensors[job].name);
    const auto at = static_cast<std::streamoff>(conversion.places[job][0].offset + 1);
    std::fstream file(output, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char before = static_cast<char>(file.get());
    file.seekp(at);
    file.put(static_cast<char>(before ^ 0x20));
    file.close();
    const VerifyReport report = verify_conversion(conversion, model::open_model(output), {});
    CHECK_FALSE(report.ok);
    CHECK_FALSE(report.tensors[job].problem.empty());
    std::fstream again(output, std::ios::in | std::ios::out | std::ios::binary);
    again.seekp(at);
    again.put(before);
  }
}

TEST_CASE("the simulated GPU writes the CPU's bytes") {
  ConvertFixture fixture;
  const model::Model input = model::open_model(fixture.make_llama());
  const auto simulator = fixture.toolchain().open_device("sim");
  for (const char* format : {"mxfp8_e4m3", "bf16", "fp8_e4m3"}) {
    const WeightFormat to =
        std::string_view(format) == "fp8_e4m3" ? kFp8 : get_weight_format(format);
    const Conversion conversion = plan_conversion(fixture.request(input, to));
    const fs::path cpu = fixture.path() / fmt::format("cpu-{}", format);
    const fs::path sim = fixture.path() / fmt::format("sim-{}", format);
    fixture.run(conversion, cpu);
    ConvertOptions options;
    options.threads = 1;
    run_conversion(fixture.toolchain().engine(), *simulator,
                   fixture.toolchain().get_target("sm_86"), conversion, sim, options);
    CHECK(contents(cpu) == contents(sim));
  }
}

TEST_CASE("a llama's q and k rows change their order with the names, in every format") {
  ConvertFixture fixture;
  const model::Model input = model::open_model(fixture.make_llama());
  for (const WeightFormat& to :
       {WeightFormat{FormatId::kF32, {}}, WeightFormat{FormatId::kBF16, {}}, kFp8}) {
    ConvertRequest request = fixture.request(input, to);
    request.names = Naming::kHuggingFace;
    const Conversion conversion = plan_conversion(request);
    const fs::path output = fixture.path() / fmt::format("hf-{}", to.name());
    fixture.run(conversion, output);
    const model::Model written = model::open_model(output);
    CHECK(verify_conversion(conversion, written, {}).ok);
    if (to.id != FormatId::kF32) continue;
    const model::TensorInfo& before = input.get_tensor("blk.0.attn_q.weight");
    const model::TensorInfo& after = written.get_tensor("model.layers.0.self_attn.q_proj.weight");
    const std::size_t row_bytes = 96 * sizeof(float);
    // Head 1, rows 32 to 63: Hugging Face's row 33 is the first half's second, llama.cpp's row 34.
    CHECK(std::ranges::equal(after.data.subspan(33 * row_bytes, row_bytes),
                             before.data.subspan(34 * row_bytes, row_bytes)));
    CHECK(std::ranges::equal(after.data.subspan(48 * row_bytes, row_bytes),
                             before.data.subspan(33 * row_bytes, row_bytes)));
    // And back they are the input's.
    ConvertRequest back = fixture.request(written, to);
    back.container = Container::kGguf;
    back.kind = OutputKind::kFile;
    back.file_name = "back.gguf";
    fixture.run(plan_conversion(back), fixture.path() / "back.gguf");
    const model::Model gguf = model::open_model(fixture.path() / "back.gguf");
    CHECK(std::ranges::equal(gguf.get_tensor("blk.0.attn_q.weight").data, before.data));
    CHECK(gguf.metadata().find_uint("llama.attention.head_count") == 4u);
  }
}

TEST_CASE("what can't be converted is refused by the tensor's name") {
  ConvertFixture fixture;
  const model::Model input = model::open_model(fixture.make_llama());
  const auto plan = [&](const char* format) {
    return plan_conversion(fixture.request(input, get_weight_format(format)));
  };
  CHECK_THROWS_WITH(plan("fp8_e4b15"), Contains("blk.0.attn_q.weight") && Contains("safetensors"));
  CHECK_THROWS_WITH(plan("q8_0"), Contains("blk.0.attn_q.weight") && Contains(".gguf"));
  {
    const fs::path odd = fixture.path() / "odd.safetensors";
    model::SafetensorsWriter writer(odd);
    const std::vector<float> values(3 * 40, 1.0f);
    const std::vector<std::int64_t> shape = {3, 40};
    writer.add_tensor("a.weight", FormatId::kF32, shape, std::as_bytes(std::span(values)));
    writer.finish();
    const model::Model model = model::open_model(odd);
    CHECK_THROWS_WITH(plan_conversion(fixture.request(model, get_weight_format("mxfp4"))),
                      Contains("a.weight") && Contains("40 columns") && Contains("multiple of 32"));
    ConvertRequest request = fixture.request(model, kFp8);
    request.names = Naming::kGguf;
    CHECK_THROWS_AS(plan_conversion(request), InputError);
  }
  {
    const fs::path infinite = fixture.path() / "infinite.safetensors";
    model::SafetensorsWriter writer(infinite);
    std::vector<float> values(4 * 64, 1.0f);
    values[100] = INFINITY;
    const std::vector<std::int64_t> shape = {4, 64};
    writer.add_tensor("a.weight", FormatId::kF32, shape, std::as_bytes(std::span(values)));
    writer.finish();
    const model::Model model = model::open_model(infinite);
    for (const WeightFormat& to :
         {kFp8, get_weight_format("mxfp8_e4m3"),
          WeightFormat{FormatId::kFp8E4M3, ScaleGrid{1, 0, ScaleType::kBF16}}}) {
      const Conversion conversion = plan_conversion(fixture.request(model, to));
      CHECK_THROWS_AS(fixture.run(conversion, fixture.path() / "never"), InputError);
      CHECK_FALSE(fs::exists(fixture.path() / "never"));
    }
  }
}

TEST_CASE("an output that is the input's, holds it, or is there is refused") {
  ConvertFixture fixture;
  const fs::path folder = fixture.scratch().write("in/note.txt", "").parent_path();
  const fs::path file = fixture.make_llama("in/llama.gguf");
  const model::Model input = model::open_model(file);
  CHECK_THROWS_AS(check_output(file, OutputKind::kFile, {&input}, true), SpecError);
  CHECK_THROWS_AS(check_output(folder, OutputKind::kFolder, {&input}, true), SpecError);
  CHECK_THROWS_AS(
      check_output(fixture.path() / "in/../in/llama.gguf", OutputKind::kFile, {&input}, true),
      SpecError);
  fixture.scratch().write("other/a.safetensors", "");
  CHECK_THROWS_WITH(check_output(fixture.path() / "other", OutputKind::kFolder, {&input}, false),
                    Contains("--force"));
  CHECK_NOTHROW(check_output(fixture.path() / "other", OutputKind::kFolder, {&input}, true));
  fixture.scratch().write("home/deep/file", "");
  CHECK_THROWS_AS(check_output(fixture.path() / "home", OutputKind::kFolder, {&input}, true),
                  SpecError);
  fixture.scratch().write("papers/thesis.txt", "");
  CHECK_THROWS_AS(check_output(fixture.path() / "papers", OutputKind::kFolder, {&input}, true),
                  SpecError);
  CHECK_THROWS_AS(
      check_output(fixture.path() / "nowhere/out", OutputKind::kFolder, {&input}, false),
      SpecError);
  CHECK_NOTHROW(check_output(fixture.path() / "new", OutputKind::kFolder, {&input}, false));
}

}  // namespace ktjit::convert
