// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/warpgroup_fp8_matmul.cu.in.
//   kernel   matmul_fp8_e4m3_s128x128_f32_afp8_x_fp8_e4m3_g128_tc_c656, emitter version 7
//   w        in   fp8_e4m3  [rows, 656]  row-major
//   scale    in   f32  [ceil(rows / 128), 6]  row-major, one per 128 x 128 block of w
//   x        in   fp8_e4m3  [n, 656]  row-major
//   x_scale  in   f32  [n, 6]  row-major, one per 128 columns of x
//   y        out  f32  [n, rows]  row-major
//   w_map    in   of w and of x, [rows, 656] and [n, 656] bytes: boxes of kTileRows and kTileX rows of 128 bytes, 128-byte
//   x_map    in   swizzle, zeros outside (cuTensorMapEncodeTiled); whoever launches makes them
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]) * x_scale, products and sums in f32; sums of 128 columns as FP8 tensor cores make them
//   arch     sm_90a, has a cvt from e4m3: as they are; wgmma m64n64k32 e4m3
//   tiles    256 rows of w, 128 of x, 4 stages of 128 columns; one thread copies, 8 warps multiply
//   launch   grid (ceil(rows / 256) * ceil(n / 128) or less, 1, 1), block (384, 1, 1), 196688 bytes of dynamic shared memory
//
// y = x w^T. A warpgroup's wgmma takes 64 rows of x from registers and a part of the tile's rows of w from shared memory.
// One thread has stages of 128 columns of both copied, by tensor maps. Sums of 128 columns lie apart from the totals, and are
// added to them times their scales, while the next are made.

constexpr int kXScaleCols = 6;       // scales of a row of x
constexpr int kThreads = 384;        // threads per CTA
constexpr int kCopyThreads = 128;    // of which copy
constexpr int kCtas = 1;             // CTAs on a multiprocessor
constexpr int kTileX = 128;          // rows of x of a CTA
constexpr int kTileRows = 256;       // rows of w of a CTA
constexpr int kTokenWarps = 8;       // warps that share rows of w, each with 16 of x
constexpr int kStageGroups = 1;      // of warps, which take turns with the stages
constexpr int kParts = 4;            // in which a warpgroup multiplies its rows
constexpr int kPartRows = 64;        // rows of a part
constexpr int kProductWarps = 8;     // warps that multiply
constexpr int kStages = 4;           // of 128 columns: in use or on their way
constexpr int kStageBytes = 49152;   // x, then w
constexpr int kSteps = 6;            // stages of a tile
constexpr int kBarriersAt = 196608;  // before the barriers
constexpr int kFewRegisters = 24;    // of a thread that copies
constexpr int kManyRegisters = 240;  // of one that multiplies
constexpr int kScaledParts = 2;      // parts that share scales of w
constexpr int kScaleBlockRows = 128; // rows that share one scale
constexpr int kScaleBlockCols = 128; // columns that share one scale
constexpr int kScaleCols = 6;        // scales in one row of scales

// sum = a b for 64 rows of a, of which this warp has 16, 64 rows of b and 32 columns. The sums are there after
// products_done; until then no one changes what they read.
__device__ __forceinline__ void start_product(float (&sum)[32], const unsigned (&a)[4], unsigned long long b_matrix) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, 0, 1, 1;"
      :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15]),
        "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]),
        "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix)
      : "memory");
}

// sum += a b for 64 rows of a, of which this warp has 16, 64 rows of b and 32 columns. The sums are there after
// products_done; until then no one changes what they read.
__device__ __forceinline__ void add_product(float (&sum)[32], const unsigned (&a)[4], unsigned long long b_matrix) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, 1, 1, 1;"
      :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15]),
        "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]),
        "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix)
      : "memory");
}

// After products_done: no one reads the sums from before.
__device__ __forceinline__ void keep_sums(float (&sum)[32]) {
  asm volatile(""
               :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15]),
        "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]),
        "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31])
               : : "memory");
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

__device__ __forceinline__ unsigned shared_address(const void* at) { return (unsigned)__cvta_generic_to_shared(at); }

// A barrier whose phases end with `arrivals` arrivals each.
__device__ __forceinline__ void init_barrier(unsigned barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive_at_barrier(unsigned barrier) {
  asm volatile(
      "{\n"
      ".reg .b64 state;\n"
      "mbarrier.arrive.shared::cta.b64 state, [%0];\n"
      "}"
      : : "r"(barrier) : "memory");
}

// Waits until the barrier's phase of that parity has ended: 0 for its first, third, ... phase. With 1 a new barrier is past it.
__device__ __forceinline__ void wait_for_barrier(unsigned barrier, int parity) {
  unsigned has_ended;
  do {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(has_ended) : "r"(barrier), "r"(parity) : "memory");
  } while (has_ended == 0u);
}

