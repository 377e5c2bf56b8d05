// Compiles one text with Clang and LLVM, in this process and in memory.
#pragma once

#include <memory>
#include <string>

#include "jit/worker_protocol.h"

namespace clang {
class CodeGenAction;
}
namespace llvm {
class raw_pwrite_stream;
}

namespace ktjit::worker {

struct JobResult {
  bool ok = false;
  std::string log;
  std::string bytes;
};

/// Registers the targets; once, before the first job.
void initialize_llvm();

/// Runs the front end on the request's text, with `action` at its end. Messages go to `log`; `output`
/// takes what the action writes.
bool run_front_end(const Request& request, clang::CodeGenAction& action, std::string& log,
                   std::unique_ptr<llvm::raw_pwrite_stream> output);

/// The text's object file for OutputKind::kSharedObject, else its assembly or LLVM IR.
JobResult run_clang(const Request& request);

}  // namespace ktjit::worker
