// ktjit emit: every stage prints what its name says.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;
using ktjit::test::ProcessResult;

namespace {

ProcessResult emit(CliFixture& cli, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"emit",    "--format",      "fp8e4nv", "--shape",
                                        "256x512", "--scale-block", "128x128"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return cli.run(arguments);
}

}  // namespace

TEST_CASE("emit prints spec and source without a compiler") {
  CliFixture cli;
  cli.environment["KTJIT_NVRTC"] = "/nonexistent";
  cli.environment["KTJIT_LLVM_WORKER"] = "/nonexistent";
  const auto source = emit(cli, {"--target", "sm_86"});
  INFO(source.err);
  CHECK(source.exit_code == 0);
  CHECK_THAT(source.out, Contains("extern \"C\" __global__"));
  CHECK_THAT(source.out, Contains("no cvt from e4m3"));
  const auto both = emit(cli, {"--target", "sm_86", "--stage", "spec,cuda", "--op", "matvec",
                               "--x-format", "bf16", "--n", "4"});
  CHECK(both.exit_code == 0);
  CHECK_THAT(both.out, Catch::Matchers::StartsWith("==== spec ====\nop: matvec\n"));
  CHECK_THAT(both.out, Contains("x_format: bf16\n") && Contains("x_columns: 4\n"));
  CHECK_THAT(both.out, Contains("\n==== cuda ====\n"));
  const auto cpu = emit(cli, {"--target", "cpu:x86-64-v3", "--stage", "cpp", "--y-format", "f16"});
  CHECK(cpu.exit_code == 0);
  CHECK_THAT(cpu.out, Contains("extern \"C\""));
  CHECK_THAT(cpu.out, !Contains("__global__"));
}

TEST_CASE("emit prints moe_matvec and fused matvec") {
  CliFixture cli;
  const auto experts = emit(cli, {"--target", "sm_86", "--op", "moe_matvec", "--gate", "silu"});
  CHECK(experts.exit_code == 0);
  CHECK_THAT(experts.out, Contains("const int* __restrict__ ids") && Contains("activate("));
  const auto matrices =
      emit(cli, {"--target", "sm_86", "--op", "matvec", "--matrices", "3", "--bias", "bf16"});
  CHECK(matrices.exit_code == 0);
  CHECK_THAT(matrices.out, Contains("long long rows2"));
  const auto residual = emit(
      cli, {"--target", "cpu:x86-64-v3", "--op", "matvec", "--residual", "f16", "--stage", "spec"});
  CHECK(residual.exit_code == 0);
  CHECK_THAT(residual.out, Contains("residual: f16\n"));
  const auto both = emit(cli, {"--target", "sm_86", "--op", "moe_matvec", "--residual", "f32"});
  CHECK(both.exit_code == 2);
  CHECK_THAT(both.err, Contains("residual is f32, allowed: none with moe_matvec"));
}

TEST_CASE("emit prints kernels of prepared weights") {
  CliFixture cli;
  const auto of_q4_k = [&cli](std::vector<std::string> more) {
    more.insert(more.begin(), {"emit", "--format", "q4_K", "--shape", "64x512", "--target"});
    return cli.run(std::move(more));
  };
  const auto matvec = of_q4_k({"sm_86", "--op", "matvec", "--layout", "prepared"});
  CHECK(matvec.exit_code == 0);
  CHECK_THAT(matvec.out, Contains("matvec_q4_K_x_f32_prepared_c512_n1"));
  CHECK_THAT(of_q4_k({"sm_86", "--op", "prepare"}).out, Contains("prepare_q4_K_c512"));
  CHECK_THAT(of_q4_k({"sm_86", "--op", "restore"}).out, Contains("restore_q4_K_c512"));
  CHECK_THAT(of_q4_k({"sm_86", "--layout", "prepared", "--y-format", "f16"}).out,
             Contains("dequant_q4_K_y_f16_prepared_c512"));
  const auto too_old = of_q4_k({"sm_60", "--op", "matvec", "--layout", "prepared"});
  CHECK(too_old.exit_code == 2);
  CHECK_THAT(too_old.err, Contains("prepared q4_K on sm_60"));
  CHECK_THAT(of_q4_k({"sm_86", "--op", "matmul", "--layout", "prepared"}).out,
             Contains("matmul_q4_K_x_f32_prepared_c512"));
  const auto matmul = of_q4_k({"sm_70", "--op", "matmul", "--layout", "prepared"});
  CHECK(matmul.exit_code == 2);
  CHECK_THAT(matmul.err, Contains("native with matmul"));
}

