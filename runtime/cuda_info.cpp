// Queries without a context.
#include "runtime/cuda_info.h"

#include <array>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit::runtime {
namespace {

void check(const DriverApi& api, int code, const char* call, int ordinal, const char* doing) {
  if (code == cu::kSuccess) return;
  throw DriverError(call, code, driver_error_name(api, code),
                    ordinal < 0 ? "the driver" : fmt::format("cuda:{}", ordinal), doing);
}

int attribute(const DriverApi& api, int ordinal, CuDevice device, int which) {
  int value = 0;
  check(api, api.device_get_attribute(&value, which, device), "cuDeviceGetAttribute", ordinal,
        "asking for the device's properties");
  return value;
}

constexpr int kNoDevice = -1;

}  // namespace

std::string CudaDeviceInfo::compute_capability() const {
  return fmt::format("{}.{}", sm / 10, sm % 10);
}

CudaDeviceInfo get_cuda_device_info(const DriverApi& api, int ordinal) {
  constexpr const char* kDoing = "asking for the device's properties";
  CuDevice device = 0;
  check(api, api.device_get(&device, ordinal), "cuDeviceGet", ordinal, "looking for the device");
  const auto get = [&](int which) { return attribute(api, ordinal, device, which); };

  CudaDeviceInfo info;
  info.ordinal = ordinal;
  std::array<char, 256> text = {};
  const int text_bytes = static_cast<int>(text.size()) - 1;
  check(api, api.device_get_name(text.data(), text_bytes, device), "cuDeviceGetName", ordinal,
        kDoing);
  info.name = text.data();
  text.fill('\0');
  check(api, api.device_get_pci_bus_id(text.data(), text_bytes, device), "cuDeviceGetPCIBusId",
        ordinal, kDoing);
  info.bus_id = text.data();
  check(api, api.device_total_mem(&info.memory_bytes, device), "cuDeviceTotalMem", ordinal, kDoing);
  info.sm = 10 * get(cu::kDeviceComputeCapabilityMajor) + get(cu::kDeviceComputeCapabilityMinor);
  info.l2_bytes = static_cast<std::size_t>(get(cu::kDeviceL2CacheBytes));
  info.multiprocessors = get(cu::kDeviceMultiprocessorCount);
  info.clock_mhz = get(cu::kDeviceClockRateKhz) / 1000;
  info.memory_clock_mhz = get(cu::kDeviceMemoryClockRateKhz) / 1000;
  info.memory_bus_bits = get(cu::kDeviceMemoryBusWidthBits);
  info.max_smem_bytes = get(cu::kDeviceMaxSharedBytesOptin);
  return info;
}

std::vector<CudaDeviceInfo> list_cuda_devices(const DriverApi& api) {
  std::vector<CudaDeviceInfo> devices;
  const int initialised = api.init(0);
  if (initialised == cu::kErrorNoDevice) return devices;
  check(api, initialised, "cuInit", kNoDevice, "starting the driver");
  int count = 0;
  check(api, api.device_get_count(&count), "cuDeviceGetCount", kNoDevice, "counting the devices");
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    devices.push_back(get_cuda_device_info(api, ordinal));
  }
  return devices;
}

int get_driver_version(const DriverApi& api) {
  int version = 0;
  check(api, api.driver_get_version(&version), "cuDriverGetVersion", kNoDevice,
        "asking for the driver's version");
  return version;
}

std::string driver_version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace ktjit::runtime
