// ktjit exec: what comes out equals the plain reference.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "core/tensor_layout.h"
#include "jit/reference_encode.h"
#include "jit/reference_ops.h"
#include "model/open_model.h"
#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::ScaledTensorView;
using ktjit::test::CliFixture;
using ktjit::test::read_floats;

namespace {

ScaledTensorView view_of(const ktjit::model::TensorInfo& tensor) {
  return {tensor.format, tensor.rows(),     tensor.cols(),
          tensor.data,   tensor.scale_grid, tensor.scale_data};
}

std::vector<std::byte> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::vector<float> decode_all(const ScaledTensorView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.rows * view.cols));
  ktjit::decode_rows(view, 0, view.rows, values);
  return values;
}

std::vector<float> random_floats(std::size_t count) {
  std::mt19937 random(1);
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 512;
  return values;
}

/// Every product within the bound that `run` uses, too.
void check_products(const ScaledTensorView& view, const std::vector<float>& x, int n,
                    const std::vector<float>& y) {
  const std::size_t count = static_cast<std::size_t>(n * view.rows);
  REQUIRE(y.size() == count);
  std::vector<double> want(count), magnitudes(count);
  ktjit::matvec_reference(view, x, n, 0, view.rows, want, magnitudes);
  const double bound = (static_cast<double>(view.cols) / 16.0 + 16.0) * 0x1p-24;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!(std::abs(static_cast<double>(y[i]) - want[i]) <= bound * magnitudes[i])) ++wrong;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("exec dequant of a model's tensor equals the reference") {
  CliFixture cli;
  if (!cli.has_worker("exec dequant")) return;
  const std::string sample = cli.make_sample();
  const auto model = ktjit::model::open_model(sample);
  for (const std::string name :
       {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"}) {
    INFO(name);
    const auto& tensor = model.get_tensor(name);
    const auto result = cli.run({"exec", sample, "--tensor", name, "--op", "dequant", "--out",
                                 cli.path("y.f32"), "--device", "cpu"});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    CHECK(ktjit::compare_bits(read_floats(cli.path("y.f32")), decode_all(view_of(tensor))).equal());
  }
}

TEST_CASE("exec moe_matvec takes the experts that the ids name") {
  CliFixture cli;
  if (!cli.has_worker("exec moe_matvec")) return;
  // Three experts [2, 8] of f32, each its number + 1 in row 0 and ten times that in row 1.
  std::vector<float> w;
  for (int expert = 1; expert <= 3; ++expert) {
    w.insert(w.end(), 8, static_cast<float>(expert));
    w.insert(w.end(), 8, static_cast<float>(10 * expert));
  }
  std::vector<float> x(16, 1.0f);
  std::fill(x.begin() + 8, x.end(), -0.5f);
  const std::vector<std::int32_t> ids = {2, 0, 1, 7};
  const auto write = [&](const std::string& name, const auto& values) {
    std::ofstream(cli.path(name), std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(values[0])));
  };
  write("w.f32", w);
  write("x.f32", x);
  write("ids.i32", ids);
  const std::vector<std::string> arguments = {"exec",
                                              "--raw",
                                              cli.path("w.f32"),
                                              "--format",
                                              "f32",
                                              "--shape",
                                              "6x8",
                                              "--op",
                                              "moe_matvec",
                                              "--ids",
                                              cli.path("ids.i32"),
                                              "--x",
                                              cli.path("x.f32"),
                                              "--out",
                                              cli.path("y.f32"),
                                              "--device",
                                              "cpu"};
  const auto run_with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), more.begin(), more.end());
    return cli.run(all);
  };
  const auto result = run_with({"--experts", "3", "--slots-per-x", "2"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.out, Contains("f32 4x2"));
  const std::vector<float> y = read_floats(cli.path("y.f32"));
  REQUIRE(y.size() == 8);
  CHECK(std::vector<float>(y.begin(), y.begin() + 6) ==
        std::vector<float>{24, 240, 8, 80, -8, -80});
  CHECK((std::isnan(y[6]) && std::isnan(y[7])));

  const auto refused = [&](std::vector<std::string> more, int exit_code, const std::string& says) {
    const auto failed = run_with(std::move(more));
    CHECK(failed.exit_code == exit_code);
    CHECK_THAT(failed.err, Contains(says));
  };
  refused({}, 2, "--op moe_matvec needs --experts");
  refused({"--experts", "4"}, 2, "experts is 4, allowed: a divisor of 6 rows");
  refused({"--experts", "3"}, 3, "f32 4x8, one row for each 1 of 4 slots");
  refused({"--experts", "3", "--slots-per-x", "2", "--n", "2"}, 2, "--n does not go with");
  const auto other = cli.run({"exec", "--raw", cli.path("w.f32"), "--format", "f32", "--shape",
                              "6x8", "--op", "matvec", "--ids", cli.path("ids.i32"), "--x",
                              cli.path("x.f32"), "--out", cli.path("z.f32"), "--device", "cpu"});
  CHECK(other.exit_code == 2);
  CHECK_THAT(other.err, Contains("go with --op moe_matvec"));
}

