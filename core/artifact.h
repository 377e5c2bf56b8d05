// What a compiler made, and how a kernel is launched: the values that pass between emitter,
// compilers, cache and devices.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit {

enum class ArtifactKind {
  kCubin,            ///< machine code for one GPU
  kPtx,              ///< text that the GPU's driver turns into machine code
  kSharedObject,     ///< ELF shared object for this CPU
  kSimulatorObject,  ///< ELF shared object for the simulator, from a CUDA target's text
  kAssembly,         ///< CPU assembly, to be read
  kLlvmIr,           ///< LLVM IR as text, to be read
};

std::string_view artifact_kind_name(ArtifactKind kind);

/// What the compiler said about the kernel; absent where it did not say.
struct KernelResources {
  std::optional<int> registers;
  std::optional<int> spill_bytes;
  std::optional<int> stack_bytes;
  std::optional<int> static_smem_bytes;
};

struct Artifact {
  ArtifactKind kind = ArtifactKind::kCubin;
  std::string entry_name;  ///< the kernel's symbol
  std::vector<std::byte> bytes;
  KernelResources resources;
  std::string log;          ///< the compiler's own words
  double compile_ms = 0.0;  ///< time spent in the compiler
};

/// A matrix that a kernel copies through a tensor map (CUDA, sm_90 and up): boxes of 128 bytes of some rows, whose 16-byte
/// places are exchanged in shared memory (128-byte swizzle), with zeros past the last row and the last column.
struct TensorMapShape {
  int address_argument = 0;    ///< of the launch; the address is a multiple of 16
  int rows_argument = 0;       ///< of the launch: how many rows there are
  std::int64_t row_bytes = 0;  ///< a multiple of 16; rows lie one after another
  unsigned box_rows = 0;       ///< 1 to 256
};

/// Parameters of a kernel after its arguments, made by the device for each launch.
struct TensorMapShapes {
  static constexpr std::size_t kMost = 2;
  std::array<TensorMapShape, kMost> shapes{};
  std::size_t count = 0;

  const TensorMapShape* begin() const { return shapes.data(); }
  const TensorMapShape* end() const { return begin() + count; }
};

/// How many CTAs (CPU: tiles of rows) a launch needs. Depends on the spec only; rows come at run
/// time.
struct LaunchShape {
  std::int64_t rows_per_cta = 1;
  /// CTAs side by side along the columns, next to each other in the grid: memory is walked in order.
  unsigned column_tiles = 1;
  unsigned threads = 1;     ///< per CTA
  unsigned smem_bytes = 0;  ///< dynamic shared memory per CTA
  /// Along the y dimension: rows of x of a matmul, slots (1) of moe_matvec and moe_matmul; 0 elsewhere.
  std::int64_t x_rows_per_cta = 0;
  /// CTAs along y are counted along x as well, those of one tile of rows next to each other.
  bool is_flat = false;
  bool dependent_launch = false;  ///< KernelSpec::dependent_launch
  /// Persistent kernels: CTAs share the rows, and each multiprocessor gets at most this many; 0: as many as
  /// the rows need.
  unsigned ctas_per_multiprocessor = 0;
  TensorMapShapes tensor_maps{};
};

struct LaunchGrid {
  unsigned x = 1;
  unsigned y = 1;
  unsigned threads = 1;
  unsigned smem_bytes = 0;
  /// CUDA: may start before the kernel ahead of it in the stream has ended; the kernel itself waits.
  bool is_dependent = false;
  /// Not 0: a smaller x serves too, and devices launch at most this many CTAs for each multiprocessor.
  unsigned ctas_per_multiprocessor = 0;
  TensorMapShapes tensor_maps{};

  /// x on a device of so many multiprocessors.
  unsigned limited_x(unsigned multiprocessors) const;
};

/// `n`: rows of x, of moe_matvec and moe_matmul slots. Errors: SpecError if `rows` or `n` is not positive, or needs
/// more than 2^31 - 1 CTAs along rows or 65535 along x.
LaunchGrid grid_for(const LaunchShape& shape, std::int64_t rows, std::int64_t n = 1);
/// For several matrices that share x: the CTAs of each one's rows, one after another.
LaunchGrid grid_for(const LaunchShape& shape, std::span<const std::int64_t> rows,
                    std::int64_t n = 1);

}  // namespace ktjit
