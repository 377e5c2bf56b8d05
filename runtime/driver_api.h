// The CUDA driver as a table of functions: the seam to libcuda, faked in tests. Handles, functions
// and constants are declared here, so that no CUDA header is needed.
// Source: cuda.h of CUDA 13.0; all of it unchanged since driver 11.4, the oldest that will do, but
// for cuLaunchKernelEx, which came with 11.8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

// As cuda.h declares them.
struct CUctx_st;
struct CUmod_st;
struct CUfunc_st;
struct CUstream_st;
struct CUevent_st;
struct CUlinkState_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUgraphNode_st;

namespace ktjit::runtime {

using CuDevice = int;
using CuAddress = unsigned long long;
using CuContext = ::CUctx_st*;
using CuModule = ::CUmod_st*;
using CuFunction = ::CUfunc_st*;
using CuStream = ::CUstream_st*;
using CuEvent = ::CUevent_st*;
using CuLink = ::CUlinkState_st*;
using CuGraph = ::CUgraph_st*;
using CuGraphExec = ::CUgraphExec_st*;

// Values of the driver's enums, under their names there.
namespace cu {
// CUresult
inline constexpr int kSuccess = 0;
inline constexpr int kErrorDeinitialized = 4;
inline constexpr int kErrorNoDevice = 100;
inline constexpr int kErrorInvalidPtx = 218;
inline constexpr int kErrorUnsupportedPtxVersion = 222;
inline constexpr int kErrorNotSupported = 801;
inline constexpr int kErrorStreamCaptureUnsupported = 900;
// cuTensorMapEncodeTiled: elements of one byte, as they lie, rows of 128 bytes swizzled, 256-byte requests, zeros outside.
inline constexpr int kTensorMapUint8 = 0, kTensorMapNoInterleave = 0, kTensorMapSwizzle128 = 3,
                     kTensorMapL2Promotion256 = 3, kTensorMapFillZeros = 0;
// CUdevice_attribute
inline constexpr int kDeviceClockRateKhz = 13;
inline constexpr int kDeviceMultiprocessorCount = 16;
inline constexpr int kDeviceMemoryClockRateKhz = 36;
inline constexpr int kDeviceMemoryBusWidthBits = 37;
inline constexpr int kDeviceL2CacheBytes = 38;
inline constexpr int kDeviceComputeCapabilityMajor = 75;
inline constexpr int kDeviceComputeCapabilityMinor = 76;
inline constexpr int kDeviceMaxSharedBytesOptin = 97;
// CUfunction_attribute
inline constexpr int kFuncSharedBytes = 1;
inline constexpr int kFuncLocalBytes = 3;
inline constexpr int kFuncRegisters = 4;
inline constexpr int kFuncMaxDynamicSharedBytes = 8;
// CUstream_flags, CUevent_flags, CUstreamCaptureMode, CUstreamCaptureStatus
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDefault = 0;
inline constexpr int kCaptureModeThreadLocal = 1;
inline constexpr int kCaptureStatusNone = 0;
// CUlaunchAttributeID
inline constexpr int kLaunchProgrammaticStreamSerialization = 6;
// CUjit_option, CUjitInputType
inline constexpr int kJitInfoLogBuffer = 3;
inline constexpr int kJitInfoLogBufferBytes = 4;
inline constexpr int kJitErrorLogBuffer = 5;
inline constexpr int kJitErrorLogBufferBytes = 6;
inline constexpr int kJitLogVerbose = 12;
inline constexpr int kJitInputPtx = 1;
}  // namespace cu

/// CUlaunchAttribute, as far as a launch of ours has one.
struct CuLaunchAttribute {
  int id = cu::kLaunchProgrammaticStreamSerialization;
  int padding = 0;
  int value = 0;  ///< the first member of a union of 64 bytes
  int unused[15] = {};
};
static_assert(sizeof(CuLaunchAttribute) == 72);

/// CUlaunchConfig.
struct CuLaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned smem_bytes;
  CuStream stream;
  CuLaunchAttribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(CuLaunchConfig) == 56);

/// Every function returns a CUresult, 0 for success. The member cu_x is the driver's cuX, in the
/// version that driver_api.cpp names.
struct DriverApi {
  std::string library;  ///< file of the library, "" for a fake
  std::string build;    ///< of the driver, as its file name tells it: "580.65.06"; may be empty

  int (*get_error_name)(int code, const char** name) = nullptr;
  int (*init)(unsigned flags) = nullptr;
  int (*driver_get_version)(int* version) = nullptr;

