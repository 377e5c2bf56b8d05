// A CUDA driver of make-believe: counts what lives, fails calls on demand, keeps device memory in
// host memory. One per test; the table's plain functions reach it through a global.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "runtime/driver_api.h"

namespace ktjit::test {

class FakeDriver {
 public:
  struct Launch {
    std::uintptr_t stream;
    unsigned grid_x, grid_y, threads, smem_bytes;
    std::uint64_t first_argument;
    bool is_dependent;  ///< by cuLaunchKernelEx, allowed to overlap the kernel ahead of it
  };

  /// Of cuTensorMapEncodeTiled.
  struct TensorMap {
    std::uint64_t address, sizes[2], stride;
    std::uint32_t box[2];
  };

  /// Replaces the fake that was there before.
  FakeDriver();
  ~FakeDriver();
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;

  std::shared_ptr<const runtime::DriverApi> api() const { return api_; }

  // What the fake pretends.
  int device_count = 2;
  int major = 8;
  int minor = 6;
  int max_smem_bytes = 100 * 1024;
  int static_smem_bytes = 1024;
  int init_code = 0;
  int load_code = 0;  ///< of cuModuleLoadData
  int link_code = 0;  ///< of cuLinkAddData
  std::string link_error_log;
  std::string link_info_log = "info    : used 10 registers";
  int fail_call =
      -1;  ///< fails the call of this number, counted from 0; cuGetErrorName never fails

  // What it saw.
  int calls = 0;
  std::string failed_call;        ///< name of the call that failed
  std::set<std::uintptr_t> live;  ///< handles of all kinds, memory and primary contexts
  std::vector<std::string> misuse;
  std::vector<Launch> launches;
  std::vector<TensorMap> tensor_maps;
  std::set<std::uintptr_t> capturing;
  std::string linked_text;
  int dynamic_smem_limit = 0;

  // For the functions of the table.
  /// The code to return where the call shall fail, else 0.
  int enter(const char* call);
  std::uintptr_t make_handle();
  /// Notes misuse if the handle doesn't live.
  void drop(std::uintptr_t handle, const char* call);
  void need(std::uintptr_t handle, const char* call);
  void need_context(const char* call);

  std::map<std::uint64_t, std::vector<std::byte>> memory;
  std::mutex mutex;

 private:
  std::shared_ptr<const runtime::DriverApi> api_;
  std::uintptr_t next_handle_ = 0x1000;
};

/// Contexts current on this thread, the last on top, as the fake sees them.
std::vector<runtime::CuContext>& fake_context_stack();

/// The code of all injected failures: CUDA_ERROR_UNKNOWN.
inline constexpr int kInjectedCode = 999;

}  // namespace ktjit::test
