// cuLink*: one input, two logs.
#include "runtime/cuda_linker.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fmt/format.h>

#include "core/error.h"
#include "runtime/cuda_kernel.h"

namespace ktjit::runtime {
namespace {

constexpr std::size_t kLogBytes = 16 * 1024;

void* as_option(std::size_t value) { return reinterpret_cast<void*>(value); }

std::string text_in(const std::string& buffer) { return buffer.c_str(); }

}  // namespace

Artifact link_ptx(std::shared_ptr<const CudaContext> context, const Artifact& ptx) {
  KTJIT_CHECK(ptx.kind == ArtifactKind::kPtx);
  const DriverApi& api = context->api();
  const CurrentContext current(*context);
  const auto start = std::chrono::steady_clock::now();

  // Declared before the link, which writes to them until it is destroyed.
  std::string info_log(kLogBytes, '\0');
  std::string error_log(kLogBytes, '\0');
  std::array options = {cu::kJitInfoLogBuffer, cu::kJitInfoLogBufferBytes, cu::kJitErrorLogBuffer,
                        cu::kJitErrorLogBufferBytes, cu::kJitLogVerbose};
  std::array<void*, options.size()> values = {info_log.data(), as_option(info_log.size() - 1),
                                              error_log.data(), as_option(error_log.size() - 1),
                                              as_option(1)};
  const auto check = [&](int code, const char* call) {
    if (code == cu::kSuccess) return;
    const std::string log = text_in(error_log) + text_in(info_log);
    const std::string driver = driver_version_text(get_driver_version(api));
    if (code == cu::kErrorInvalidPtx) {
      throw CompileError(ptx.entry_name, fmt::format("the linker of CUDA driver {}", driver),
                         fmt::format("for {}, compute capability {}", context->name(),
                                     context->info().compute_capability()),
                         "", log);
    }
    const std::string hint =
        code == cu::kErrorUnsupportedPtxVersion
            ? fmt::format("; driver {} is older than the compiler that made the PTX", driver)
            : "";
    context->fail(code, call, fmt::format("linking {}{}\n{}", ptx.entry_name, hint, log));
  };

  CuLink raw_link = nullptr;
  check(api.link_create(static_cast<unsigned>(options.size()), options.data(), values.data(),
                        &raw_link),
        "cuLinkCreate");
  const UniqueHandle<CuLink, ReleaseInContext<&DriverApi::link_destroy>> link(raw_link, {context});

  // The driver wants a terminated string, counts the zero, and doesn't take const.
  std::string text(reinterpret_cast<const char*>(ptx.bytes.data()), ptx.bytes.size());
  check(api.link_add_data(link.get(), cu::kJitInputPtx, text.data(), text.size() + 1,
                          ptx.entry_name.c_str(), 0, nullptr, nullptr),
        "cuLinkAddData");
  void* image = nullptr;
  std::size_t image_bytes = 0;
  check(api.link_complete(link.get(), &image, &image_bytes), "cuLinkComplete");

  Artifact cubin;
  cubin.kind = ArtifactKind::kCubin;
  cubin.entry_name = ptx.entry_name;
  cubin.bytes.resize(image_bytes);
  if (image_bytes > 0) std::memcpy(cubin.bytes.data(), image, image_bytes);
  cubin.log = ptx.log + text_in(info_log) + text_in(error_log);
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start;
  cubin.compile_ms = elapsed.count();
  cubin.resources = CudaKernel(std::move(context), cubin).resources();
  return cubin;
}

std::string linker_identity_of(const CudaContext& context) {
  const DriverApi& api = context.api();
  return fmt::format("CUDA driver {}{}{} for sm_{}", driver_version_text(get_driver_version(api)),
                     api.build.empty() ? "" : " build ", api.build, context.info().sm);
}

}  // namespace ktjit::runtime