  int (*device_get_count)(int* count) = nullptr;
  int (*device_get)(CuDevice*, int ordinal) = nullptr;
  int (*device_get_name)(char* name, int bytes, CuDevice) = nullptr;
  int (*device_get_attribute)(int* value, int attribute, CuDevice) = nullptr;
  int (*device_total_mem)(std::size_t* bytes, CuDevice) = nullptr;
  int (*device_get_pci_bus_id)(char* id, int bytes, CuDevice) = nullptr;

  int (*primary_ctx_retain)(CuContext*, CuDevice) = nullptr;
  int (*primary_ctx_release)(CuDevice) = nullptr;
  int (*ctx_get_current)(CuContext*) = nullptr;
  int (*ctx_push_current)(CuContext) = nullptr;
  int (*ctx_pop_current)(CuContext*) = nullptr;
  int (*ctx_get_device)(CuDevice*) = nullptr;

  int (*mem_get_info)(std::size_t* free_bytes, std::size_t* total_bytes) = nullptr;
  int (*mem_alloc)(CuAddress*, std::size_t bytes) = nullptr;
  int (*mem_free)(CuAddress) = nullptr;
  int (*memcpy_htod_async)(CuAddress to, const void* from, std::size_t bytes, CuStream) = nullptr;
  int (*memcpy_dtoh_async)(void* to, CuAddress from, std::size_t bytes, CuStream) = nullptr;
  int (*memset_d8_async)(CuAddress, unsigned char value, std::size_t bytes, CuStream) = nullptr;

  int (*stream_create)(CuStream*, unsigned flags) = nullptr;
  int (*stream_destroy)(CuStream) = nullptr;
  int (*stream_synchronize)(CuStream) = nullptr;
  int (*stream_is_capturing)(CuStream, int* status) = nullptr;
  int (*stream_begin_capture)(CuStream, int mode) = nullptr;
  int (*stream_end_capture)(CuStream, CuGraph*) = nullptr;

  int (*event_create)(CuEvent*, unsigned flags) = nullptr;
  int (*event_destroy)(CuEvent) = nullptr;
  int (*event_record)(CuEvent, CuStream) = nullptr;
  int (*event_synchronize)(CuEvent) = nullptr;
  int (*event_elapsed_time)(float* milliseconds, CuEvent start, CuEvent end) = nullptr;

  int (*module_load_data)(CuModule*, const void* image) = nullptr;
  int (*module_unload)(CuModule) = nullptr;
  int (*module_get_function)(CuFunction*, CuModule, const char* name) = nullptr;
  int (*func_get_attribute)(int* value, int attribute, CuFunction) = nullptr;
  int (*func_set_attribute)(CuFunction, int attribute, int value) = nullptr;
  int (*launch_kernel)(CuFunction, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned smem_bytes,
                       CuStream, void** arguments, void** extra) = nullptr;
  /// Null where the driver is older than CUDA 11.8.
  int (*launch_kernel_ex)(const CuLaunchConfig*, CuFunction, void** arguments,
                          void** extra) = nullptr;

  /// Null where the driver is older than CUDA 12.0. `map`: 128 bytes, aligned to 64.
  int (*tensor_map_encode_tiled)(void* map, int element_type, unsigned dimensions, void* address,
                                 const std::uint64_t* sizes, const std::uint64_t* byte_strides,
                                 const std::uint32_t* box, const std::uint32_t* element_strides,
                                 int interleave, int swizzle, int l2_promotion, int fill) = nullptr;

  int (*link_create)(unsigned options, int* option, void** value, CuLink*) = nullptr;
  int (*link_add_data)(CuLink, int type, void* data, std::size_t bytes, const char* name,
                       unsigned options, int* option, void** value) = nullptr;
  int (*link_complete)(CuLink, void** cubin, std::size_t* bytes) = nullptr;
  int (*link_destroy)(CuLink) = nullptr;

  int (*graph_instantiate)(CuGraphExec*, CuGraph, unsigned long long flags) = nullptr;
  int (*graph_launch)(CuGraphExec, CuStream) = nullptr;
  int (*graph_exec_destroy)(CuGraphExec) = nullptr;
  int (*graph_destroy)(CuGraph) = nullptr;
};

/// Opens libcuda.so.1: on the loader's path, else in /usr/lib/wsl/lib (WSL),
/// /usr/lib/x86_64-linux-gnu, /usr/lib64, /usr/lib. Null if there is none or it is too old, with
/// the reason in `why_not`. Calls nothing in it yet.
std::shared_ptr<const DriverApi> try_load_driver(std::string* why_not = nullptr);

/// The driver's name for a CUresult: "CUDA_ERROR_NO_DEVICE"; "unknown error" if it has none.
std::string driver_error_name(const DriverApi& api, int code);

}  // namespace ktjit::runtime
