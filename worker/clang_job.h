// Compiles one text with Clang and LLVM, in this process and in memory.
#pragma once

#include <string>

#include "jit/worker_protocol.h"

namespace ktjit::worker {

struct JobResult {
  bool ok = false;
  std::string log;
  std::string bytes;
};

/// Registers the targets; once, before the first job.
void initialize_llvm();

/// The text's object file for OutputKind::kSharedObject, else its assembly or LLVM IR.
JobResult run_clang(const Request& request);

}  // namespace ktjit::worker
