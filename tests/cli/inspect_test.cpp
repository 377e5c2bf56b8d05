// ktjit inspect.
#include <catch2/catch.hpp>
#include <string>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;

TEST_CASE("inspect lists metadata, tensors and totals") {
  CliFixture cli;
  const auto result = cli.run({"inspect", cli.make_sample()});
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.out, Contains("GGUF version 3"));
  CHECK_THAT(result.out, Contains("general.architecture"));
  CHECK_THAT(result.out, Contains("'llama'"));
  CHECK_THAT(result.out, Contains("token_embd.weight"));
  CHECK_THAT(result.out, Contains("ggml_mxfp4"));
  CHECK_THAT(result.out, Contains("1001 in all"));  // the vocabulary is cut
}

TEST_CASE("inspect --json has the same facts with their types") {
  CliFixture cli;
  const auto document = cli.run_json({"inspect", cli.make_sample(), "--json"});
  CHECK(document.at("container") == "GGUF");
  CHECK(document.at("version") == 3);
  REQUIRE(document.at("tensors").is_array());
  std::uint64_t bytes = 0;
  for (const auto& tensor : document.at("tensors")) {
    CHECK(tensor.at("name").is_string());
    CHECK(tensor.at("format").is_string());
    CHECK(tensor.at("shape").is_array());
    bytes += tensor.at("bytes").get<std::uint64_t>();
  }
  std::uint64_t total = 0;
  for (const auto& format : document.at("formats"))
    total += format.at("bytes").get<std::uint64_t>();
  CHECK(bytes == total);
  bool found = false;
  for (const auto& pair : document.at("metadata")) {
    if (pair.at("key") == "general.architecture") {
      found = true;
      CHECK(pair.at("type") == "str");
      CHECK(pair.at("value") == "llama");
    }
    if (pair.at("key") == "tokenizer.ggml.tokens") {
      CHECK(pair.at("count") == 1001);
      CHECK(pair.at("value").size() == 8);
    }
  }
  CHECK(found);
}

TEST_CASE("inspect takes any part of a split model, and a folder's one") {
  CliFixture cli;
  const std::string models = std::string(KTJIT_TEST_DATA_DIR) + "/models/";
  const auto document =
      cli.run_json({"inspect", models + "tiny-llama-q4_k_m-00002-of-00003.gguf", "--json"});
  CHECK(document.at("files").size() == 3);
  const auto several = cli.run({"inspect", models});
  CHECK(several.exit_code == 3);
  CHECK_THAT(several.err, Contains("tiny-gemma2-q2_k.gguf"));
}
