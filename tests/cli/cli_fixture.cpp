#include "tests/cli/cli_fixture.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace ktjit::test {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "ktjit-cli-XXXXXX").string();
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

CliFixture::CliFixture() : environment(current_environment()) {
  // Settings of whoever runs the tests don't count, except where the compilers are.
  std::erase_if(environment, [](const auto& variable) {
    return variable.first.starts_with("KTJIT_") && variable.first != "KTJIT_LLVM_WORKER" &&
           variable.first != "KTJIT_NVRTC" && variable.first != "KTJIT_NVDISASM";
  });
  environment.erase("XDG_CACHE_HOME");
  environment["HOME"] = home_.path().string();
  environment["TMPDIR"] = home_.path().string();
}

ProcessResult CliFixture::run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), KTJIT_CLI_PATH);
  return run_process(arguments, environment);
}

nlohmann::json CliFixture::run_json(std::vector<std::string> arguments, int exit_code) {
  const ProcessResult result = run(std::move(arguments));
  INFO(result.err);
  INFO(result.out);
  REQUIRE(result.exit_code == exit_code);
  return nlohmann::json::parse(result.out);
}

std::string CliFixture::make_sample() {
  const std::string model = path("sample.gguf");
  const ProcessResult result = run({"sample", model});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return model;
}

void CliFixture::write_file(const std::string& name, std::span<const std::byte> bytes) {
  std::ofstream file(path(name), std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

void CliFixture::write_text(const std::string& name, const std::string& text) {
  write_file(name, std::as_bytes(std::span(text)));
}

const nlohmann::json& CliFixture::doctor() {
  if (doctor_.is_null()) doctor_ = run_json({"doctor", "--json"});
  return doctor_;
}

bool CliFixture::has_worker(const std::string& what) {
  if (!doctor().at("llvm").at("worker").is_null()) return true;
  WARN("not tested, since ktjit-llvm is missing: " << what);
  return false;
}

bool CliFixture::has_nvrtc(const std::string& what) {
  for (const nlohmann::json& nvrtc : doctor().at("nvrtc")) {
    if (nvrtc.at("usable").get<bool>()) return true;
  }
  WARN("not tested, since there is no NVRTC: " << what);
  return false;
}

bool CliFixture::has_gpu() {
  for (const nlohmann::json& device : doctor().at("devices")) {
    if (device.at("name").get<std::string>().starts_with("cuda")) return true;
  }
  return false;
}

std::vector<float> read_floats(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  REQUIRE(bytes.size() % sizeof(float) == 0);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace ktjit::test