TEST_CASE("emit takes a tensor of a model") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const auto result = cli.run({"emit", sample, "--tensor", "blk.0.attn_q.weight", "--op", "matvec",
                               "--target", "sm_75", "--stage", "spec"});
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.out, Contains("target: sm_75"));
  CHECK(cli.run({"emit", sample, "--tensor", "nothing", "--target", "sm_75"}).exit_code == 3);
  CHECK(cli.run({"emit", sample, "--target", "sm_75"}).exit_code == 2);
}

TEST_CASE("emit prints what NVRTC makes") {
  CliFixture cli;
  if (!cli.has_nvrtc("emit ptx and resources")) return;
  const auto ptx = emit(cli, {"--target", "sm_86", "--stage", "ptx"});
  INFO(ptx.err);
  REQUIRE(ptx.exit_code == 0);
  CHECK_THAT(ptx.out, Contains(".visible .entry"));
  CHECK(ptx.out.find('\0') == std::string::npos);
  const auto resources = emit(cli, {"--target", "sm_86", "--stage", "resources"});
  REQUIRE(resources.exit_code == 0);
  CHECK_THAT(resources.out, Contains("cubin_bytes: "));
  CHECK_THAT(resources.out, Catch::Matchers::Matches("(.|\n)*registers: [0-9]+\n(.|\n)*"));
}

TEST_CASE("emit prints SASS where nvdisasm is, and says what to install where not") {
  CliFixture cli;
  if (!cli.has_nvrtc("emit sass")) return;
  const auto result = emit(cli, {"--target", "sm_86", "--stage", "sass"});
  if (result.exit_code == 0) {
    CHECK_THAT(result.out, Contains("EXIT"));
  } else {
    WARN("no nvdisasm: SASS is not tested");
    CHECK(result.exit_code == 4);
  }
  cli.environment["KTJIT_NVDISASM"] = "/nonexistent/nvdisasm";
  const auto missing = emit(cli, {"--target", "sm_86", "--stage", "sass"});
  CHECK(missing.exit_code == 4);
  CHECK_THAT(missing.err, Contains("/nonexistent/nvdisasm"));
  CHECK_THAT(missing.err, Contains("install"));
}

TEST_CASE("emit prints what LLVM makes") {
  CliFixture cli;
  if (!cli.has_worker("emit llvm, asm and resources")) return;
  const auto cpu = emit(cli, {"--target", "cpu:x86-64-v3", "--stage", "llvm,asm,resources"});
  INFO(cpu.err);
  REQUIRE(cpu.exit_code == 0);
  CHECK_THAT(cpu.out, Contains("==== llvm ====\n"));
  CHECK_THAT(cpu.out, Contains("define "));
  CHECK_THAT(cpu.out, Contains(".globl"));
  CHECK_THAT(cpu.out, Contains("registers: not known"));
  const auto gpu = emit(cli, {"--target", "sm_61", "--stage", "llvm"});
  INFO(gpu.err);
  REQUIRE(gpu.exit_code == 0);
  CHECK_THAT(gpu.out, Contains("nvptx64"));
}

TEST_CASE("every stage is printed again from the cache, with the same bytes and keys") {
  CliFixture cli;
  const auto entries = [&] {
    std::vector<std::string> names;
    const auto listed = cli.run_json({"cache", "list", "--json"});
    for (const auto& entry : listed.at("entries")) {
      names.push_back(entry.at("artifact"));
    }
    return names;
  };
  std::vector<std::vector<std::string>> kinds;
  if (cli.has_worker("stages of LLVM twice")) {
    kinds.push_back({"--target", "cpu:x86-64-v3", "--stage", "spec,cpp,llvm,asm,resources"});
    kinds.push_back({"--target", "sm_61", "--stage", "spec,cuda,llvm,ptx"});
  }
  if (cli.has_nvrtc("stages of NVRTC twice")) {
    kinds.push_back({"--target", "sm_86", "--stage", "spec,cuda,ptx,resources"});
    if (emit(cli, {"--target", "sm_86", "--stage", "sass"}).exit_code == 0) {
      kinds.push_back({"--target", "sm_86", "--stage", "sass"});
    }
  }
  for (const std::vector<std::string>& kind : kinds) {
    INFO(kind[1] << ' ' << kind[3]);
    const ProcessResult first = emit(cli, kind);
    INFO(first.err);
    REQUIRE(first.exit_code == 0);
    const std::vector<std::string> kept = entries();
    CHECK(!kept.empty());
    std::vector<std::string> again = kind;
    again.push_back("--sealed");  // a compile would be an error
    const ProcessResult second = emit(cli, again);
    INFO(second.err);
    CHECK(second.exit_code == 0);
    CHECK(second.out == first.out);
    CHECK(entries() == kept);
  }
}
