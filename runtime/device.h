// Devices: where kernels run. One interface for the CUDA driver and for this machine's CPU, so that
// everything above is written once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/artifact.h"
#include "core/target.h"

namespace ktjit::runtime {

/// Memory on a device, freed by the destructor. Must not outlive its device.
class Buffer {
 public:
  virtual ~Buffer() = default;
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  /// The address as a kernel argument.
  virtual std::uint64_t address() const = 0;
  virtual std::size_t bytes() const = 0;
};

/// An ordered queue of work.
class Stream {
 public:
  virtual ~Stream() = default;
  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Waits for all work queued so far. Errors: DriverError if any of it failed.
  virtual void synchronize() = 0;
};

/// A loaded kernel, unloaded by the destructor. Must not outlive its device.
class Kernel {
 public:
  virtual ~Kernel() = default;
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  /// Queues one launch: allocates nothing, waits for nothing, compiles nothing.
  /// Every argument is 8 bytes: a Buffer's address or an integer, in the order of the kernel's
  /// parameters; the grid's tensor maps are made here. Errors: DriverError if the launch is refused.
  virtual void launch(Stream& stream, const LaunchGrid& grid,
                      std::span<const std::uint64_t> arguments) const = 0;
  /// What the loader knows about the kernel (registers, local memory); empty fields elsewhere.
  virtual KernelResources resources() const = 0;
};

/// Threads: members may be called from several threads; a Stream belongs to one thread at a time.
class Device {
 public:
  virtual ~Device() = default;
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// As --device takes it: "cuda:0", "cpu".
  virtual std::string name() const = 0;
  /// For people: "NVIDIA H200, compute capability 9.0, driver 13.0", "AMD EPYC 9654, 2 threads".
  virtual std::string description() const = 0;
  /// What decides which of several kernels is the fastest here, as names and values: records of
  /// measurements are kept under it. Equal on devices of one kind with drivers of one major version;
  /// names hold a-z and _ only. A GPU's: device, compute_capability, multiprocessors, driver.
  virtual std::vector<std::pair<std::string, std::string>> speed_identity() const {
    return {{"device", description()}};
  }
  /// The target whose code runs here best.
  virtual const Target& native_target() const = 0;
  /// Whether artefacts of this kind for this target can be loaded here; if not, `reason`, unless it
  /// is null, says why.
  virtual bool can_load(const Target& target, ArtifactKind kind, std::string* reason) const = 0;

  virtual std::size_t total_memory_bytes() const = 0;
  virtual std::size_t free_memory_bytes() const = 0;
  /// Size of the largest cache: data smaller than a few of these is not read from memory again.
  virtual std::size_t last_level_cache_bytes() const = 0;

  /// Address aligned to 256 bytes, contents undefined. Errors: DriverError if memory is short.
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes) = 0;
  /// Uses host memory in place where the device can (CPU), else nothing. The memory must outlive
  /// the buffer.
  virtual std::unique_ptr<Buffer> try_borrow(std::span<const std::byte> host) = 0;
  virtual std::unique_ptr<Stream> make_stream() = 0;

  /// Queues a copy. `from` must live, and `to` must not be read, until the stream is synchronised.
  virtual void upload(Stream& stream, std::span<const std::byte> from, Buffer& to,
                      std::size_t offset) = 0;
  virtual void download(Stream& stream, const Buffer& from, std::size_t offset,
                        std::span<std::byte> to) = 0;
  virtual void fill(Stream& stream, Buffer& buffer, std::byte value) = 0;

  /// Whether PTX for other GPUs' targets can become machine code here; what makes it, with its
  /// version, as part of a cache key. Nothing where no such linker exists.
  virtual std::optional<std::string> linker_identity() const { return std::nullopt; }
  /// Makes a cubin for this device from PTX.
  /// Errors: CompileError with the driver's log; InternalError where linker_identity gives nothing.
  virtual Artifact link_ptx(const Artifact& ptx);

  /// Whether launches with LaunchGrid::is_dependent are served; where kernels run one after another they
  /// are like any other. Errors: ToolchainError if they are not.
  virtual void check_dependent_launch() const {}

  /// Errors: DriverError if the artefact is refused.
  virtual std::unique_ptr<Kernel> load(const Artifact& artifact) = 0;

  /// Time of the work that `enqueue` queues on `stream`, in microseconds, by the device's own
  /// clock.
  virtual double time_us(Stream& stream, const std::function<void()>& enqueue) = 0;
};

/// Host bytes where kernels can read them: in place where the device can, else a queued copy.
/// `host` must outlive the buffer, and must not change until the stream is synchronised.
std::unique_ptr<Buffer> place_on_device(Device& device, Stream& stream,
                                        std::span<const std::byte> host);

}  // namespace ktjit::runtime
