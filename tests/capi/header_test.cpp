// The C header from C++, and the layout that its version promises.
#include <catch2/catch.hpp>
#include <cstddef>

#include "capi/ktjit.h"

TEST_CASE("the structs of version 1 keep their layout") {
  static_assert(KTJIT_ABI_VERSION == 1);
  CHECK(sizeof(ktjit_options) == 112);
  CHECK(offsetof(ktjit_options, log_data) == 80);
  CHECK(offsetof(ktjit_options, cache_max_bytes) == 96);
  CHECK(sizeof(ktjit_executor) == 32);
  CHECK(sizeof(ktjit_kernel_desc) == 176);
  CHECK(offsetof(ktjit_kernel_desc, rows) == 128);
  CHECK(offsetof(ktjit_kernel_desc, gate) == 136);
  CHECK(offsetof(ktjit_kernel_desc, layout) == 160);
  CHECK(offsetof(ktjit_kernel_desc, target) == 112);
  CHECK(offsetof(ktjit_kernel_desc, dependent_launch) == 120);
  CHECK(sizeof(ktjit_kernel_info) == 120);
  CHECK(offsetof(ktjit_kernel_info, static_smem_bytes) == 108);
  CHECK(sizeof(ktjit_arguments) == 176);
  CHECK(offsetof(ktjit_arguments, ids) == 64);
  CHECK(sizeof(ktjit_counts) == 64);
}

TEST_CASE("the init functions set the size and nothing else") {
  const ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  CHECK(desc.struct_size == sizeof(desc));
  CHECK(desc.op == nullptr);
  CHECK(desc.cols == 0);
  CHECK(desc.target == nullptr);
}

TEST_CASE("the library has the header's version") {
  CHECK(ktjit_abi_version() == KTJIT_ABI_VERSION);
}
