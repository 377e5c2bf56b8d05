#include "cli/common_options.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

#include "cache/pack_file.h"
#include "cache/posix_file_system.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "core/error.h"

namespace po = boost::program_options;

namespace ktjit::cli {

void CommonOptions::add_cache_dir(ArgumentParser& parser) {
  parser.add_options()(
      "cache-dir", po::value(&cache_dir)->value_name("DIR"),
      "folder of the kernel cache (default: KTJIT_CACHE_DIR, else ~/.cache/ktjit)");
}

void CommonOptions::add_from(ArgumentParser& parser) {
  parser.add_options()("from", po::value(&from)->composing()->value_name("PATH"),
                       "a pack or folder of compiled kernels to look in, never written; may be "
                       "given several times (default: KTJIT_CACHE_PATH)");
}

void CommonOptions::add_machine(ArgumentParser& parser) {
  add_cache_dir(parser);
  parser.add_flag("no-cache", &no_cache, "neither read nor write the kernel cache");
  add_from(parser);
  parser.add_flag("sealed", &sealed,
                  "compile nothing: a kernel that is missing is an error (default: KTJIT_SEALED)");
  parser.add_flag(
      "no-tuning", &no_tuning,
      "use the default knobs, not those that 'ktjit tune' measured (default: KTJIT_TUNING)");
  add_compilers(parser);
}

void CommonOptions::add_compilers(ArgumentParser& parser) {
  parser.add_options()("nvrtc", po::value(&nvrtc)->value_name("PATH"),
                       "libnvrtc, or the folder it is in (default: KTJIT_NVRTC, else a search)")(
      "threads", po::value(&threads)->value_name("N"),
      "threads of the CPU device and for compiles (default: KTJIT_THREADS, else all)");
}

void CommonOptions::add_device(ArgumentParser& parser) {
  parser.add_options()("device", po::value(&device)->value_name("D"),
                       "cuda, cuda:1, ..., cpu, or sim: CUDA code on a simulator "
                       "(default: the first GPU, else the CPU)");
}

void CommonOptions::add_target(ArgumentParser& parser) {
  parser.add_options()("target", po::value(&target)->value_name("T"),
                       "sm_60 ... sm_121a, cpu, cpu:x86-64-v3 (default: the device's own)");
}

void CommonOptions::add_targets(ArgumentParser& parser) {
  parser.add_options()("target", po::value(&targets)->composing()->value_name("T"),
                       "sm_60 ... sm_121a, cpu, cpu:x86-64-v3; may be given several times "
                       "(default: this machine's)");
}

void CommonOptions::add_layout(ArgumentParser& parser) {
  parser.add_options()(
      "layout", po::value(&layout)->value_name("L"),
      "of matvec's weights: native, prepared, or auto: prepared where the target and format have "
      "it (default: native)");
}

LayoutKind CommonOptions::matvec_layout() const {
  if (layout != "auto" && layout != "native" && layout != "prepared")
    throw UsageError(fmt::format("--layout is '{}'", layout), "give auto, native or prepared");
  return layout == "native" ? LayoutKind::kNative : LayoutKind::kPrepared;
}

void CommonOptions::check_layout(std::span<const Plan> plans) const {
  if (layout != "prepared" || std::ranges::any_of(plans, &Plan::has_prepared)) return;
  throw UsageError("--layout is 'prepared', and no tensor has a kernel that reads such weights",
                   "they are for matvec of ggml's block formats on CPUs, and on GPUs of sm_61 and "
                   "from sm_70 on; "
                   "auto takes them where they are served");
}

void CommonOptions::add_jobs(ArgumentParser& parser) {
  parser.add_options()("jobs,j", po::value(&jobs)->value_name("N"),
                       "kernels to compile side by side (default: as --threads)");
}

void CommonOptions::add_json(ArgumentParser& parser) {
  parser.add_flag("json", &json, "print one JSON document in place of text");
}

Options CommonOptions::make_options() const {
  if (threads < 0) throw UsageError(fmt::format("--threads is {}", threads), "give 1 or more");
  if (jobs < 0) throw UsageError(fmt::format("-j is {}", jobs), "give 1 or more");
  Options options;
  options.cache_enabled = !no_cache;
  options.cache_dir = cache_dir;
  options.nvrtc = nvrtc;
  options.threads = threads;
  options.sealed = sealed;
  options.tuning = !no_tuning;
  options = complete_options(options);
  if (from.empty()) return options;
  if (!options.cache_enabled) {
    throw UsageError("--from needs the cache",
                     no_cache ? "leave out --no-cache" : "unset KTJIT_CACHE");
  }
  check_from(options);
  options.cache_path.insert(options.cache_path.begin(), from.begin(), from.end());
  return options;
}

void CommonOptions::check_from(const Options& options) const {
  for (const std::string& path : from) {
    std::error_code error;
    const auto kind = std::filesystem::status(path, error).type();
    if (kind == std::filesystem::file_type::not_found) {
      throw InputError(path, "no such pack or folder of kernels");
    }
    if (kind == std::filesystem::file_type::directory) continue;
    cache::PackFile(cache::posix_file_system(), {path, options.is_shared(path)});
  }
}

Toolchain CommonOptions::make_toolchain() const {
  return Toolchain(make_options(), [](std::string_view line) {
    print_to_stderr(fmt::format("ktjit: warning: {}", line));
  });
}

int CommonOptions::compile_threads(const Options& options) const {
  return jobs > 0 ? jobs : options.threads;
}

}  // namespace ktjit::cli
