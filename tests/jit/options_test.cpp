// What the environment means, and that the caller's values win.
#include "jit/options.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>

#include "core/error.h"

namespace ktjit {
namespace {

using Variables = std::map<std::string, std::string>;

/// Sets variables for one test and puts back what was there.
class Environment {
 public:
  explicit Environment(const Variables& variables) {
    for (const char* name :
         {"KTJIT_CACHE", "KTJIT_CACHE_DIR", "KTJIT_CACHE_PATH", "KTJIT_CACHE_SHARED",
          "KTJIT_CACHE_MAX_SIZE", "KTJIT_SEALED", "KTJIT_TUNING", "KTJIT_NVRTC", "KTJIT_THREADS",
          "XDG_CACHE_HOME", "HOME", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"}) {
      if (const char* value = std::getenv(name)) before_[name] = value;
      ::unsetenv(name);
      names_.push_back(name);
    }
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const std::string& name : names_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::string> before_;
};

}  // namespace

TEST_CASE("the cache folder comes from the option, the variable, XDG, then the home folder") {
  const Environment environment(
      {{"KTJIT_CACHE_DIR", "/a"}, {"XDG_CACHE_HOME", "/b"}, {"HOME", "/c"}});
  Options given;
  given.cache_dir = "/given";
  CHECK(complete_options(given).cache_dir == "/given");
  CHECK(complete_options().cache_dir == "/a");
  ::unsetenv("KTJIT_CACHE_DIR");
  CHECK(complete_options().cache_dir == "/b/ktjit");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  CHECK(complete_options().cache_dir == "/c/.cache/ktjit");
  ::unsetenv("HOME");
  CHECK(complete_options().cache_dir.empty());
}

TEST_CASE("KTJIT_CACHE switches the cache off, and takes nothing but on and off") {
  const Environment environment(Variables{{"KTJIT_CACHE", "off"}});
  CHECK_FALSE(complete_options().cache_enabled);
  ::setenv("KTJIT_CACHE", "maybe", 1);
  CHECK_THROWS_WITH(complete_options(), "KTJIT_CACHE is 'maybe', allowed: on, off");
}

TEST_CASE("read-only roots are separated by colons") {
  const Environment environment(Variables{{"KTJIT_CACHE_PATH", "/x::/y:"}});
  CHECK(complete_options().cache_path == std::vector<std::filesystem::path>{"/x", "/y"});
}

TEST_CASE("roots are declared shared by their paths, however those are written") {
  const Environment environment(Variables{{"KTJIT_CACHE_SHARED", "/site/kernels/:/a/../b"}});
  const Options options = complete_options();
  CHECK(options.is_shared("/site/kernels"));
  CHECK(options.is_shared("/site//kernels/"));
  CHECK(options.is_shared("/b"));
  CHECK_FALSE(options.is_shared("/site"));
  CHECK_FALSE(options.is_shared("/site/kernels/more"));
  Options given;
  given.cache_shared = {"/given"};
  CHECK_FALSE(complete_options(given).is_shared("/b"));
}

TEST_CASE("the cache's cap is a size, none, or two gigabytes") {
  const Environment environment({});
  CHECK(complete_options().cache_max_bytes == std::uint64_t{2} << 30);
  ::setenv("KTJIT_CACHE_MAX_SIZE", "500M", 1);
  CHECK(complete_options().cache_max_bytes == std::uint64_t{500} << 20);
  ::setenv("KTJIT_CACHE_MAX_SIZE", "12345", 1);
  CHECK(complete_options().cache_max_bytes == 12345);
  ::setenv("KTJIT_CACHE_MAX_SIZE", "none", 1);
  CHECK(complete_options().cache_max_bytes == kNoCacheCap);
  Options given;
  given.cache_max_bytes = 7;
  CHECK(complete_options(given).cache_max_bytes == 7);
  for (const char* wrong : {"0", "-1", "2 G", "much", "1Q", "None"}) {
    ::setenv("KTJIT_CACHE_MAX_SIZE", wrong, 1);
    CHECK_THROWS_AS(complete_options(), SpecError);
  }
}

TEST_CASE("KTJIT_TUNING=off leaves measured knobs alone, and nothing but on and off is taken") {
  const Environment environment(Variables{{"KTJIT_TUNING", "off"}});
  CHECK_FALSE(complete_options().tuning);
  ::setenv("KTJIT_TUNING", "on", 1);
  CHECK(complete_options().tuning);
  Options given;
  given.tuning = false;
  CHECK_FALSE(complete_options(given).tuning);
  ::setenv("KTJIT_TUNING", "no", 1);
  CHECK_THROWS_WITH(complete_options(), "KTJIT_TUNING is 'no', allowed: on, off");
}

TEST_CASE("KTJIT_SEALED forbids compiles, and takes nothing but on and off") {
  const Environment environment(Variables{{"KTJIT_SEALED", "on"}});
  CHECK(complete_options().sealed);
  ::setenv("KTJIT_SEALED", "off", 1);
  CHECK_FALSE(complete_options().sealed);
  Options given;
  given.sealed = true;
  CHECK(complete_options(given).sealed);
  ::setenv("KTJIT_SEALED", "1", 1);
  CHECK_THROWS_WITH(complete_options(), "KTJIT_SEALED is '1', allowed: on, off");
}

TEST_CASE("the number of threads must be a positive number") {
  const Environment environment(Variables{{"KTJIT_THREADS", "3"}});
  CHECK(complete_options().threads == 3);
  for (const char* wrong : {"0", "-1", "two", "3x"}) {
    ::setenv("KTJIT_THREADS", wrong, 1);
    CHECK_THROWS_AS(complete_options(), SpecError);
  }
}

TEST_CASE("CUDA_PATH and CONDA_PREFIX count where CUDA_HOME and VIRTUAL_ENV are not set") {
  const Environment environment(Variables{{"CUDA_PATH", "/p"}, {"CONDA_PREFIX", "/q"}});
  CHECK(complete_options().cuda_home == "/p");
  CHECK(complete_options().python_environment == "/q");
  ::setenv("CUDA_HOME", "/h", 1);
  CHECK(complete_options().cuda_home == "/h");
}

}  // namespace ktjit
