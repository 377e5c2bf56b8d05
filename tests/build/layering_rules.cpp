// Reads includes and first lines only: no compiler, so that a violation is found even in code that
// is not built on this machine.
#include "tests/build/layering_rules.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <map>
#include <set>
#include <string_view>

namespace ktjit::test {
namespace {

/// What the files of a folder may include from this tree. An entry is a folder ("core/") or one
/// file.
struct FolderRule {
  std::string_view folder;
  std::vector<std::string_view> may_include;
  std::string_view reason;
};

// The first rule whose folder the path starts with applies.
const std::vector<FolderRule> kFolderRules = {
    {"core/", {"core/"}, "core holds plain values and knows nothing else"},
    {"templates/", {"templates/"}, "templates are text, and a header that finds it"},
    {"codegen/",
     {"codegen/", "templates/", "core/"},
     "codegen knows no disk, device, compiler or environment"},
    {"cache/", {"cache/", "core/"}, "the cache stores bytes under a key"},
    // What code for the simulator and its device agree on, seen by both, so it includes nothing.
    {"runtime/simulator_abi.h", {}, "the simulator's ABI depends on neither side"},
    {"runtime/", {"runtime/", "core/"}, "the runtime doesn't know how the bytes were made"},
    {"model/", {"model/", "core/"}, "models know neither kernels nor devices"},
    {"rules/", {"rules/", "model/", "core/"}, "rules speak of tensors, and know no kernels"},
    // Compiled into the worker too, beside LLVM, so they must pull in nothing.
    {"jit/worker_protocol.", {"jit/worker_protocol.h"}, "the protocol depends on neither side"},
    {"jit/",
     {"jit/", "codegen/", "cache/", "runtime/", "rules/", "model/", "core/"},
     "jit joins the parts; templates are reached through codegen"},
    {"convert/",
     {"convert/", "jit/", "runtime/", "model/", "core/"},
     "conversion stands on jit, the devices and models"},
    {"worker/",
     {"worker/", "jit/worker_protocol.h", "runtime/simulator_abi.h"},
     "the worker shares the protocol and the simulator's ABI, no more"},
    // Beside jit: readers of models, and the values that jit's headers hand out.
    {"cli/",
     {"cli/", "convert/", "jit/", "core/", "model/", "rules/", "cache/cache_key.h", "cache/field_list.h",
      "cache/kernel_cache.h", "cache/disk_cache.h", "cache/cache_root.h", "cache/disk_cache_stats.h", "cache/eviction.h", "cache/maintenance.h",
      "cache/nearest_entry.h",
      "cache/pack_file.h", "cache/posix_file_system.h",
      "codegen/emitter.h", "codegen/instruction_counts.h", "codegen/lowering.h",
      "runtime/device.h", "runtime/host_cpu.h"},
     "the command line uses jit and the values that jit's headers hand out"},
    // The public header stands alone: C programs have nothing else of ours.
    {"capi/ktjit.h", {}, "the C header needs no other header of the tree"},
    {"capi/",
     {"capi/", "jit/", "core/", "codegen/emitter.h", "runtime/cuda_device.h",
      "runtime/cuda_stream.h", "runtime/cpu_device.h", "runtime/device.h", "runtime/driver_api.h",
      "runtime/executor.h", "runtime/host_limits.h"},
     "the C interface puts jit's and the devices' public headers into C"},
    {"python/", {"capi/ktjit.h"}, "Python stands on the C interface"},
    {"samples/",
     {"jit/", "core/", "model/", "codegen/emitter.h", "codegen/lowering.h", "runtime/device.h"},
     "samples show public headers"},
    // A part is tested with what it may know itself.
    {"tests/core/", {"core/", "tests/"}, "tests of core link core only"},
    {"tests/codegen/",
     {"codegen/", "templates/", "core/", "tests/"},
     "tests of codegen link codegen only"},
    {"tests/cache/", {"cache/", "core/", "tests/"}, "tests of the cache link the cache only"},
    {"tests/runtime/",
     {"runtime/", "core/", "tests/"},
     "tests of the runtime link the runtime only"},
    {"tests/model/", {"model/", "core/", "tests/"}, "tests of models link model only"},
    {"tests/rules/", {"rules/", "model/", "core/", "tests/"}, "tests of rules link rules only"},
    {"tests/capi/", {"capi/ktjit.h"}, "the C interface is tested as its users see it"},
    {"tests/",
     {"tests/", "cli/", "convert/", "jit/", "codegen/", "templates/", "cache/", "runtime/", "rules/", "model/",
      "core/"},
     "tests may use everything but the worker, which they start"},
    {"bench/",
     {"bench/", "capi/ktjit.h", "jit/", "codegen/", "cache/", "runtime/", "model/", "core/"},
     "measurements may use everything that an application may"},
};

/// Headers of other projects that may be used in one place only.
struct OutsideRule {
  std::string_view prefix;
  std::vector<std::string_view> allowed_in;
  std::string_view reason;
};

const std::vector<OutsideRule> kOutsideRules = {
    {"cuda", {}, "the build needs no CUDA toolkit"},
    {"nvrtc", {}, "the build needs no CUDA toolkit"},
    {"llvm/", {"worker/"}, "LLVM lives in the worker"},
    {"llvm-c/", {"worker/"}, "LLVM lives in the worker"},
    {"clang/", {"worker/"}, "LLVM lives in the worker"},
    {"lld/", {"worker/"}, "LLVM lives in the worker"},
    {"yaml-cpp/", {"rules/rules_reader.cpp"}, "YAML is read in one file"},
    {"boost/context/", {"runtime/fiber.cpp"}, "fibres are wrapped in one file"},
    {"boost/", {"cli/", "runtime/fiber.cpp"}, "Boost is the command line's, but for fibres"},
    {"nanobind/", {"python/"}, "bindings are Python's"},
    {"catch2/", {"tests/"}, "Catch2 is the tests'"},
    {"iostream", {"cli/", "samples/", "tests/", "bench/"}, "the library prints nothing"},
};

struct Include {
  std::string_view name;
  bool quoted = false;
};

std::string_view trim_left(std::string_view text) {
  const auto start = text.find_first_not_of(" \t");
  return start == std::string_view::npos ? std::string_view() : text.substr(start);
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return lines;
}

std::vector<Include> includes_of(std::string_view text) {
  std::vector<Include> includes;
  for (std::string_view line : split_lines(text)) {
    line = trim_left(line);
    if (!line.starts_with('#')) continue;
    line = trim_left(line.substr(1));
    if (!line.starts_with("include")) continue;
    line = trim_left(line.substr(7));
    if (line.empty() || (line.front() != '"' && line.front() != '<')) continue;
    const bool quoted = line.front() == '"';
    const auto end = line.find(quoted ? '"' : '>', 1);
    if (end != std::string_view::npos) includes.push_back({line.substr(1, end - 1), quoted});
  }
  return includes;
}

bool starts_with_any(std::string_view text, const std::vector<std::string_view>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return text.starts_with(prefix); });
}

