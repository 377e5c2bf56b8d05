#include "jit/nvrtc_log.h"

#include <catch2/catch.hpp>
#include <string>

using ktjit::KernelResources;
using ktjit::parse_ptxas_statistics;
using ktjit::warnings_in;

namespace {

// As NVRTC 13.0 writes it, with a function that was not inlined and a second kernel.
const std::string kLog = R"(k.cu(1): warning #177-D: variable "a" was declared but never referenced

ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'other' for 'sm_86'
ptxas info    : Function properties for other
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, 999 bytes smem
ptxas info    : Compiling entry function 'k' for 'sm_86'
ptxas info    : Function properties for k
ptxas         .     160 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Function properties for callee
ptxas         .     16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 176 bytes cumulative stack size, 256 bytes smem, 372 bytes cmem[0]
ptxas info    : Compile time = 32.168 ms
)";

}  // namespace

TEST_CASE("ptxas statistics are those of the kernel and what it calls") {
  const KernelResources k = parse_ptxas_statistics(kLog, "k");
  CHECK(k.registers == 48);
  CHECK(k.stack_bytes == 176);
  CHECK(k.spill_bytes == 40);
  CHECK(k.static_smem_bytes == 256);
  const KernelResources other = parse_ptxas_statistics(kLog, "other");
  CHECK(other.registers == 255);
  CHECK(other.stack_bytes == 8);
  CHECK(other.spill_bytes == 8);
  CHECK(other.static_smem_bytes == 999);
}

TEST_CASE("log without statistics tells no resources") {
  for (const char* log : {"", "\n", "ptxas info : bytes stack frame", "Used registers"}) {
    const KernelResources none = parse_ptxas_statistics(log, "k");
    CHECK_FALSE(none.registers);
    CHECK_FALSE(none.stack_bytes);
    CHECK_FALSE(none.spill_bytes);
    CHECK_FALSE(none.static_smem_bytes);
  }
  CHECK_FALSE(parse_ptxas_statistics(kLog, "absent").registers);
}

TEST_CASE("warnings are what remains of the log without statistics") {
  CHECK(warnings_in(kLog) ==
        "k.cu(1): warning #177-D: variable \"a\" was declared but never referenced\n");
  CHECK(warnings_in("ptxas info    : 0 bytes gmem\n").empty());
  CHECK(warnings_in("nvrtc: warning: Architectures prior to '<compute/sm>_75' are deprecated\n")
            .empty());
  CHECK(warnings_in("ptxas warning : something\n") == "ptxas warning : something\n");
}