// Arrives, and makes the barrier's phase wait for as many bytes.
__device__ __forceinline__ void expect_bytes(unsigned barrier, int bytes) {
  asm volatile(
      "{\n"
      ".reg .b64 state;\n"
      "mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n"
      "}"
      : : "r"(barrier), "r"(bytes) : "memory");
}

// Of a matrix whose boxes of 128 bytes of some rows are copied: made by the driver (cuTensorMapEncodeTiled).
struct alignas(64) TensorMap {
  unsigned long long opaque[16];
};

// Begins to copy a box of the matrix to a multiple of 1024 bytes of shared memory: 128 bytes from byte `at` on of the map's
// number of rows, zeros for what lies outside of the matrix. The barrier gets the bytes.
__device__ __forceinline__ void copy_box(unsigned to, const TensorMap& map, int at, int row, unsigned barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
      : : "r"(to), "l"(&map), "r"(at), "r"(row), "r"(barrier) : "memory");
}

// Makes what the barrier has announced visible to wgmma, which reads shared memory another way.
__device__ __forceinline__ void see_copies() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }

// Waits until at most kLeft groups of products have not ended.
template <int kLeft>
__device__ __forceinline__ void products_done() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(kLeft) : "memory");
}

// Of rows of 64 columns, 128 bytes each, in groups of 8 whose 16-byte places are exchanged: the place xor the row (128-byte
// swizzle). The matrix begins at a multiple of 1024 bytes, its steps of 16 columns are 32 bytes apart: 2 more each.
__device__ __forceinline__ unsigned long long x_descriptor(unsigned at) {
  return 0x4000004000010000ull | (at & 0x3ffffu) >> 4;
}

// 16 rows of 32 bytes, as wgmma takes them from a warp: the lane's address is that of 16 bytes of row lane % 16, the first
// of 32 in the lower 16 lanes.
__device__ __forceinline__ void load_matrices(unsigned at, unsigned (&a)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(at) : "memory");
}

// Before the first wgmma, and after registers that one reads have changed.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }

__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }

// A group of products of a stage's 128 columns: sum = a w^T.
__device__ __forceinline__ void multiply_part(float (&sum)[kPartRows / 2], const unsigned (&a)[4][4], unsigned long long w_matrix) {
  begin_products();
  start_product(sum, a[0], w_matrix);
#pragma unroll
  for (int k = 1; k < 4; ++k) add_product(sum, a[k], w_matrix + 2 * k);
  end_products();
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

// Gives registers of this warpgroup to the others.
__device__ __forceinline__ void keep_few_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(kFewRegisters));
}

// Waits until the CTA has as many left.
__device__ __forceinline__ void keep_many_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(kManyRegisters));
}

// Adds sums times the scales of the lane's two rows of x and of the part's rows of w.
__device__ __forceinline__ void add_part(float (&total)[kPartRows / 2], const float (&sum)[kPartRows / 2], const float (&x_scale)[2],
                                         float w_scale) {
  const float factor[2] = {w_scale * x_scale[0], w_scale * x_scale[1]};
#pragma unroll
  for (int i = 0; i < kPartRows / 2; ++i) total[i] += factor[i / 2 % 2] * sum[i];
}

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

// Rows and rows of x past the last ones are left out.
__device__ __forceinline__ void store_part(const float (&total)[kPartRows / 2], float* y, long long first_row,
                                           long long first_x, long long rows, long long n, int group, int q) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const long long x_row = first_x + group + 8 * r;
    if (x_row >= n) continue;
