// Packs through the command line: built on one "machine", used on another one.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;
using ktjit::test::ProcessResult;

namespace {

namespace fs = std::filesystem;

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void overwrite(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::vector<std::string> build(const std::string& target, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"build",  "--format", "q4_K", "--shape",
                                        "16x256", "--target", target};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

constexpr const char* kCpu = "cpu:x86-64-v3";

}  // namespace

TEST_CASE("a pack serves a machine without a cache and without compilers") {
  CliFixture maker;
  if (!maker.has_worker("packs for the CPU")) return;
  const auto built = maker.run_json(build(kCpu, {"--pack", maker.path("a.ktpack"), "--json"}));
  const auto& pack = built.at("pack");
  CHECK(pack.at("kernels") == built.at("kernels").size() + 1);  // and the read test
  CHECK(pack.at("targets") == nlohmann::json{kCpu});
  CHECK(pack.at("bytes") == fs::file_size(maker.path("a.ktpack")));

  CliFixture user;  // another home folder
  user.environment["KTJIT_LLVM_WORKER"] = "/nonexistent";
  user.environment["KTJIT_NVRTC"] = "/nonexistent";
  CHECK(user.run(build(kCpu, {})).exit_code == 4);
  const std::string moved = user.path("elsewhere.bin");
  fs::rename(maker.path("a.ktpack"), moved);
  const auto found = user.run_json(build(kCpu, {"--from", moved, "--json"}));
  CHECK(found.at("compiled") == 0);
  CHECK(found.at("cache_hits") == built.at("kernels").size());
  CHECK(user.run_json(build(kCpu, {"--from", moved, "--sealed", "--json"})).at("compiled") == 0);

  user.environment["KTJIT_CACHE_PATH"] = "/nonexistent/folder:" + moved;
  CHECK(user.run_json(build(kCpu, {"--json"})).at("compiled") == 0);
  user.environment["KTJIT_SEALED"] = "on";
  user.environment.erase("HOME");
  const ProcessResult homeless = user.run(build(kCpu, {"--json"}));
  INFO(homeless.err);
  CHECK(homeless.exit_code == 0);
}

TEST_CASE("a sealed run of a model takes all of its kernels from a pack") {
  CliFixture maker;
  if (!maker.has_worker("sealed runs on the CPU")) return;
  const std::string sample = maker.make_sample();
  const auto built = maker.run_json(
      {"build", sample, "--target", kCpu, "--pack", maker.path("a.ktpack"), "--json"});
  CHECK(bytes_of(maker.path("a.ktpack")).find(maker.folder().string()) == std::string::npos);
  CliFixture user;
  user.environment["KTJIT_LLVM_WORKER"] = "/nonexistent";
  const auto run = user.run_json({"run", sample, "--device", "cpu", "--target", kCpu, "--sealed",
                                  "--from", maker.path("a.ktpack"), "--json"});
  CHECK(run.at("compiled") == 0);
  CHECK(run.at("ok") == true);
  CHECK(run.at("workers_started") == 0);
  CHECK(run.at("read_gbps").get<double>() > 0);
}

TEST_CASE("two builds make equal packs, whatever was in the cache and in which order") {
  CliFixture cli;
  CliFixture other;
  if (!cli.has_worker("equal packs")) return;
  const bool with_gpu = cli.has_nvrtc("equal packs for sm_86");
  const std::string second = with_gpu ? "sm_86" : "cpu:x86-64-v2";
  REQUIRE(cli.run(build(kCpu, {"--target", second, "--pack", cli.path("a.ktpack")})).exit_code ==
          0);
  REQUIRE(cli.run(build(second, {"--target", kCpu, "--pack", cli.path("b.ktpack")})).exit_code ==
          0);
  REQUIRE(
      other.run(build(second, {"--target", kCpu, "--no-cache", "--pack", other.path("c.ktpack")}))
          .exit_code == 0);
  const std::string pack = bytes_of(cli.path("a.ktpack"));
  CHECK(pack.size() > 1000);
  CHECK(pack == bytes_of(cli.path("b.ktpack")));
  CHECK(pack == bytes_of(other.path("c.ktpack")));
}

TEST_CASE("a pack that was named is refused by name; one from the environment costs a warning") {
  CliFixture cli;
  if (!cli.has_worker("damaged packs")) return;
  const std::string pack = cli.path("a.ktpack");
  REQUIRE(cli.run(build(kCpu, {"--pack", pack})).exit_code == 0);
  const std::string good = bytes_of(pack);
  const auto refuse = [&](const std::string& why) {
    const ProcessResult named = cli.run(build(kCpu, {"--from", pack}));
    INFO(named.err);
    CHECK(named.exit_code == 3);
    CHECK_THAT(named.err, Contains(pack) && Contains(why));
    cli.environment["KTJIT_CACHE_PATH"] = pack;
    const ProcessResult found = cli.run(build(kCpu, {}));
    INFO(found.err);
    CHECK(found.exit_code == 0);
    CHECK_THAT(found.err, Contains("warning: pack of kernels not used") && Contains(why));
    cli.environment.erase("KTJIT_CACHE_PATH");
  };
  overwrite(pack, good.substr(0, good.size() / 2));
  refuse("cut or damaged");
  std::string flipped = good;
  flipped[70] ^= 1;
  overwrite(pack, flipped);
  refuse("checksum");
  overwrite(pack, "GGUF, perhaps");
  refuse("not a pack of kernels");
  overwrite(pack, good);
  fs::permissions(pack, fs::perms::others_write, fs::perm_options::add);
  refuse("can be written by every user");
  fs::permissions(pack, fs::perms::others_write, fs::perm_options::remove);
  fs::permissions(pack, fs::perms::group_write, fs::perm_options::add);
  refuse("can be written by its group");
  cli.environment["KTJIT_CACHE_SHARED"] = pack;
  CHECK(cli.run(build(kCpu, {"--from", pack})).exit_code == 0);

  const ProcessResult absent = cli.run(build(kCpu, {"--from", cli.path("absent.ktpack")}));
  CHECK(absent.exit_code == 3);
  CHECK_THAT(absent.err, Contains("no such pack or folder"));
  CHECK(cli.run(build(kCpu, {"--from", pack, "--no-cache"})).exit_code == 2);
}

TEST_CASE("a pack replaces nothing but a pack") {
  CliFixture cli;
  if (!cli.has_worker("overwriting packs")) return;
  cli.write_text("notes.txt", "a file of the user's");
  const ProcessResult refused = cli.run(build(kCpu, {"--pack", cli.path("notes.txt")}));
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("is no pack of kernels"));
  CHECK(bytes_of(cli.path("notes.txt")) == "a file of the user's");
  CHECK_FALSE(fs::exists(cli.cache_folder()));  // refused before anything was compiled
  CHECK(cli.run(build(kCpu, {"--pack", cli.path("no/such/folder.ktpack")})).exit_code == 1);
  const std::string pack = cli.path("a.ktpack");
  CHECK(cli.run(build(kCpu, {"--pack", pack})).exit_code == 0);
  CHECK(cli.run(build("cpu:x86-64-v2", {"--pack", pack})).exit_code == 0);
  CHECK_THAT(cli.run({"cache", "stats", "--from", pack}).out, Contains("cpu:x86-64-v2"));
}

