#include "codegen/warpgroup_parts.h"

#include <algorithm>
#include <fmt/format.h>

namespace ktjit::codegen::warpgroup {
namespace {

/// Names "%0, %1, ..." of a thread's sums.
std::string sum_names(int sums) {
  std::string names;
  for (int i = 0; i < sums; ++i) {
    names += fmt::format("{}%{}{}", i % 16 == 0 ? "\n      \"" : "", i,
                         i + 1 == sums  ? "}, \""
                         : i % 16 == 15 ? ", \""
                                        : ", ");
  }
  return names;
}

/// Bindings "+f"(sum[0]), ...
std::string sum_bindings(int sums, std::string_view constraint) {
  std::string bindings;
  for (int i = 0; i < sums; ++i) {
    bindings += fmt::format("{}\"{}\"(sum[{}]){}", i % 8 == 0 ? "\n        " : " ", constraint, i,
                            i + 1 == sums ? "" : ",");
  }
  return bindings;
}

}  // namespace

int many_registers(int threads, int few) {
  constexpr int kRegisters = 65536, kStep = 8, kMost = 255;  // of a multiprocessor
  const int at_launch = std::min(kRegisters / threads, kMost) / kStep * kStep;
  const int left = at_launch * threads - few * kCopyThreads;
  return std::min(left / (threads - kCopyThreads), kMost) / kStep * kStep;
}

std::int64_t smem_limit(const Target& target, int ctas) {
  constexpr std::int64_t kReservedBytes = 1024;  // of each CTA
  const std::int64_t bytes = get_cuda_facts(target).smem_per_cta_bytes;
  return ctas == 1 ? bytes : bytes / ctas - kReservedBytes;
}

// PTX ISA, "wgmma.mma_async".
std::string product_function(bool is_fp8, int b_rows, bool starts, std::string_view constraint) {
  const int sums = b_rows / 2;
  return fmt::format(
      "\n// {} for 64 rows of a, of which this warp has 16, {} rows of b and {} columns. The sums "
      "are there after\n"
      "// products_done; until then no one changes what they read.\n"
      "__device__ __forceinline__ void {}(float (&sum)[{}], const unsigned (&a)[4], unsigned long "
      "long b_matrix) {{\n"
      "  asm volatile(\n"
      "      \"wgmma.mma_async.sync.aligned.m64n{}k{}.f32.{} {{\"{}\n"
      "      \"{{%{}, %{}, %{}, %{}}}, %{}, {}, 1, 1{};\"\n"
      "      :{}\n"
      "      : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"l\"(b_matrix)\n"
      "      : \"memory\");\n"
      "}}\n",
      starts ? "sum = a b" : "sum += a b", b_rows, is_fp8 ? 32 : 16,
      starts ? "start_product" : "add_product", sums, b_rows, is_fp8 ? 32 : 16,
      is_fp8 ? "e4m3.e4m3" : "bf16.bf16", sum_names(sums), sums, sums + 1, sums + 2, sums + 3,
      sums + 4, starts ? 0 : 1, is_fp8 ? "" : ", 0", sum_bindings(sums, constraint));
}

std::string keep_sums(int b_rows) {
  return fmt::format(
      "\n// After products_done: no one reads the sums from before.\n"
      "__device__ __forceinline__ void keep_sums(float (&sum)[{}]) {{\n"
      "  asm volatile(\"\"\n"
      "               :{}\n"
      "               : : \"memory\");\n"
      "}}\n",
      b_rows / 2, sum_bindings(b_rows / 2, "+f"));
}

}  // namespace ktjit::codegen::warpgroup
