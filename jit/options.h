// Settings of a process: the only place where environment variables are read. Everything else gets
// them as arguments.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace ktjit {

inline constexpr std::uint64_t kDefaultCacheBytes = std::uint64_t{2} << 30;
inline constexpr std::uint64_t kNoCacheCap = std::numeric_limits<std::uint64_t>::max();

/// Values given by the caller stay; values left empty come from the environment, then from
/// defaults.
struct Options {
  bool cache_enabled = true;  ///< KTJIT_CACHE=off switches it off
  std::filesystem::path
      cache_dir;  ///< KTJIT_CACHE_DIR, else $XDG_CACHE_HOME/ktjit, else ~/.cache/ktjit
  std::vector<std::filesystem::path>
      cache_path;  ///< KTJIT_CACHE_PATH: packs and folders that are only read, ':' between them
  std::vector<std::filesystem::path>
      cache_shared;  ///< KTJIT_CACHE_SHARED: those of the above that several users write
  /// KTJIT_CACHE_MAX_SIZE ("500M", "2G", bytes, or "none"), else kDefaultCacheBytes: what is kept in
  /// cache_dir. kNoCacheCap: no limit.
  std::optional<std::uint64_t> cache_max_bytes;
  bool sealed = false;  ///< KTJIT_SEALED=on: nothing is compiled, a missing kernel is an error
  bool tuning = true;   ///< KTJIT_TUNING=off: measured knobs (docs/TUNING.md) are not used
  std::filesystem::path nvrtc;               ///< KTJIT_NVRTC: libnvrtc or its folder
  std::filesystem::path cuda_home;           ///< CUDA_HOME, else CUDA_PATH
  std::filesystem::path python_environment;  ///< VIRTUAL_ENV, else CONDA_PREFIX
  std::filesystem::path worker;              ///< KTJIT_LLVM_WORKER: the program ktjit-llvm
  std::filesystem::path dump_dir;            ///< KTJIT_DUMP_DIR: where refused texts are saved
  std::filesystem::path disassembler;        ///< KTJIT_NVDISASM: the program nvdisasm
  int threads = 0;  ///< KTJIT_THREADS: of the CPU device and for compiles; 0: all

  /// Whether this folder or pack is declared shared.
  bool is_shared(const std::filesystem::path& root) const;
};

/// Completes `given` from the environment and the defaults.
/// Errors: SpecError for a variable with a value that is not allowed. No home folder is no error:
/// cache_dir stays empty and nothing is cached on disk.
Options complete_options(Options given = {});

}  // namespace ktjit