/// Whether `text` has `name` as a whole word, comments included.
bool has_word(std::string_view text, std::string_view name) {
  const auto is_word = [](char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  for (auto at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const auto end = at + name.size();
    if ((at == 0 || !is_word(text[at - 1])) && (end == text.size() || !is_word(text[end])))
      return true;
  }
  return false;
}

class Checker {
 public:
  explicit Checker(std::span<const SourceFile> files) : files_(files) {
    for (const SourceFile& file : files) paths_.insert(file.path);
  }

  std::vector<std::string> check() {
    check_names();
    for (const SourceFile& file : files_) {
      if (file.path.starts_with("tests/golden/")) continue;  // emitted text
      if (file.path.ends_with(".in")) check_template(file);
      if (file.path.ends_with(".h") || file.path.ends_with(".cpp")) check_code(file);
    }
    return std::move(violations_);
  }

 private:
  void report(const std::string& path, std::string_view problem) {
    violations_.push_back(fmt::format("{}: {}", path, problem));
  }

  void check_names() {
    // CMake and Git ask for theirs in every folder; each program has its main.
    const std::set<std::string> repeated = {"CMakeLists.txt", "README.md", "main.cpp"};
    std::map<std::string, std::string> seen;
    for (const SourceFile& file : files_) {
      // Golden files are named by format and target in the folder of their kernel.
      if (file.path.starts_with("tests/golden/")) continue;
      const std::string name = std::filesystem::path(file.path).filename();
      if (repeated.contains(name)) continue;
      const auto [first, is_new] = seen.emplace(name, file.path);
      if (!is_new) report(file.path, fmt::format("has the same name as {}", first->second));
    }
  }

  void check_template(const SourceFile& file) {
    if (!includes_of(file.text).empty())
      report(file.path, "includes a header; emitted text has none");
  }

  void check_code(const SourceFile& file) {
    const bool is_header = file.path.ends_with(".h");
    // The comment of a header speaks for its source too, and foo_test.cpp is named by what it
    // tests.
    const bool speaks_itself = !own_header_of(file).empty() || file.path.ends_with("_test.cpp");
    if (!file.text.starts_with("//") && !speaks_itself)
      report(file.path, "doesn't begin with a comment");
    if (is_header && !has_word(file.text, "#pragma once")) report(file.path, "has no #pragma once");

    const bool is_product = !file.path.starts_with("tests/");
    if (is_product && file.path != "jit/options.cpp" &&
        (has_word(file.text, "getenv") || has_word(file.text, "secure_getenv"))) {
      report(file.path, "reads the environment; only jit/options.cpp does");
    }

    const std::vector<Include> includes = includes_of(file.text);
    check_own_header_first(file, includes);
    const auto rule =
        std::find_if(kFolderRules.begin(), kFolderRules.end(),
                     [&](const FolderRule& one) { return file.path.starts_with(one.folder); });
    if (rule == kFolderRules.end()) {
      report(file.path, "is in a folder that the table of tests/build/layering_rules.cpp lacks");
      return;
    }
    for (const Include& include : includes) {
      if (include.quoted) {
        check_inside(file, *rule, include.name);
      } else {
        check_outside(file, include.name);
      }
    }
  }

  /// "core/format.h" for core/format.cpp; "" for a header, and for a source that has none.
  std::string own_header_of(const SourceFile& file) const {
    if (!file.path.ends_with(".cpp")) return "";
    const std::string header = file.path.substr(0, file.path.size() - 4) + ".h";
    return paths_.contains(header) ? header : "";
  }

  void check_own_header_first(const SourceFile& file, const std::vector<Include>& includes) {
    const std::string header = own_header_of(file);
    if (header.empty()) return;
    if (includes.empty() || includes.front().name != header)
      report(file.path, fmt::format("doesn't include {} first", header));
  }

  void check_inside(const SourceFile& file, const FolderRule& rule, std::string_view name) {
    if (!paths_.contains(std::string(name))) {
      report(file.path, fmt::format("includes {}, which is no file of the tree", name));
    } else if (!starts_with_any(name, rule.may_include)) {
      report(file.path, fmt::format("includes {}, but {}", name, rule.reason));
    }
  }

  void check_outside(const SourceFile& file, std::string_view name) {
    for (const OutsideRule& rule : kOutsideRules) {
      if (name.starts_with(rule.prefix) && !starts_with_any(file.path, rule.allowed_in))
        report(file.path, fmt::format("includes <{}>, but {}", name, rule.reason));
    }
  }

  std::span<const SourceFile> files_;
  std::set<std::string> paths_;
  std::vector<std::string> violations_;
};

}  // namespace

std::vector<std::string> find_violations(std::span<const SourceFile> files) {
  return Checker(files).check();
}

}  // namespace ktjit::test
