// Options that several verbs share, and what they make: a toolchain.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cli/argument_parser.h"
#include "core/tensor_layout.h"
#include "jit/planner.h"
#include "jit/toolchain.h"

namespace ktjit::cli {

struct CommonOptions {
  std::string cache_dir;
  bool no_cache = false;
  std::vector<std::string> from;
  bool sealed = false;
  bool no_tuning = false;
  std::string nvrtc;
  int threads = 0;
  std::string device;
  std::string target;
  std::vector<std::string> targets;
  std::string layout = "native";
  int jobs = 0;
  bool json = false;

  // Each adds some options to a verb. The object must outlive the parser.
  void add_machine(
      ArgumentParser&
          parser);  ///< --cache-dir, --no-cache, --from, --sealed, --no-tuning, --nvrtc, --threads
  void add_cache_dir(ArgumentParser& parser);  ///< --cache-dir alone
  void add_from(ArgumentParser& parser);       ///< --from, any number of times
  void add_compilers(ArgumentParser& parser);  ///< --nvrtc, --threads
  void add_device(ArgumentParser& parser);     ///< --device
  void add_target(ArgumentParser& parser);     ///< --target, once
  void add_targets(ArgumentParser& parser);    ///< --target, any number of times
  void add_layout(ArgumentParser& parser);     ///< --layout of a model's matvec
  void add_jobs(ArgumentParser& parser);       ///< -j
  void add_json(ArgumentParser& parser);       ///< --json

  /// The process's options: what was given here, completed from the environment.
  /// Errors: UsageError for counts that are not positive; SpecError for a variable; InputError for
  /// a --from that is absent, or a pack that is damaged or not trusted.
  Options make_options() const;
  /// Warnings of the toolchain go to standard error as "ktjit: warning: ...".
  Toolchain make_toolchain() const;
  /// What a plan is asked for. Errors: UsageError for a name that is no layout.
  LayoutKind matvec_layout() const;
  /// Errors: UsageError if prepared weights were asked for by name, and no kernel of the plans reads them.
  void check_layout(std::span<const Plan> plans) const;
  /// Threads for compiles: -j, else --threads, else 0: as many as the process may use.
  int compile_threads(const Options& options) const;

 private:
  void check_from(const Options& options) const;
};

}  // namespace ktjit::cli
