// ktjit cache, on an empty cache and on one with an entry.
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;

TEST_CASE("an absent cache is an empty one") {
  CliFixture cli;
  const auto stats = cli.run_json({"cache", "stats", "--json"});
  CHECK(stats.at("path") == cli.cache_folder().string());
  CHECK(stats.at("entries") == 0);
  CHECK(cli.run_json({"cache", "list", "--json"}).at("entries").empty());
  CHECK(cli.run_json({"cache", "verify", "--json"}).at("checked") == 0);
  CHECK(cli.run_json({"cache", "clear", "--json"}).at("entries") == 0);
  CHECK(cli.run({"cache", "show", "0123"}).exit_code == 2);
  CHECK(!std::filesystem::exists(cli.cache_folder()));
}

TEST_CASE("a cache without a home folder is a usage error") {
  CliFixture cli;
  cli.environment.erase("HOME");
  CHECK(cli.run({"cache", "stats"}).exit_code == 2);
  CHECK(cli.run({"cache", "stats", "--cache-dir", cli.path("cache")}).exit_code == 0);
}

TEST_CASE("entries are listed, shown, verified and cleared") {
  CliFixture cli;
  if (!cli.has_nvrtc("cache entries")) return;
  const auto built = cli.run_json(
      {"build", "--format", "q4_K", "--shape", "16x256", "--target", "sm_86", "--json"});
  const std::size_t count = built.at("kernels").size();
  CHECK(cli.run_json({"cache", "stats", "--json"}).at("entries") == count);
  CHECK_THAT(cli.run({"cache", "stats"}).out, Contains("on disk"));

  const auto entries = cli.run_json({"cache", "list", "--json"}).at("entries");
  REQUIRE(entries.size() == count);
  for (const auto& entry : entries) {
    CHECK(entry.at("damage").is_null());
    CHECK(entry.at("manifest").at("target") == "sm_86");
  }
  CHECK_THAT(cli.run({"cache", "list"}).out, Contains("dequant_q4_K"));

  const std::string digits = entries.at(0).at("artifact").get<std::string>().substr(0, 12);
  const auto shown = cli.run({"cache", "show", digits});
  CHECK(shown.exit_code == 0);
  CHECK_THAT(shown.out, Contains("key: who compiled it"));
  CHECK_THAT(shown.out, Contains("NVRTC"));
  CHECK(cli.run_json({"cache", "show", digits, "--json"}).at("key").at("request").is_array());

  CHECK(cli.run_json({"cache", "verify", "--json"}).at("checked") == count);
  cli.write_text(".cache/ktjit/notes.txt", "a file of the user's");
  const auto cleared = cli.run_json({"cache", "clear", "--json"});
  CHECK(cleared.at("entries") == count);
  CHECK(cleared.at("kept").size() == 1);
  CHECK(cli.run_json({"cache", "stats", "--json"}).at("entries") == 0);
}