#pragma unroll
    for (int j = 0; j < kPartRows / 8; ++j) {
      const long long row = first_row + 8 * j + 2 * q;
      if (row >= rows) continue;
      float* const own = y + x_row * rows + row;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (row + i < rows) store_element(own + i, total[4 * j + 2 * r + i]);
      } // i: two rows of w
    } // j: eight rows of w
  } // r: rows of x
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtas)
matmul_fp8_e4m3_s128x128_f32_afp8_x_fp8_e4m3_g128_tc_c656(
    [[maybe_unused]] const unsigned char* __restrict__ w,
    const float* __restrict__ scale,
    [[maybe_unused]] const unsigned char* __restrict__ x,
    const float* __restrict__ x_scale,
    float* __restrict__ y,
    long long rows,
    long long n,
    const __grid_constant__ TensorMap w_map,
    const __grid_constant__ TensorMap x_map) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const unsigned filled = shared_address(shared + kBarriersAt);
  const unsigned emptied = filled + 8 * kStages;
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      init_barrier(filled + 8 * i, 1);
      init_barrier(emptied + 8 * i, kProductWarps / kStageGroups);
    } // i: stages
    see_copies(); // as those who copy see the barriers
  }
  __syncthreads();

  const int x_tiles = (int)((n + kTileX - 1) / kTileX);
  const int all_tiles = (int)((rows + kTileRows - 1) / kTileRows) * x_tiles; // a grid has no more
  int stage = 0; // of this thread, counted through all tiles
  if (threadIdx.x < kCopyThreads) {
    keep_few_registers();
    if (threadIdx.x > 0) return;
    for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x) {
#pragma unroll 1
      for (int s = 0; s < kSteps; ++s, ++stage) {
        const int slot = stage % kStages;
        wait_for_barrier(emptied + 8 * slot, stage / kStages % 2 ^ 1);
        expect_bytes(filled + 8 * slot, kStageBytes);
        const unsigned to = shared_address(shared + slot * kStageBytes);
        copy_box(to, x_map, 128 * s, tile % x_tiles * kTileX, filled + 8 * slot);
        copy_box(to + kTileX * 128, w_map, 128 * s, tile / x_tiles * kTileRows, filled + 8 * slot);
      } // s: stages
    } // tile: of y
    return;
  }

  keep_many_registers();
  const int lane = threadIdx.x % 32;
  const int group = lane / 4;
  const int q = lane % 4;
  const int warp = threadIdx.x / 32 - kCopyThreads / 32;
  const int first_token = warp % kTokenWarps * 16; // of the tile: the 16 rows of x that are this warp's
  const int matrix_row = first_token + lane % 16; // of x, whose address is this lane's for ldmatrix
  for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x, stage += kSteps) {
    float total[kParts][kPartRows / 2] = {};
    float sum[2][kPartRows / 2] = {};
    float own_x_scale[2] = {}; // of a stage, as others
    float w_scale[kParts / kScaledParts] = {};
    unsigned a[4][4] = {};
    const long long first_row = (long long)(tile / x_tiles) * kTileRows;
    const long long first_x = (long long)(tile % x_tiles) * kTileX + first_token;
    constexpr int first_step = 0;
#pragma unroll 1
    for (int s = first_step; s < kSteps; s += kStageGroups) {
      const int slot = (stage + s) % kStages;
      const unsigned x_at = shared_address(shared + slot * kStageBytes);
      const unsigned long long w_matrix = x_descriptor(x_at + kTileX * 128);
      wait_for_barrier(filled + 8 * slot, (stage + s) / kStages % 2);
      products_done<0>(); // of the stage before
      keep_sums(sum[1]);
#pragma unroll
      for (int k = 0; k < 4; ++k) load_matrices(x_at + 128 * matrix_row + 16 * (2 * k + lane / 16 ^ matrix_row % 8), a[k]);
      multiply_part(sum[0], a, w_matrix);
      add_part(total[kParts - 1], sum[1], own_x_scale, w_scale[(kParts - 1) / kScaledParts]);
      if (s > first_step) {
        __syncwarp(); // the warp has read all of the stage before
        if (lane == 0) arrive_at_barrier(emptied + 8 * ((stage + s - kStageGroups) % kStages));
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) own_x_scale[r] = x_scale[min_of(first_x + group + 8 * r, n - 1) * kXScaleCols + s];
#pragma unroll
      for (int i = 0; i < kParts / kScaledParts; ++i) {
        const long long row = min_of(first_row + i * (kScaledParts * kPartRows), rows - 1);
        w_scale[i] = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + (128 * s) / kScaleBlockCols);
      } // i: scales of rows of w
#pragma unroll
      for (int part = 1; part < kParts; ++part) {
        multiply_part(sum[part % 2], a, w_matrix + part * (kPartRows * 8));
        products_done<1>();
        keep_sums(sum[(part - 1) % 2]);
        add_part(total[part - 1], sum[(part - 1) % 2], own_x_scale, w_scale[(part - 1) / kScaledParts]);
      } // part: of the rows of w
    } // s: stages
    products_done<0>();
    keep_sums(sum[1]);
    const int last_step = kSteps - 1 - (kSteps - 1 - first_step) % kStageGroups; // of this group
    add_part(total[kParts - 1], sum[1], own_x_scale, w_scale[(kParts - 1) / kScaledParts]);
    __syncwarp();
    if (lane == 0) arrive_at_barrier(emptied + 8 * ((stage + last_step) % kStages));
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      store_part(total[part], y, first_row + part * kPartRows, first_x, rows, n, group, q);
    } // part: of the rows of w
  } // tile: of y
}
