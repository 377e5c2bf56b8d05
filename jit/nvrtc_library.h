// An opened libnvrtc: the functions we call, declared here so that no CUDA header is needed.
// Source of names and signatures: nvrtc.h of CUDA 13.0; unchanged since 11.8, where they were there.
#pragma once

#include <cstddef>
#include <vector>

#include "jit/nvrtc_search.h"
#include "runtime/unique_handle.h"

struct _nvrtcProgram;  // as nvrtc.h declares it

namespace ktjit {

using NvrtcProgram = ::_nvrtcProgram*;

enum NvrtcResult : int {
  kNvrtcSuccess = 0,
  kNvrtcErrorBuiltinOperationFailure = 7,
  kNvrtcErrorCancelled = 16,
};

struct NvrtcApi {
  const char* (*get_error_string)(NvrtcResult) = nullptr;
  NvrtcResult (*version)(int* major, int* minor) = nullptr;
  NvrtcResult (*get_num_supported_archs)(int* count) = nullptr;
  NvrtcResult (*get_supported_archs)(int* archs) = nullptr;
  NvrtcResult (*create_program)(NvrtcProgram*, const char* source, const char* name, int headers,
                                const char* const* header_texts,
                                const char* const* header_names) = nullptr;
  NvrtcResult (*destroy_program)(NvrtcProgram*) = nullptr;
  NvrtcResult (*compile_program)(NvrtcProgram, int options, const char* const* option) = nullptr;
  NvrtcResult (*get_ptx_size)(NvrtcProgram, std::size_t*) = nullptr;
  NvrtcResult (*get_ptx)(NvrtcProgram, char*) = nullptr;
  NvrtcResult (*get_cubin_size)(NvrtcProgram, std::size_t*) = nullptr;
  NvrtcResult (*get_cubin)(NvrtcProgram, char*) = nullptr;
  NvrtcResult (*get_program_log_size)(NvrtcProgram, std::size_t*) = nullptr;
  NvrtcResult (*get_program_log)(NvrtcProgram, char*) = nullptr;
  /// From 12.8 on, else null. The callback returns 1 to end the compile, 0 to go on, on any thread.
  NvrtcResult (*set_flow_callback)(NvrtcProgram, int (*callback)(void* payload, void*),
                                   void* payload) = nullptr;
};

/// Opens a candidate and keeps it open.
/// Errors: ToolchainError if it can't be opened, lacks a function, or is of another version than
/// its files say.
class NvrtcLibrary {
 public:
  explicit NvrtcLibrary(const NvrtcCandidate& candidate);

  const NvrtcApi& api() const { return api_; }
  /// What nvrtcGetSupportedArchs says.
  const std::vector<int>& archs() const { return archs_; }

 private:
  struct CloseLibrary {
    void operator()(void* library) const noexcept;
  };
  using LibraryHandle = runtime::UniqueHandle<void*, CloseLibrary>;
  static LibraryHandle open(const std::filesystem::path& path);

  LibraryHandle builtins_;
  LibraryHandle library_;
  NvrtcApi api_;
  std::vector<int> archs_;
};

}  // namespace ktjit