TEST_CASE("ktjit cache looks into packs") {
  CliFixture cli;
  if (!cli.has_worker("cache verbs on packs")) return;
  const std::string pack = cli.path("a.ktpack");
  const auto built = cli.run_json(build(kCpu, {"--pack", pack, "--json"}));
  const std::size_t count = built.at("pack").at("kernels").get<std::size_t>();
  const auto stats = cli.run_json({"cache", "stats", "--from", pack, "--json"});
  REQUIRE(stats.at("roots").size() == 1);
  CHECK(stats.at("roots")[0].at("pack").at("targets") == nlohmann::json{kCpu});
  CHECK(stats.at("roots")[0].at("role") == "read");
  CHECK(stats.at("entries") == count);
  const auto entries = cli.run_json({"cache", "list", "--from", pack, "--json"}).at("entries");
  REQUIRE(entries.size() == count);
  CHECK(entries[0].at("last_used").is_null());
  CHECK(entries[0].at("root") == pack);
  const std::string digits = entries[0].at("artifact").get<std::string>().substr(0, 12);
  CHECK_THAT(cli.run({"cache", "show", digits, "--from", pack}).out, Contains("who compiled it"));
  CHECK(cli.run_json({"cache", "verify", "--from", pack, "--json"}).at("checked") == count);
  CHECK(cli.run({"cache", "clear", "--from", pack}).exit_code == 2);
  CHECK(cli.run({"cache", "prune", "--from", pack}).exit_code == 2);

  cli.environment["KTJIT_CACHE_PATH"] = pack;
  const auto all = cli.run_json({"cache", "stats", "--json"}).at("roots");
  REQUIRE(all.size() == 2);
  CHECK(all[0].at("role") == "written");
  CHECK(all[0].at("max_bytes") == std::int64_t{2} << 30);
  CHECK(all[1].at("path") == pack);

  std::string bytes = bytes_of(pack);
  bytes[bytes.size() - 3] ^= 1;
  overwrite(pack, bytes);
  const ProcessResult damaged = cli.run({"cache", "verify", "--from", pack});
  CHECK(damaged.exit_code == 1);
  CHECK_THAT(damaged.out, Contains("bad checksum") && Contains("1 damaged: they are not used"));
}

TEST_CASE("programs in other folders, of other users, share entries") {
  CliFixture one;
  if (!one.has_worker("programs in two folders")) return;
  const fs::path program = KTJIT_CLI_PATH;
  const fs::path worker = program.parent_path() / "ktjit-llvm";
  if (!fs::exists(worker)) {
    WARN("not tested, since the worker is elsewhere: programs in two folders");
    return;
  }
  int compiled_first = -1;
  for (const char* place : {"checkout a/bin", "b/usr/bin"}) {
    INFO(place);
    const fs::path folder = one.folder() / place;
    fs::create_directories(folder);
    fs::copy_file(program, folder / "ktjit");
    fs::copy_file(worker, folder / "ktjit-llvm");
    fs::create_directories(folder / "home");
    auto environment = one.environment;
    environment.erase("KTJIT_LLVM_WORKER");
    environment["HOME"] = (folder / "home").string();
    environment["USER"] = place;
    environment["KTJIT_CACHE_DIR"] = one.path("shared");
    const ProcessResult result = ktjit::test::run_process(
        {"/bin/sh", "-c",
         "cd \"$1\" && exec ./ktjit build --format q4_K --shape 16x256 --target cpu:x86-64-v3 "
         "--json",
         "sh", folder.string()},
        environment);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    const auto built = nlohmann::json::parse(result.out);
    if (compiled_first < 0) {
      compiled_first = built.at("compiled").get<int>();
      CHECK(compiled_first > 0);
    } else {
      CHECK(built.at("compiled") == 0);
      CHECK(built.at("workers_started") == 0);
    }
    fs::remove(folder / "ktjit-llvm");  // 80 MB
  }
}
