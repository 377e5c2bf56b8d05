// The check of PTX instructions finds wrong results: on a device that executes the models
// themselves, with one result changed.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/gpu/ptx_conformance.h"

namespace ktjit {
namespace {

using runtime::PtxInstruction;

/// What stands in for a kernel: gets the arguments of a launch.
using Body = std::function<void(std::span<const std::uint64_t>)>;

class HostBuffer final : public runtime::Buffer {
 public:
  explicit HostBuffer(std::size_t bytes) : words_(bytes / 8 + 1), bytes_(bytes) {}
  std::byte* data() { return reinterpret_cast<std::byte*>(words_.data()); }
  const std::byte* data() const { return reinterpret_cast<const std::byte*>(words_.data()); }
  std::uint64_t address() const override { return std::bit_cast<std::uint64_t>(words_.data()); }
  std::size_t bytes() const override { return bytes_; }

 private:
  std::vector<std::uint64_t> words_;
  std::size_t bytes_;
};

class IdleStream final : public runtime::Stream {
  void synchronize() override {}
};

class BodyKernel final : public runtime::Kernel {
 public:
  explicit BodyKernel(Body body) : body_(std::move(body)) {}
  void launch(runtime::Stream&, const LaunchGrid&,
              std::span<const std::uint64_t> arguments) const override {
    body_(arguments);
  }
  KernelResources resources() const override { return {}; }

 private:
  Body body_;
};

/// Host memory, and a body for every kernel.
class BodyDevice final : public runtime::Device {
 public:
  explicit BodyDevice(Body body) : body_(std::move(body)) {}

  std::string name() const override { return "body"; }
  std::string description() const override { return "a C++ function"; }
  const Target& native_target() const override { return target_; }
  bool can_load(const Target&, ArtifactKind, std::string*) const override { return true; }
  std::size_t total_memory_bytes() const override { return 0; }
  std::size_t free_memory_bytes() const override { return 0; }
  std::size_t last_level_cache_bytes() const override { return 0; }
  std::unique_ptr<runtime::Buffer> allocate(std::size_t bytes) override {
    return std::make_unique<HostBuffer>(bytes);
  }
  std::unique_ptr<runtime::Buffer> try_borrow(std::span<const std::byte>) override {
    return nullptr;
  }
  std::unique_ptr<runtime::Stream> make_stream() override { return std::make_unique<IdleStream>(); }
  void upload(runtime::Stream&, std::span<const std::byte> from, runtime::Buffer& to,
              std::size_t offset) override {
    std::memcpy(dynamic_cast<HostBuffer&>(to).data() + offset, from.data(), from.size());
  }
  void download(runtime::Stream&, const runtime::Buffer& from, std::size_t offset,
                std::span<std::byte> to) override {
    std::memcpy(to.data(), dynamic_cast<const HostBuffer&>(from).data() + offset, to.size());
  }
  void fill(runtime::Stream&, runtime::Buffer& buffer, std::byte value) override {
    std::memset(dynamic_cast<HostBuffer&>(buffer).data(), static_cast<int>(value), buffer.bytes());
  }
  std::unique_ptr<runtime::Kernel> load(const Artifact&) override {
    return std::make_unique<BodyKernel>(body_);
  }
  double time_us(runtime::Stream&, const std::function<void()>& enqueue) override {
    enqueue();
    return 1.0;
  }

