// Opens the builtins first: libnvrtc asks the loader for "libnvrtc-builtins.so.<version>" at its
// first compile, and without one already open by that name the loader may serve another folder's
// (seen with a copy of 13.0 outside the loader's path). RTLD_LOCAL is enough for that, and lets
// several versions live side by side.
#include "jit/nvrtc_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit {
namespace {

template <class Function>
void find_function(void* library, const char* name, Function*& function,
                   const NvrtcCandidate& candidate) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
  if (function == nullptr) {
    throw ToolchainError(fmt::format("{} is not in libnvrtc", name), candidate.library.native(),
                         nvrtc_advice());
  }
}

NvrtcApi find_functions(void* library, const NvrtcCandidate& candidate) {
  NvrtcApi api;
  const auto find = [&](const char* name, auto*& function) {
    find_function(library, name, function, candidate);
  };
  find("nvrtcGetErrorString", api.get_error_string);
  find("nvrtcVersion", api.version);
  find("nvrtcGetNumSupportedArchs", api.get_num_supported_archs);
  find("nvrtcGetSupportedArchs", api.get_supported_archs);
  find("nvrtcCreateProgram", api.create_program);
  find("nvrtcDestroyProgram", api.destroy_program);
  find("nvrtcCompileProgram", api.compile_program);
  find("nvrtcGetPTXSize", api.get_ptx_size);
  find("nvrtcGetPTX", api.get_ptx);
  find("nvrtcGetCUBINSize", api.get_cubin_size);
  find("nvrtcGetCUBIN", api.get_cubin);
  find("nvrtcGetProgramLogSize", api.get_program_log_size);
  find("nvrtcGetProgramLog", api.get_program_log);
  api.set_flow_callback =
      reinterpret_cast<decltype(api.set_flow_callback)>(::dlsym(library, "nvrtcSetFlowCallback"));
  return api;
}

}  // namespace

void NvrtcLibrary::CloseLibrary::operator()(void* library) const noexcept { ::dlclose(library); }

// RTLD_NODELETE: the compiler keeps state of its threads, which must not run code that is gone.
NvrtcLibrary::LibraryHandle NvrtcLibrary::open(const std::filesystem::path& path) {
  LibraryHandle handle(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE));
  if (!handle) {
    const char* reason = ::dlerror();
    throw ToolchainError(fmt::format("NVRTC can't be opened: {}",
                                     reason != nullptr ? reason : "the loader gives no reason"),
                         path.native(), nvrtc_advice());
  }
  return handle;
}

NvrtcLibrary::NvrtcLibrary(const NvrtcCandidate& candidate)
    : builtins_(open(candidate.builtins)),
      library_(open(candidate.library)),
      api_(find_functions(library_.get(), candidate)) {
  NvrtcVersion version;
  if (api_.version(&version.major, &version.minor) != kNvrtcSuccess ||
      version != candidate.version) {
    throw ToolchainError(fmt::format("NVRTC says it is version {}, but its files say {}",
                                     version.text(), candidate.version.text()),
                         candidate.library.native(), "reinstall that toolkit");
  }
  int count = 0;
  if (api_.get_num_supported_archs(&count) == kNvrtcSuccess && count > 0) {
    archs_.resize(static_cast<std::size_t>(count));
    if (api_.get_supported_archs(archs_.data()) != kNvrtcSuccess) archs_.clear();
  }
  if (archs_.empty()) {
    throw ToolchainError("NVRTC doesn't say what it compiles for", candidate.library.native(),
                         "reinstall that toolkit");
  }
}

}  // namespace ktjit