TEST_CASE("exec matvec of a model's tensor stays within the bound") {
  CliFixture cli;
  if (!cli.has_worker("exec matvec")) return;
  const std::string sample = cli.make_sample();
  const auto model = ktjit::model::open_model(sample);
  const auto& tensor = model.get_tensor("blk.0.attn_q.weight");
  constexpr int kColumns = 11;  // more than one launch takes
  const std::vector<float> x = random_floats(static_cast<std::size_t>(kColumns * tensor.cols()));
  cli.write_file("x.f32", std::as_bytes(std::span(x)));
  const auto result = cli.run({"exec", sample, "--tensor", tensor.name, "--op", "matvec", "--x",
                               cli.path("x.f32"), "--out", cli.path("y.f32"), "--device", "cpu"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.out, Contains("f32 11x"));
  check_products(view_of(tensor), x, kColumns, read_floats(cli.path("y.f32")));
}

TEST_CASE("exec quantises to every kind of format, and dequantises what it wrote") {
  CliFixture cli;
  if (!cli.has_worker("exec quantize")) return;
  constexpr std::int64_t kRows = 5, kCols = 96;
  const std::vector<float> x = random_floats(static_cast<std::size_t>(kRows * kCols));
  cli.write_file("x.f32", std::as_bytes(std::span(x)));
  struct Case {
    std::string_view format;
    std::vector<std::string> more;
    float tensor_scale = 1;
  };
  const float largest_scale = ktjit::nvfp4_tensor_scale(x);
  for (const Case& one :
       {Case{"mxfp8_e4m3", {}}, Case{"mxfp6_e2m3", {}}, Case{"mxfp4", {}},
        Case{"nvfp4", {}, largest_scale}, Case{"nvfp4", {"--tensor-scale", "0.25"}, 0.25F},
        Case{"q8_0", {}}, Case{"q4_0", {}}, Case{"fp8_e5m2", {"--scale-block", "2x40"}},
        Case{"fp8_e4m3fnuz", {}}, Case{"fp6_e3m2", {}}}) {
    const bool has_block = !one.more.empty() && one.more[0] == "--scale-block";
    const ktjit::WeightFormat weight = ktjit::get_weight_format(
        one.format, has_block ? std::optional(ktjit::ScaleGrid{2, 40}) : std::nullopt);
    std::vector<std::string> arguments = {
        "exec", "--op", "quantize",        "--format", std::string(one.format), "--shape",
        "5x96", "--x",  cli.path("x.f32"), "--out",    cli.path("codes.bin"),   "--device",
        "cpu"};
    arguments.insert(arguments.end(), one.more.begin(), one.more.end());
    if (weight.scale) arguments.insert(arguments.end(), {"--scale-out", cli.path("scales.bin")});
    const auto quantized = cli.run(arguments);
    INFO(one.format << ": " << quantized.err);
    REQUIRE(quantized.exit_code == 0);
    const auto want = ktjit::quantize_reference(
        {.format = weight.id, .grid = weight.scale, .tensor_scale = one.tensor_scale}, x, kRows,
        kCols);
    CHECK(read_bytes(cli.path("codes.bin")) == want.codes);
    if (weight.scale) CHECK(read_bytes(cli.path("scales.bin")) == want.scales);
  }
}

TEST_CASE("exec quantize says which options a format needs") {
  CliFixture cli;
  const std::vector<float> x(96);
  cli.write_file("x.f32", std::as_bytes(std::span(x)));
  const auto error_of = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "exec",     "--op", "quantize", "--x", cli.path("x.f32"), "--out", cli.path("codes.bin"),
        "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto result = cli.run(arguments);
    CHECK(result.exit_code != 0);
    return result.err;
  };
  using Catch::Contains;
  CHECK_THAT(error_of({"--format", "mxfp4", "--shape", "1x96"}),
             Contains("--format mxfp4 needs --scale-out"));
  CHECK_THAT(error_of({"--format", "q8_0", "--shape", "1x96", "--scale-out", cli.path("s")}),
             Contains("--scale-out does not go with q8_0"));
  CHECK_THAT(error_of({"--format", "q8_0", "--shape", "2x48"}), Contains("48"));
  CHECK_THAT(error_of({"--format", "fp8_e4m3", "--shape", "1x96", "--tensor-scale", "1"}),
             Contains("--tensor-scale goes with --format nvfp4"));
  CHECK_THAT(error_of({"--format", "nvfp4", "--shape", "1x96", "--scale-out", cli.path("s"),
                       "--tensor-scale", "0"}),
             Contains("--tensor-scale is '0'"));
  CHECK_THAT(error_of({"--format", "mxfp4", "--shape", "1x96", "--scale-out", cli.path("s"),
                       "--no-saturate"}),
             Contains("--no-saturate goes with a plain cast"));
}

