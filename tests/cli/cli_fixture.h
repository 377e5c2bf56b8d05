// What the tests of the command line share: the real program in a home folder of its own.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tests/support/subprocess.h"

namespace ktjit::test {

/// A new folder under the one for temporary files, removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class CliFixture {
 public:
  CliFixture();

  ProcessResult run(std::vector<std::string> arguments);
  /// Runs, requires the exit code, and reads standard output as one JSON document.
  nlohmann::json run_json(std::vector<std::string> arguments, int exit_code = 0);

  std::filesystem::path folder() const { return home_.path(); }
  std::string path(const std::string& name) const { return (home_.path() / name).string(); }
  std::filesystem::path cache_folder() const { return home_.path() / ".cache" / "ktjit"; }
  /// Writes the sample model with the program under test; its path.
  std::string make_sample();
  void write_file(const std::string& name, std::span<const std::byte> bytes);
  void write_text(const std::string& name, const std::string& text);

  /// False, with a warning that names what is not tested, where the machine lacks it.
  bool has_worker(const std::string& what);
  bool has_nvrtc(const std::string& what);
  bool has_gpu();

  std::map<std::string, std::string> environment;  ///< of the program

 private:
  const nlohmann::json& doctor();

  TemporaryFolder home_;
  nlohmann::json doctor_;
};

/// A file of f32. Errors: the test fails if its size is no multiple of four.
std::vector<float> read_floats(const std::string& path);

}  // namespace ktjit::test
