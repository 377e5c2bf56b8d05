// Small kernels in PTX, so that tests of the runtime need no compiler.
#pragma once

#include <cstring>
#include <string>

#include "core/artifact.h"

namespace ktjit::test {

inline Artifact make_ptx(const std::string& name, const std::string& text) {
  Artifact ptx;
  ptx.kind = ArtifactKind::kPtx;
  ptx.entry_name = name;
  ptx.bytes.resize(text.size());
  std::memcpy(ptx.bytes.data(), text.data(), text.size());
  return ptx;
}

/// add_one(u64 x, u64 y, u64 n): y[i] = x[i] + 1 for i < n, f32.
inline Artifact make_add_one(const std::string& header) {
  return make_ptx("add_one", header + R"(
.address_size 64
.visible .entry add_one(.param .u64 p_x, .param .u64 p_y, .param .u64 p_n)
{
  .reg .pred %done;
  .reg .b32 %block, %threads, %thread;
  .reg .b64 %i, %t, %n, %x, %y, %offset;
  .reg .f32 %value;
  mov.u32 %block, %ctaid.x;
  mov.u32 %threads, %ntid.x;
  mov.u32 %thread, %tid.x;
  mul.wide.u32 %i, %block, %threads;
  cvt.u64.u32 %t, %thread;
  add.u64 %i, %i, %t;
  ld.param.u64 %n, [p_n];
  setp.ge.u64 %done, %i, %n;
  @%done bra END;
  ld.param.u64 %x, [p_x];
  ld.param.u64 %y, [p_y];
  shl.b64 %offset, %i, 2;
  add.u64 %x, %x, %offset;
  add.u64 %y, %y, %offset;
  ld.global.f32 %value, [%x];
  add.f32 %value, %value, 0f3F800000;
  st.global.f32 [%y], %value;
END:
  ret;
}
)");
}

inline const std::string kSm75 = ".version 6.3\n.target sm_75";
inline const std::string kSm86 = ".version 7.1\n.target sm_86";
inline const std::string kSm60 = ".version 5.0\n.target sm_60";

/// smem_size(u64 y): writes the bytes of dynamic shared memory to y[0] after using the last 4.
inline Artifact make_smem_size() {
  return make_ptx("smem_size", kSm60 + R"(
.address_size 64
.extern .shared .align 16 .b8 tile[];
.visible .entry smem_size(.param .u64 p_y)
{
  .reg .b32 %bytes, %at, %value;
  .reg .b64 %y;
  mov.u32 %bytes, %dynamic_smem_size;
  mov.u32 %at, tile;
  add.u32 %at, %at, %bytes;
  st.shared.u32 [%at+-4], %bytes;
  ld.shared.u32 %value, [%at+-4];
  ld.param.u64 %y, [p_y];
  st.global.u32 [%y], %value;
  ret;
}
)");
}

/// trap(): fails on the device.
inline Artifact make_trap() {
  return make_ptx("trap_now", kSm60 + R"(
.address_size 64
.visible .entry trap_now()
{
  trap;
  ret;
}
)");
}

}  // namespace ktjit::test
