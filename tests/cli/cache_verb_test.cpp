// ktjit cache, on an empty cache and on one with an entry.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

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

TEST_CASE("explain says where a kernel is, or what differs from the nearest entry") {
  CliFixture cli;
  if (!cli.has_worker("cache explain")) return;
  const auto explain = [&](const std::string& shape, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"cache",   "explain", "--format", "q4_K",
                                          "--shape", shape,     "--target", "cpu:x86-64-v3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const auto empty = cli.run_json(explain("16x256", {"--json"}));
  CHECK(empty.at("missing") == empty.at("kernels").size());
  CHECK(empty.at("kernels")[0].at("status") == "no entry");
  CHECK(!std::filesystem::exists(cli.cache_folder()));  // nothing was compiled

  REQUIRE(cli.run({"build", "--format", "q4_K", "--shape", "16x256", "--target", "cpu:x86-64-v3"})
              .exit_code == 0);
  const auto there = cli.run_json(explain("16x256", {"--json"}));
  CHECK(there.at("missing") == 0);
  for (const auto& kernel : there.at("kernels")) {
    CHECK(kernel.at("status") == "cached");
    CHECK(kernel.at("root") == cli.cache_folder().string());
    CHECK(kernel.at("entry") == kernel.at("artifact"));
    CHECK(kernel.at("differences").empty());
  }
  CHECK_THAT(cli.run(explain("16x256", {})).out, Contains("3 kernels: 3 in the cache, 0 not"));

  // Other columns: another text, and the nearest entry is that of the same op.
  const auto wider = cli.run_json(explain("16x512", {"--op", "matvec", "--json"}));
  REQUIRE(wider.at("kernels").size() == 1);
  const auto& kernel = wider.at("kernels")[0];
  CHECK(kernel.at("status") == "other request");
  std::vector<std::string> fields;
  for (const auto& difference : kernel.at("differences")) {
    CHECK(difference.at("part") == "request");
    CHECK(difference.at("wanted_line") != difference.at("entry_line"));
    CHECK(difference.at("line").get<int>() > 0);
    fields.push_back(difference.at("field"));
  }
  CHECK(fields == std::vector<std::string>{"entry", "text"});
  CHECK_THAT(kernel.at("differences")[0].at("entry").get<std::string>(),
             Catch::Matchers::StartsWith("matvec_q4_K"));
  CHECK_THAT(cli.run(explain("16x512", {"--op", "matvec"})).out,
             Contains("not in the cache; nearest is") && Contains("text, line "));

  // Other features of the CPU.
  const auto other = cli.run_json({"cache", "explain", "--format", "q4_K", "--shape", "16x256",
                                   "--target", "cpu:x86-64-v4", "--op", "dequant", "--json"});
  CHECK(other.at("kernels")[0].at("differences")[0].at("field") == "features");
}

TEST_CASE("explain compares two entries, and takes models and tensors") {
  CliFixture cli;
  if (!cli.has_worker("cache explain of entries")) return;
  const std::string sample = cli.make_sample();
  const auto all =
      cli.run_json({"cache", "explain", sample, "--target", "cpu:x86-64-v3", "--json"});
  const auto one = cli.run_json({"cache", "explain", sample, "--tensor", "blk.0.attn_q.weight",
                                 "--target", "cpu:x86-64-v3", "--json"});
  CHECK(one.at("kernels").size() < all.at("kernels").size());
  CHECK(one.at("kernels").size() > 0);
  CHECK(cli.run({"cache", "explain", sample, "--tensor", "nothing", "--target", "cpu"}).exit_code ==
        3);
  CHECK(cli.run({"cache", "explain", sample, "--op", "nothing"}).exit_code == 2);
  CHECK(cli.run({"cache", "explain"}).exit_code == 2);

  REQUIRE(cli.run({"build", "--format", "q4_K", "--shape", "16x256", "--target", "cpu:x86-64-v3",
                   "--target", "cpu:x86-64-v2"})
              .exit_code == 0);
  std::vector<std::string> dequants;
  const auto listed = cli.run_json({"cache", "list", "--json"});
  for (const auto& entry : listed.at("entries")) {
    const auto kernel = entry.at("manifest").at("kernel").get<std::string>();
    if (kernel.starts_with("dequant")) dequants.push_back(entry.at("artifact"));
  }
  REQUIRE(dequants.size() == 2);
  const auto compared = cli.run_json(
      {"cache", "explain", dequants[0].substr(0, 12), dequants[1].substr(0, 12), "--json"});
  std::vector<std::string> fields;
  for (const auto& difference : compared.at("differences")) {
    fields.push_back(difference.at("field"));
  }
  CHECK(std::find(fields.begin(), fields.end(), "features") != fields.end());
  CHECK(std::find(fields.begin(), fields.end(), "entry") == fields.end());
  CHECK_THAT(cli.run({"cache", "explain", dequants[0], dequants[0]}).out,
             Contains("no difference"));
  CHECK(cli.run({"cache", "explain", dequants[0], "0123456789ab"}).exit_code == 2);
}

TEST_CASE("stats count what all runs did, prune makes room") {
  CliFixture cli;
  if (!cli.has_worker("cache prune")) return;
  const std::vector<std::string> build = {"build",  "--format", "q4_K",         "--shape",
                                          "16x256", "--target", "cpu:x86-64-v3"};
  REQUIRE(cli.run(build).exit_code == 0);
  REQUIRE(cli.run(build).exit_code == 0);
  const auto stats = cli.run_json({"cache", "stats", "--json"});
  const std::size_t count = stats.at("entries").get<std::size_t>();
  CHECK(stats.at("counters").at("stores") == count);
  CHECK(stats.at("counters").at("hits").get<std::size_t>() >= count);
  CHECK(stats.at("counters").at("misses").get<std::size_t>() >= count);
  CHECK_THAT(cli.run({"cache", "stats"}).out, Contains("of 2.0 GiB") && Contains("stores"));
  const auto listed = cli.run_json({"cache", "list", "--json"});
  for (const auto& entry : listed.at("entries")) {
    CHECK(entry.at("last_used").is_string());
  }

  CHECK(cli.run_json({"cache", "prune", "--json"}).at("entries") == 0);
  const auto bytes = stats.at("allocated_bytes").get<std::uint64_t>();
  const auto one =
      cli.run_json({"cache", "prune", "--max-size", std::to_string(bytes - 1), "--json"});
  CHECK(one.at("entries") == 1);
  CHECK(one.at("left_entries") == count - 1);
  CHECK_THAT(cli.run({"cache", "prune", "--max-size", "1"}).out, Contains("left 0 entries"));
  CHECK(cli.run({"cache", "prune", "--max-size", "much"}).exit_code == 2);
  CHECK(cli.run({"cache", "list", "--max-size", "1"}).exit_code == 2);
  cli.environment["KTJIT_CACHE_MAX_SIZE"] = "none";
  CHECK(cli.run({"cache", "prune"}).exit_code == 2);
  CHECK_THAT(cli.run({"cache", "stats"}).out, Contains("no limit"));
  cli.environment["KTJIT_CACHE_MAX_SIZE"] = "lots";
  CHECK(cli.run({"cache", "stats"}).exit_code == 2);
}

TEST_CASE("a mistyped action or option of cache gets the nearest name") {
  CliFixture cli;
  CHECK_THAT(cli.run({"cache", "statz"}).err, Contains("did you mean 'stats'?"));
  CHECK_THAT(cli.run({"cache", "explan"}).err, Contains("did you mean 'explain'?"));
  CHECK_THAT(cli.run({"cache", "prun"}).err, Contains("did you mean 'prune'?"));
  CHECK(cli.run({"cache", "list", "--target", "sm_86"}).exit_code == 2);
  CHECK(cli.run({"cache", "verify", "extra"}).exit_code == 2);
  CHECK_THAT(cli.run({"cache", "--help"}).out, Contains("explain PREFIX PREFIX"));
}

TEST_CASE("without a home folder one warning says that nothing is kept") {
  CliFixture cli;
  if (!cli.has_worker("runs without a home folder")) return;
  cli.environment.erase("HOME");
  const auto built =
      cli.run({"build", "--format", "q4_K", "--shape", "16x256", "--target", "cpu:x86-64-v3"});
  CHECK(built.exit_code == 0);
  const std::string warning = "no home folder: compiled kernels are not kept; set KTJIT_CACHE_DIR";
  const std::size_t at = built.err.find(warning);
  REQUIRE(at != std::string::npos);
  CHECK(built.err.find(warning, at + 1) == std::string::npos);
}