TEST_CASE("exec dequantises integers, and refuses to multiply by them") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const std::vector<float> x = random_floats(256);
  cli.write_file("x.f32", std::as_bytes(std::span(x)));
  for (const std::string op : {"matvec", "matmul"}) {
    const auto refused =
        cli.run({"exec", sample, "--tensor", "numbers.i32", "--op", op, "--x", cli.path("x.f32"),
                 "--out", cli.path("y.f32"), "--device", "cpu"});
    CHECK(refused.exit_code == 2);
    CHECK_THAT(refused.err, Contains("format is i32") && Contains("dequant only"));
  }
  if (!cli.has_worker("exec dequant")) return;
  const auto result = cli.run({"exec", sample, "--tensor", "numbers.i32", "--op", "dequant",
                               "--out", cli.path("y.f32"), "--device", "cpu"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const auto model = ktjit::model::open_model(sample);
  CHECK(ktjit::compare_bits(read_floats(cli.path("y.f32")),
                            decode_all(view_of(model.get_tensor("numbers.i32"))))
            .equal());
}

TEST_CASE("exec quantises to FP8, and multiplies by what it quantised under afp8") {
  CliFixture cli;
  if (!cli.has_worker("exec quantize")) return;
  constexpr std::int64_t kRows = 11, kCols = 300, kWeightRows = 20;
  const std::vector<float> x = random_floats(static_cast<std::size_t>(kRows * kCols));
  cli.write_file("x.f32", std::as_bytes(std::span(x)));
  const auto quantized =
      cli.run({"exec", "--op", "quantize", "--format", "fp8e4nv", "--shape", "11x300",
               "--scale-block", "1x128", "--x", cli.path("x.f32"), "--out", cli.path("codes.bin"),
               "--scale-out", cli.path("scales.f32"), "--device", "cpu"});
  INFO(quantized.err);
  REQUIRE(quantized.exit_code == 0);
  constexpr auto kFormat = ktjit::FormatId::kFp8E4M3;
  constexpr ktjit::ScaleGrid kGrid{1, 128, ktjit::ScaleType::kF32};
  const auto want = ktjit::quantize_reference({.format = kFormat, .grid = kGrid}, x, kRows, kCols);
  CHECK(read_bytes(cli.path("scales.f32")) == want.scales);
  CHECK(read_bytes(cli.path("codes.bin")) == want.codes);

  const std::vector<float> w = random_floats(static_cast<std::size_t>(kWeightRows * kCols));
  cli.write_file("w.bin", std::as_bytes(std::span(w)));
  const auto multiplied =
      cli.run({"exec", "--raw", cli.path("w.bin"), "--format", "f32", "--shape", "20x300", "--op",
               "matmul", "--activation", "afp8", "--x", cli.path("x.f32"), "--out",
               cli.path("y.f32"), "--device", "cpu"});
  INFO(multiplied.err);
  REQUIRE(multiplied.exit_code == 0);
  std::vector<float> narrowed(x.size());
  ktjit::decode_rows({kFormat, kRows, kCols, want.codes, kGrid, want.scales}, 0, kRows, narrowed);
  check_products({ktjit::FormatId::kF32, kWeightRows, kCols, std::as_bytes(std::span(w)), {}, {}},
                 narrowed, kRows, read_floats(cli.path("y.f32")));
}

TEST_CASE("exec takes bare fp8_e4m3 bytes with a scale for each 128 x 128 block") {
  CliFixture cli;
  if (!cli.has_worker("exec --raw")) return;
  constexpr std::int64_t kRows = 200, kCols = 272;  // the edge blocks are smaller
  std::vector<std::byte> w(kRows * kCols);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::byte>(i * 7 + i / 256);
  const std::vector<float> scale = {0.5f, 1.25f, 3.0f, 0.001f, 100.0f, 0x1p-20f};
  const ScaledTensorView view = {ktjit::FormatId::kFp8E4M3,
                                 kRows,
                                 kCols,
                                 w,
                                 ktjit::ScaleGrid{128, 128, ktjit::ScaleType::kF32},
                                 std::as_bytes(std::span(scale))};
  cli.write_file("w.bin", w);
  cli.write_file("s.bin", std::as_bytes(std::span(scale)));
  const std::vector<std::string> tensor = {
      "exec",    "--raw",          cli.path("w.bin"), "--format",        "fp8e4nv",
      "--shape", "200x272",        "--scale",         cli.path("s.bin"), "--scale-type",
      "f32",     "--scale-block",  "128x128",         "--device",        "cpu",
      "--out",   cli.path("y.f32")};

  auto dequant = tensor;
  dequant.insert(dequant.end(), {"--op", "dequant"});
  const auto decoded = cli.run(dequant);
  INFO(decoded.err);
  REQUIRE(decoded.exit_code == 0);
  CHECK(ktjit::compare_bits(read_floats(cli.path("y.f32")), decode_all(view)).equal());

  // Without the NaN codes, which a sum would spread.
  for (std::byte& code : w) {
    if ((code & std::byte{0x7f}) == std::byte{0x7f}) code = std::byte{0x3c};
  }
  cli.write_file("w.bin", w);
  const std::vector<float> x = random_floats(2 * kCols);
  cli.write_file("x.f32", std::as_bytes(std::span(x)));
  auto matvec = tensor;
  matvec.insert(matvec.end(), {"--op", "matvec", "--x", cli.path("x.f32"), "--n", "2"});
  const auto multiplied = cli.run(matvec);
  INFO(multiplied.err);
  REQUIRE(multiplied.exit_code == 0);
  check_products(view, x, 2, read_floats(cli.path("y.f32")));
}

TEST_CASE("exec takes bare MXFP8 and MXFP6 by their names, with the scales that belong to them") {
  CliFixture cli;
  if (!cli.has_worker("exec --raw")) return;
  constexpr std::int64_t kRows = 5, kCols = 96;
  for (const char* name : {"mxfp8_e4m3", "mxfp8_e5m2", "MXFP6_E2M3", "mxfp6_e3m2"}) {
    INFO(name);
    const ktjit::WeightFormat format = ktjit::get_weight_format(name);
    std::vector<std::byte> w(
        static_cast<std::size_t>(kRows * ktjit::row_bytes(ktjit::get_format(format.id), kCols)));
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::byte>(i * 37 + i / 8);
    std::vector<std::byte> scales(kRows * kCols / 32);
    for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::byte>(i * 17);
    cli.write_file("w.bin", w);
    cli.write_file("s.bin", scales);
    const std::vector<std::string> command = {
        "exec", "--raw",   cli.path("w.bin"), "--format", name,    "--shape",        "5x96",
        "--op", "dequant", "--device",        "cpu",      "--out", cli.path("y.f32")};
    const auto unscaled = cli.run(command);
    CHECK(unscaled.exit_code != 0);
    CHECK_THAT(unscaled.err, Contains(fmt::format("--format {} needs --scale", format.name())));
    auto scaled = command;
    scaled.insert(scaled.end(), {"--scale", cli.path("s.bin")});
    const auto decoded = cli.run(scaled);
    INFO(decoded.err);
    REQUIRE(decoded.exit_code == 0);
    CHECK(ktjit::compare_bits(read_floats(cli.path("y.f32")),
                              decode_all({format.id, kRows, kCols, w, format.scale, scales}))
              .equal());
  }
}

TEST_CASE("exec takes one scale a tensor and one a row") {
  CliFixture cli;
  if (!cli.has_worker("exec --scale-block tensor and row")) return;
  constexpr std::int64_t kRows = 5, kCols = 64;
  std::vector<std::byte> w(kRows * kCols, std::byte{0x38});  // 1.0
  cli.write_file("w.bin", w);
  const auto run_with = [&](const std::string& block, const std::vector<float>& scale) {
    cli.write_file("s.bin", std::as_bytes(std::span(scale)));
    const auto result = cli.run({"exec", "--raw", cli.path("w.bin"), "--format", "e4m3", "--shape",
                                 "5x64", "--scale", cli.path("s.bin"), "--scale-block", block,
                                 "--op", "dequant", "--out", cli.path("y.f32"), "--device", "cpu"});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    return read_floats(cli.path("y.f32"));
  };
  CHECK(run_with("tensor", {2.5f}) == std::vector<float>(kRows * kCols, 2.5f));
  const std::vector<float> by_row = run_with("row", {1, 2, 3, 4, 5});
  CHECK(by_row.at(0) == 1.0f);
  CHECK(by_row.at(63) == 1.0f);
  CHECK(by_row.at(64) == 2.0f);
  CHECK(by_row.at(kRows * kCols - 1) == 5.0f);
}

TEST_CASE("exec names the size it expected, and leaves no output behind") {
  CliFixture cli;
  cli.write_file("w.bin", std::vector<std::byte>(100));
  const auto wrong_w = cli.run({"exec", "--raw", cli.path("w.bin"), "--format", "fp8e5", "--shape",
                                "8x16", "--op", "dequant", "--out", cli.path("y.f32")});
  CHECK(wrong_w.exit_code == 3);
  CHECK_THAT(wrong_w.err, Contains("w.bin: has 100 bytes, expected 128"));
  const auto wrong_scale = cli.run(
      {"exec", "--raw", cli.path("w.bin"), "--format", "fp8e5", "--shape", "10x10", "--scale",
       cli.path("w.bin"), "--scale-block", "5x5", "--op", "dequant", "--out", cli.path("y.f32")});
  CHECK(wrong_scale.exit_code == 3);
  CHECK_THAT(wrong_scale.err, Contains("expected 16 (f32 scales 2x2)"));
  const auto wrong_x =
      cli.run({"exec", "--raw", cli.path("w.bin"), "--format", "fp8e5", "--shape", "10x10", "--x",
               cli.path("w.bin"), "--op", "matvec", "--out", cli.path("y.f32")});
  CHECK(wrong_x.exit_code == 3);
  CHECK_THAT(wrong_x.err, Contains("expected 80 (f32 2x10"));
  const auto absent = cli.run({"exec", "--raw", cli.path("absent.bin"), "--format", "fp8e5",
                               "--shape", "10x10", "--op", "dequant", "--out", cli.path("y.f32")});
  CHECK(absent.exit_code == 3);
  CHECK(!std::filesystem::exists(cli.path("y.f32")));
}

TEST_CASE("exec into a folder that is not there is exit code 1") {
  CliFixture cli;
  if (!cli.has_worker("exec into a folder that is not there")) return;
  cli.write_file("w.bin", std::vector<std::byte>(128));
  const auto result =
      cli.run({"exec", "--raw", cli.path("w.bin"), "--format", "fp8e5", "--shape", "8x16", "--op",
               "dequant", "--out", cli.path("no/y.f32"), "--device", "cpu"});
  CHECK(result.exit_code == 1);
}
