// Opens libcuda and fills the table. Names with _v2 are those that cuda.h maps the plain names to.
#include "runtime/driver_api.h"

#include <array>
#include <dlfcn.h>
#include <filesystem>
#include <fmt/format.h>
#include <link.h>
#include <string_view>

#include "runtime/unique_handle.h"

namespace ktjit::runtime {
namespace {

constexpr const char* kLibraryName = "libcuda.so.1";
constexpr std::array kFallbackFolders = {"/usr/lib/wsl/lib", "/usr/lib/x86_64-linux-gnu",
                                         "/usr/lib64", "/usr/lib"};

struct CloseLibrary {
  void operator()(void* library) const noexcept { ::dlclose(library); }
};
using LibraryHandle = UniqueHandle<void*, CloseLibrary>;

struct LoadedDriver {
  LibraryHandle library;
  DriverApi api;
};

// RTLD_NODELETE: the driver has threads of its own, and the application may use it too.
LibraryHandle open(const std::string& path) {
  return LibraryHandle(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE));
}

std::string last_loader_error() {
  const char* text = ::dlerror();
  return text != nullptr ? text : "the loader gives no reason";
}

// The reason reported is the loader's for its own path, unless a file elsewhere could not be
// opened.
LibraryHandle open_anywhere(std::string& why_not) {
  LibraryHandle library = open(kLibraryName);
  if (library) return library;
  why_not = last_loader_error();
  for (const char* folder : kFallbackFolders) {
    const std::filesystem::path path = std::filesystem::path(folder) / kLibraryName;
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    library = open(path);
    if (library) return library;
    why_not = last_loader_error();
  }
  return {};
}

std::string file_of(void* library) {
  link_map* map = nullptr;
  if (::dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return "";
  std::error_code error;
  const auto resolved = std::filesystem::canonical(map->l_name, error);
  return error ? map->l_name : resolved.string();
}

// "580.65.06" for .../libcuda.so.580.65.06, "" for WSL's libcuda.so.1.1.
std::string build_of(const std::string& file) {
  const std::string_view name = std::string_view(file).substr(file.rfind('/') + 1);
  constexpr std::string_view kPrefix = "libcuda.so.";
  if (!name.starts_with(kPrefix) || name.starts_with("libcuda.so.1.")) return "";
  return name == kLibraryName ? "" : std::string(name.substr(kPrefix.size()));
}

// Returns the first name the library lacks, null if it has all.
const char* find_functions(void* library, DriverApi& api) {
  const char* missing = nullptr;
  const auto find = [&]<class Function>(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(::dlsym(library, name));
    if (function == nullptr && missing == nullptr) missing = name;
  };
  find("cuGetErrorName", api.get_error_name);
  find("cuInit", api.init);
  find("cuDriverGetVersion", api.driver_get_version);
  find("cuDeviceGetCount", api.device_get_count);
  find("cuDeviceGet", api.device_get);
  find("cuDeviceGetName", api.device_get_name);
  find("cuDeviceGetAttribute", api.device_get_attribute);
  find("cuDeviceTotalMem_v2", api.device_total_mem);
  find("cuDeviceGetPCIBusId", api.device_get_pci_bus_id);
  find("cuDevicePrimaryCtxRetain", api.primary_ctx_retain);
  find("cuDevicePrimaryCtxRelease_v2", api.primary_ctx_release);
  find("cuCtxGetCurrent", api.ctx_get_current);
  find("cuCtxPushCurrent_v2", api.ctx_push_current);
  find("cuCtxPopCurrent_v2", api.ctx_pop_current);
  find("cuCtxGetDevice", api.ctx_get_device);
  find("cuMemGetInfo_v2", api.mem_get_info);
  find("cuMemAlloc_v2", api.mem_alloc);
  find("cuMemFree_v2", api.mem_free);
  find("cuMemcpyHtoDAsync_v2", api.memcpy_htod_async);
  find("cuMemcpyDtoHAsync_v2", api.memcpy_dtoh_async);
  find("cuMemsetD8Async", api.memset_d8_async);
  find("cuStreamCreate", api.stream_create);
  find("cuStreamDestroy_v2", api.stream_destroy);
  find("cuStreamSynchronize", api.stream_synchronize);
  find("cuStreamIsCapturing", api.stream_is_capturing);
  find("cuStreamBeginCapture_v2", api.stream_begin_capture);
  find("cuStreamEndCapture", api.stream_end_capture);
  find("cuEventCreate", api.event_create);
  find("cuEventDestroy_v2", api.event_destroy);
  find("cuEventRecord", api.event_record);
  find("cuEventSynchronize", api.event_synchronize);
  find("cuEventElapsedTime", api.event_elapsed_time);
  find("cuModuleLoadData", api.module_load_data);
  find("cuModuleUnload", api.module_unload);
  find("cuModuleGetFunction", api.module_get_function);
  find("cuFuncGetAttribute", api.func_get_attribute);
  find("cuFuncSetAttribute", api.func_set_attribute);
  find("cuLaunchKernel", api.launch_kernel);
  api.launch_kernel_ex = reinterpret_cast<decltype(api.launch_kernel_ex)>(
      ::dlsym(library, "cuLaunchKernelEx"));  // may be missing
  api.tensor_map_encode_tiled = reinterpret_cast<decltype(api.tensor_map_encode_tiled)>(
      ::dlsym(library, "cuTensorMapEncodeTiled"));  // may be missing
  find("cuLinkCreate_v2", api.link_create);
  find("cuLinkAddData_v2", api.link_add_data);
  find("cuLinkComplete", api.link_complete);
  find("cuLinkDestroy", api.link_destroy);
  find("cuGraphInstantiateWithFlags", api.graph_instantiate);
  find("cuGraphLaunch", api.graph_launch);
  find("cuGraphExecDestroy", api.graph_exec_destroy);
  find("cuGraphDestroy", api.graph_destroy);
  return missing;
}

}  // namespace

std::shared_ptr<const DriverApi> try_load_driver(std::string* why_not) {
  std::string reason;
  auto driver = std::make_shared<LoadedDriver>();
  driver->library = open_anywhere(reason);
  if (driver->library) {
    driver->api.library = file_of(driver->library.get());
    driver->api.build = build_of(driver->api.library);
    const char* missing = find_functions(driver->library.get(), driver->api);
    if (missing == nullptr) return {driver, &driver->api};
    reason = fmt::format("{} lacks {}: the driver is older than CUDA 11.4", driver->api.library,
                         missing);
  }
  if (why_not != nullptr) *why_not = reason;
  return nullptr;
}

std::string driver_error_name(const DriverApi& api, int code) {
  const char* name = nullptr;
  if (api.get_error_name(code, &name) != cu::kSuccess || name == nullptr) return "unknown error";
  return name;
}

}  // namespace ktjit::runtime
