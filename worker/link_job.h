// Links one object file into a shared object with lld, in this process and in memory.
#pragma once

#include <string>

#include "worker/clang_job.h"

#include "jit/worker_protocol.h"

namespace ktjit::worker {

struct LinkResult {
  JobResult job;
  bool can_run_again = true;  ///< false: lld crashed, end the process after answering
};

LinkResult run_linker(const Request& request, const std::string& object);

}  // namespace ktjit::worker