 private:
  Body body_;
  Target target_ = make_cuda_target(90, "a");
};

class NoCompiler final : public Compiler {
  std::string name() const override { return "none"; }
  bool serves(const Target&, ArtifactKind) const override { return true; }
  CompilerIdentity identity(const Target&, ArtifactKind) const override { return {}; }
  Artifact compile(const CompileRequest&) override { return {}; }
};

test::PtxCheckResult check(const PtxInstruction& entry, Body body) {
  NoCompiler compiler;
  BodyDevice device(std::move(body));
  return test::check_ptx_instruction(entry, {compiler, device, device.native_target()});
}

/// Does what the register kernel does, then lets `spoil` change results, [results, n].
Body model_of(const PtxInstruction& entry,
              std::function<void(std::uint64_t* results, std::size_t n)> spoil) {
  return [&entry, spoil = std::move(spoil)](std::span<const std::uint64_t> arguments) {
    const auto* operands = std::bit_cast<const std::uint64_t*>(arguments[0]);
    auto* results = std::bit_cast<std::uint64_t*>(arguments[1]);
    const std::size_t n = arguments[2];
    std::uint64_t in[32][16] = {}, out[32][4] = {};
    const std::uint64_t* in_rows[32];
    std::uint64_t* out_rows[32];
    for (int lane = 0; lane < 32; ++lane) {
      in_rows[lane] = in[lane];
      out_rows[lane] = out[lane];
    }
    for (std::size_t warp = 0; warp < n; warp += 32) {
      for (std::size_t lane = 0; lane < 32; ++lane) {
        for (std::size_t j = 0; j < static_cast<std::size_t>(entry.operands); ++j)
          in[lane][j] = operands[j * n + warp + lane];
        if (entry.run != nullptr) entry.run(out[lane], in[lane]);
      }
      if (entry.run_warp != nullptr) entry.run_warp(out_rows, in_rows);
      for (std::size_t lane = 0; lane < 32; ++lane)
        for (std::size_t k = 0; k < static_cast<std::size_t>(entry.results); ++k)
          results[k * n + warp + lane] = out[lane][k];
    }
    spoil(results, n);
  };
}

const PtxInstruction& get(std::string_view opcode) {
  const PtxInstruction* found = runtime::find_ptx_instruction(opcode);
  INFO(opcode);
  REQUIRE(found != nullptr);
  return *found;
}

void leave_alone(std::uint64_t*, std::size_t) {}

}  // namespace

TEST_CASE("PTX check passes what equals the model, for instructions of every kind") {
  for (const std::string_view opcode :
       {"prmt.b32", "lop3.b32", "dp4a.u32.s32", "cvt.f32.f16", "cvt.rn.satfinite.e2m1x2.f32",
        "fma.rn.f16x2", "max.f32", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32"}) {
    INFO(opcode);
    const PtxInstruction& entry = get(opcode);
    const test::PtxCheckResult result = check(entry, model_of(entry, leave_alone));
    INFO(result.first_problem);
    CHECK(result.wrong == 0);
    CHECK(result.compared >= 0x10000 * entry.results);
  }
}

TEST_CASE("PTX check finds one changed bit of one thread") {
  for (const std::string_view opcode : {"prmt.b32", "cvt.rn.bf16x2.f32", "cvt.f32.f16"}) {
    INFO(opcode);
    const PtxInstruction& entry = get(opcode);
    const test::PtxCheckResult result = check(
        entry, model_of(entry, [](std::uint64_t* results, std::size_t) { results[12345] ^= 2; }));
    CHECK(result.wrong == 1);
    CHECK_THAT(result.first_problem, Catch::StartsWith("thread 12345, result 0: "));
  }
  // A register that is wider than it should be, too.
  const PtxInstruction& narrow = get("cvt.rn.f16.f32");
  CHECK(check(narrow,
              model_of(narrow, [](std::uint64_t* results, std::size_t) { results[0] |= 0x10000; }))
            .wrong == 1);
}

TEST_CASE("PTX check takes another NaN only where PTX leaves it open") {
  const auto replace_nans = [](std::uint64_t* results, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i)
      if (results[i] == 0x7fffffff) results[i] = 0xffc00001;
  };
  const PtxInstruction& open = get("mul.rn.f32");
  CHECK(check(open, model_of(open, replace_nans)).wrong == 0);
  const PtxInstruction& defined = get("max.f32");
  CHECK(check(defined, model_of(defined, replace_nans)).wrong > 100);
}

TEST_CASE("PTX check holds products of floats to their bound, and whole numbers to the bit") {
  const PtxInstruction& entry = get("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
  const auto change = [&](std::size_t problem, float factor) {
    return check(entry, model_of(entry,
                                 [=](std::uint64_t* results, std::size_t) {
                                   std::uint64_t& slot = results[problem * 32];
                                   const auto value =
                                       std::bit_cast<float>(static_cast<std::uint32_t>(slot));
                                   REQUIRE(std::isfinite(value));
                                   REQUIRE(std::fabs(value) > 1e-3f);
                                   slot = std::bit_cast<std::uint32_t>(value * factor);
                                 }))
        .wrong;
  };
  // Problems 0, 4, ... are of whole numbers, 1, 5, ... of moderate ones.
  CHECK(change(0, 1.0f + 0x1p-23f) == 1);
  CHECK(change(1, 1.0f + 0x1p-22f) == 0);
  CHECK(change(1, 1.5f) == 1);
}

TEST_CASE("PTX check finds memory that was not moved") {
  int entries = 0;
  for (const PtxInstruction& entry : runtime::all_ptx_instructions()) {
    if (entry.kind != PtxInstruction::Kind::kMemory || !entry.proved_in_kernels.empty()) continue;
    INFO(entry.opcode);
    CHECK(check(entry, [](std::span<const std::uint64_t>) {}).wrong > 4000);
    ++entries;
  }
  CHECK(entries > 100);
}

// Slow: every entry's operands are drawn and its model run twice.
TEST_CASE("PTX check passes the model of every instruction", "[.slow]") {
  for (const PtxInstruction& entry : runtime::all_ptx_instructions()) {
    if (entry.kind == PtxInstruction::Kind::kMemory || !entry.proved_in_kernels.empty()) continue;
    INFO(entry.opcode);
    CHECK(check(entry, model_of(entry, leave_alone)).wrong == 0);
  }
}

}  // namespace ktjit
