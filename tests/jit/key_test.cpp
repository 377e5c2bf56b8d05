// What changes the key of an artefact, and what does not.
#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "jit/engine.h"
#include "jit/llvm_compiler.h"
#include "jit/nvrtc_compiler.h"
#include "tests/jit/fake_elf.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

/// An NVRTC that is never opened: identities come from the candidate alone.
NvrtcCandidate made_nvrtc(const std::string& folder = "/opt/cuda/lib64") {
  NvrtcCandidate candidate;
  candidate.library = folder + "/libnvrtc.so.13";
  candidate.builtins = folder + "/libnvrtc-builtins.so.13.0";
  candidate.version = {13, 0};
  candidate.library_id = "0123";
  candidate.builtins_id = "4567";
  candidate.found_by = "a test";
  return candidate;
}

cache::CacheKey key_of(const NvrtcCandidate& candidate, const KernelSpec& spec,
                       ArtifactKind kind = ArtifactKind::kCubin) {
  const Engine engine({std::make_shared<NvrtcCompiler>(candidate, "")}, {});
  return engine.key_for(spec, kind);
}

cache::CacheKey llvm_key(const std::filesystem::path& worker, const KernelSpec& spec) {
  LlvmCompilerOptions options;
  options.worker = worker;
  const Engine engine({std::make_shared<LlvmCompiler>(options)}, {});
  return engine.key_for(spec, ArtifactKind::kSharedObject);
}

KernelSpec gpu_spec(int sm = 86) {
  return test::make_spec(Op::kDequant, "q4_K", 512, make_cuda_target(sm, ""));
}

/// The field with another value.
cache::KeyFields changed(const cache::KeyFields& fields, std::size_t which) {
  cache::KeyFields result;
  for (std::size_t i = 0; i < fields.fields().size(); ++i) {
    const cache::Field& field = fields.fields()[i];
    result.add(field.name, std::string_view(i == which ? field.value + "x" : field.value));
  }
  return result;
}

}  // namespace

TEST_CASE("keys name the text, the target, the options, the prelude and who compiles") {
  const cache::CacheKey key = key_of(made_nvrtc(), gpu_spec());
  for (const char* name :
       {"kind", "target", "features", "contract", "flush_to_zero", "entry", "text"}) {
    INFO(name);
    CHECK(key.request.find(name) != nullptr);
  }
  for (const char* name :
       {"compiler", "libnvrtc-build-id", "libnvrtc-builtins-build-id", "flags", "prelude"}) {
    INFO(name);
    CHECK(key.compiler.find(name) != nullptr);
  }
  CHECK(key.request.find("text")->find("extern \"C\" __global__") != std::string::npos);
}

TEST_CASE("any field of a key changes its digest; those of the request also the request's") {
  const cache::CacheKey key = key_of(made_nvrtc(), gpu_spec());
  for (std::size_t i = 0; i < key.request.fields().size(); ++i) {
    INFO(key.request.fields()[i].name);
    const cache::CacheKey other{changed(key.request, i), key.compiler};
    CHECK(other.request_digest() != key.request_digest());
    CHECK(other.artifact_digest() != key.artifact_digest());
  }
  for (std::size_t i = 0; i < key.compiler.fields().size(); ++i) {
    INFO(key.compiler.fields()[i].name);
    const cache::CacheKey other{key.request, changed(key.compiler, i)};
    CHECK(other.request_digest() == key.request_digest());
    CHECK(other.artifact_digest() != key.artifact_digest());
  }
}

TEST_CASE("every part of a spec that changes the text or the target changes the request") {
  const NvrtcCandidate nvrtc = made_nvrtc();
  std::vector<KernelSpec> specs = {gpu_spec()};
  const auto add = [&](const std::function<void(KernelSpec&)>& change) {
    change(specs.emplace_back(gpu_spec()));
  };
  add([](KernelSpec& spec) { spec.op = Op::kMatvec; });
  add([](KernelSpec& spec) { spec.op = Op::kMoeMatvec; });
  add([](KernelSpec& spec) { spec.op = Op::kMoeMatmul; });
  for (const Op op : {Op::kMatvec, Op::kMoeMatvec, Op::kMoeMatmul}) {
    for (const Gate gate : {Gate::kSilu, Gate::kGeluTanh}) {
      add([&](KernelSpec& spec) {
        spec.op = op;
        spec.gate = gate;
      });
    }
  }
  for (const int matrices : {2, 3}) {
    add([&](KernelSpec& spec) {
      spec.op = Op::kMatvec;
      spec.matrices = matrices;
    });
  }
  for (const FormatId residual : {FormatId::kF32, FormatId::kF16}) {
    add([&](KernelSpec& spec) {
      spec.op = Op::kMatvec;
      spec.residual = residual;
    });
  }
  add([](KernelSpec& spec) { spec.layout.cols = 768; });
  add([](KernelSpec& spec) { spec.y_format = FormatId::kBF16; });
  add([](KernelSpec& spec) { spec.weight = FormatId::kQ5_K; });
  add([](KernelSpec& spec) { spec.target = make_cuda_target(80, ""); });
  add([](KernelSpec& spec) { spec.target = make_cuda_target(75, ""); });
  add([](KernelSpec& spec) { spec.target = make_cuda_target(90, ""); });
  add([](KernelSpec& spec) { spec.target = make_cuda_target(90, "a"); });
  std::set<cache::Digest> requests;
  for (const KernelSpec& spec : specs) requests.insert(key_of(nvrtc, spec).request_digest());
  CHECK(requests.size() == specs.size());
  CHECK(key_of(nvrtc, gpu_spec(), ArtifactKind::kPtx).request_digest() !=
        key_of(nvrtc, gpu_spec()).request_digest());
}

