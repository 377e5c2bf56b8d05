// What the driver tells about itself and its devices, for device choice and `ktjit doctor`.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "runtime/driver_api.h"

namespace ktjit::runtime {

struct CudaDeviceInfo {
  int ordinal = 0;
  std::string name;    ///< "NVIDIA A10"
  int sm = 0;          ///< compute capability as one number, 86 for 8.6
  std::string bus_id;  ///< "0000:3B:00.0"
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  int multiprocessors = 0;
  int clock_mhz = 0;
  int memory_clock_mhz = 0;
  int memory_bus_bits = 0;
  int max_smem_bytes = 0;  ///< dynamic shared memory a CTA can opt in to

  /// "8.6".
  std::string compute_capability() const;
};

/// Initialises the driver if need be. No devices is an empty list.
/// Errors: DriverError.
std::vector<CudaDeviceInfo> list_cuda_devices(const DriverApi& api);

/// One device; the driver must be initialised. Errors: DriverError.
CudaDeviceInfo get_cuda_device_info(const DriverApi& api, int ordinal);

/// The CUDA version that the driver serves, as 13000 for 13.0. Errors: DriverError.
int get_driver_version(const DriverApi& api);
/// "13.0" for 13000.
std::string driver_version_text(int version);

}  // namespace ktjit::runtime