TEST_CASE("a feature of the CPU changes the request") {
  const test::ScratchFolder folder;
  const auto worker = folder.write("ktjit-llvm", test::elf_with_build_id("id"));
  KernelSpec spec = test::make_spec(Op::kDequant, "q4_K", 512, test::avx2_target());
  const cache::CacheKey key = llvm_key(worker, spec);
  REQUIRE(!spec.target.cpu_features.empty());
  spec.target.cpu_features.pop_back();
  CHECK(llvm_key(worker, spec).request_digest() != key.request_digest());
}

TEST_CASE("the build of NVRTC and that of its builtins change the key, their place does not") {
  const cache::CacheKey key = key_of(made_nvrtc(), gpu_spec());
  CHECK(key_of(made_nvrtc("/home/user/.venv/lib"), gpu_spec()) == key);
  NvrtcCandidate found_elsewhere = made_nvrtc();
  found_elsewhere.found_by = "CUDA_HOME";
  CHECK(key_of(found_elsewhere, gpu_spec()) == key);

  NvrtcCandidate patched = made_nvrtc();
  patched.library_id = "0124";
  NvrtcCandidate other_builtins = made_nvrtc();
  other_builtins.builtins_id = "4568";
  NvrtcCandidate older = made_nvrtc();  // other options as well
  older.version = {12, 1};
  for (const NvrtcCandidate& other : {patched, other_builtins, older}) {
    const cache::CacheKey changed_key = key_of(other, gpu_spec());
    CHECK(changed_key.artifact_digest() != key.artifact_digest());
    CHECK(changed_key.request_digest() == key.request_digest());
  }
}

TEST_CASE("the build of the worker changes the key, its place and time do not") {
  const test::ScratchFolder folder;
  const KernelSpec spec = test::make_spec(Op::kDequant, "q4_K", 512, test::avx2_target());
  const cache::CacheKey key =
      llvm_key(folder.write("a/ktjit-llvm", test::elf_with_build_id("one")), spec);
  const auto copy = folder.write("b/bin/ktjit-llvm", test::elf_with_build_id("one"));
  std::filesystem::last_write_time(
      copy, std::filesystem::file_time_type::min() + std::chrono::hours(24 * 365 * 200));
  CHECK(llvm_key(copy, spec) == key);
  const cache::CacheKey other =
      llvm_key(folder.write("c/ktjit-llvm", test::elf_with_build_id("two")), spec);
  CHECK(other.artifact_digest() != key.artifact_digest());
  CHECK(other.request_digest() == key.request_digest());
  CHECK(key.hashed().text.find(folder.path().string()) == std::string::npos);
}

TEST_CASE("CUDA text for Clang has its prelude in the key") {
  const test::ScratchFolder folder;
  LlvmCompilerOptions options;
  options.worker = folder.write("ktjit-llvm", test::elf_with_build_id("id"));
  const Engine engine({std::make_shared<LlvmCompiler>(options)}, {});
  const cache::CacheKey key = engine.key_for(gpu_spec(61), ArtifactKind::kPtx);
  const std::string* prelude = key.compiler.find("prelude");
  REQUIRE(prelude != nullptr);
  CHECK(prelude->size() > 100);
  CHECK(key.compiler.find("arguments") != nullptr);
}

TEST_CASE("where no compiler serves, the key has the request alone") {
  const Engine engine({}, {});
  const cache::CacheKey key = engine.key_for(gpu_spec(), ArtifactKind::kCubin);
  CHECK(key.compiler.empty());
  CHECK(key.request == key_of(made_nvrtc(), gpu_spec()).request);
}

}  // namespace ktjit
