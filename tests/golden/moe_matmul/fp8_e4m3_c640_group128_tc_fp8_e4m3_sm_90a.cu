// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/warpgroup_matmul.cu.in.
//   kernel   moe_matmul_fp8_e4m3_s128x128_f32_afp8_x_fp8_e4m3_g128_tc_c640, emitter version 7
//   w        in   fp8_e4m3  [experts, rows, 640]  row-major
//   scale    in   f32  [experts, ceil(rows / 128), 5]  row-major, one per 128 x 128 block of w
//   ids      in   i32  [slots]  the expert of each slot
//   x        in   fp8_e4m3  [ceil(slots / slots_per_x), 640]  row-major
//   x_scale  in   f32  [ceil(slots / slots_per_x), 5]  row-major, one per group of 128 columns
//   y        out  f32  [slots, rows]  row-major
//   math     y[s, r] = sum over c of decode(w) * scale[ids[s], r, c] * f32(x[s / slots_per_x, c]) * x_scale, products and sums in f32; NaN where no expert has the id; sums of 128 columns as FP8 tensor cores make them
//   arch     sm_90a, has a cvt from e4m3: as they are; wgmma m64n64k32 e4m3
//   tiles    128 rows of w, 128 of x, 6 stages of 128 columns, 2 places for 256 columns of w; 4 warps copy, 8 multiply
//   launch   grid (ceil(rows / 128) * slots or less, 1, 1), block (384, 1, 1), 171240 bytes of dynamic shared memory
//
// y^T = w x^T. A warpgroup's wgmma takes 64 rows of w from registers and rows of x from shared memory. Four warps
// copy: x in stages of 128 columns, w in units of 256. The other warps multiply: each decodes 16 rows of w while the
// columns before are being multiplied.

constexpr int kXRowBytes = 640;            // bytes of a row of x
constexpr int kThreads = 384;              // threads per CTA
constexpr int kCopyThreads = 128;          // of which copy
constexpr int kCtas = 1;                   // CTAs on a multiprocessor
constexpr int kTiles = 8;                  // 16-row tiles of w of a CTA, each of one warp
constexpr int kTileX = 128;                // rows of x of a CTA
constexpr int kStages = 6;                 // of 128 columns of x: in use or on their way
constexpr int kSteps = 5;                  // stages of a tile
constexpr int kUnitStages = 2;             // stages of a unit
constexpr int kUnits = 3;                  // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 4096;           // bytes of a unit in shared memory
constexpr int kUnitSlots = 2;              // places for units: in use or on their way
constexpr int kUnitsAt = 98304;            // bytes of shared memory before the units
constexpr int kBarriersAt = 171072;        // before the barriers
constexpr long long kRowBytes = 640;       // bytes of a row of w
constexpr int kScaleBlockRows = 128;       // rows that share one scale
constexpr int kScaleBlockCols = 128;       // columns that share one scale
constexpr int kScaleCols = 5;              // scales in one row of scales
constexpr int kXScaleCols = 5;             // scales of a row of x
constexpr int kXScalesAt = 163840;         // bytes of shared memory before those
constexpr int kPartX = 64;                 // rows of x that one wgmma takes
constexpr int kYRows = 128;                // rows of y, along the rows of w, of a CTA
constexpr int kExpertsAtOnce = 512;        // whose slots are counted together
constexpr int kListThreads = kCopyThreads; // threads that look for the CTA's tiles
constexpr int kLists = 2;                  // lists of a tile's slots: in use or being made
constexpr int kPlacesAt = 166912;          // bytes of shared memory before the counts
constexpr int kListsAt = 168992;           // before the lists

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

// To shared memory, past the registers and the L1 cache; ends some time before wait_for_copies returns.
__device__ __forceinline__ void copy_16_bytes(unsigned char* to, const unsigned char* from) {
  const unsigned shared_to = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(shared_to), "l"(from) : "memory");
}

// To shared memory, past the L1 cache, zeros after the first `bytes`; ends some time before arrive_after_copies arrives.
__device__ __forceinline__ void copy_16_bytes_of(unsigned char* to, const unsigned char* from, int bytes) {
  const unsigned shared_to = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(shared_to), "l"(from), "r"(bytes) : "memory");
}

// Begins to copy 16 bytes of a row, from byte `at` on; zeros past the last one.
__device__ __forceinline__ void copy_row_vector(unsigned char* to, const unsigned char* row, int at) {
  copy_16_bytes_of(to, row + at, at < kRowBytes ? 16 : 0);
}

// Begins to copy 256 columns of kTiles * 16 rows of one byte each: a kilobyte has 128 columns of eight rows, whose 16-byte
// places are exchanged as those of x are. A thread has 16 columns of every eighth row. Past the last row, that is
// read again and its sums are not stored.
template <int kTiles>
__device__ __forceinline__ void copy_unit_tile(unsigned char* to, const unsigned char* w, long long first_row, long long rows,
                                               int u) {
  const int own = threadIdx.x % 16;
  const int own_row = threadIdx.x / 16;
  unsigned char* const own_to = to + 2048 * (own / 8) + 128 * own_row + 16 * (own % 8 ^ own_row);
  if (first_row + kTiles * 16 <= rows) {
    const unsigned char* const from = w + (first_row + own_row) * kRowBytes;
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      copy_row_vector(own_to + i / 2 * kUnitBytes + i % 2 * 1024, from + 8 * i * kRowBytes, 256 * u + 16 * own);
    } // i: eight rows
  } else {
#pragma unroll 1
    for (int i = 0; i < 2 * kTiles; ++i) {
      copy_row_vector(own_to + i / 2 * kUnitBytes + i % 2 * 1024, w + min_of(first_row + own_row + 8 * i, rows - 1) * kRowBytes,
                      256 * u + 16 * own);
    } // i: eight rows
  }
}

// Arrives at the barrier when all copies that this thread has begun have ended.
__device__ __forceinline__ void arrive_after_copies(unsigned barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" : : "r"(barrier) : "memory");
}

__device__ __forceinline__ void finish_copies() { asm volatile("cp.async.wait_all;" : : : "memory"); }

// Makes what the barrier has announced visible to wgmma, which reads shared memory another way.
__device__ __forceinline__ void see_copies() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }

// Before the first wgmma, and after registers that one reads have changed.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }

__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }

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

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

struct alignas(8) Words2 {
  unsigned word[2];
};

// To shared memory; ends some time before arrive_after_copies arrives.
__device__ __forceinline__ void copy_4_bytes(unsigned char* to, const unsigned char* from) {
  const unsigned shared_to = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" : : "r"(shared_to), "l"(from) : "memory");
}

// Of all threads that look for tiles, by a barrier of theirs: what one wrote before, all see.
struct Meeting {
  unsigned barrier;
  int phase;

  __device__ __forceinline__ void wait() {
    arrive_at_barrier(barrier);
    wait_for_barrier(barrier, phase);
    phase ^= 1;
  }
};

// What threads that look for tiles have together.
struct ExpertPlaces {
  int tile_end[kExpertsAtOnce];      // tiles of rows of x, of the experts up to and with each one
  int warp_total[kListThreads / 32]; // slots of the tile's expert that a warp has found
  int has_strays;                    // whether there are slots whose id is no expert's
};

// Counts the tiles of rows of x that kExpertsAtOnce experts from first_expert on have.
__device__ __forceinline__ int count_tiles(ExpertPlaces& places, Meeting& meeting, const int* ids, long long slots,
                                           long long experts, long long first_expert) {
  meeting.wait(); // the counts before have been read
  for (int i = threadIdx.x; i < kExpertsAtOnce; i += kListThreads) places.tile_end[i] = 0;
  if (threadIdx.x == 0 && first_expert == 0) places.has_strays = 0;
  meeting.wait();
  constexpr int kLoads = 8;
  for (long long first = threadIdx.x; first < slots; first += kLoads * kListThreads) {
    int id[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const long long slot = first + i * kListThreads;
      id[i] = slot < slots ? ids[slot] : 0;
    } // i: slots, on their way together
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (first + i * kListThreads >= slots) continue;
      const long long own = id[i] - first_expert;
      if (id[i] < 0 || id[i] >= experts) places.has_strays = 1;
      else if (own >= 0 && own < kExpertsAtOnce) atomicAdd(&places.tile_end[own], 1);
    } // i: slots
  } // first: slots of this thread
  meeting.wait();
  if (threadIdx.x < 32) {
    constexpr int kOwn = kExpertsAtOnce / 32;
    int* const own = places.tile_end + kOwn * threadIdx.x;
    int end = 0;
    for (int i = 0; i < kOwn; ++i) end += (own[i] + kTileX - 1) / kTileX;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, end, distance);
      if ((int)threadIdx.x >= distance) end += before;
    } // distance: lanes apart
    for (int i = kOwn - 1; i >= 0; --i) {
      const int tiles = (own[i] + kTileX - 1) / kTileX;
      own[i] = end;
      end -= tiles;
    } // i: experts of this lane
  }
  meeting.wait();
  return places.tile_end[kExpertsAtOnce - 1];
}

// The tiles of y that a CTA has: every gridDim.x-th of all. They follow one another expert by expert, tile by tile of an
// expert's rows of w, so that what CTAs have at the same time shares weights.
struct ExpertTiles {
  unsigned at;            // the next one, of those of the experts that are counted
  unsigned end;           // how many those are
  long long first_expert; // of these
  int expert;             // of the tile
  int first_slot;         // of those of its expert
  long long first_row;    // of its expert's rows

  // Goes to the next tile, if there is one.
  __device__ __forceinline__ bool next(ExpertPlaces& places, Meeting& meeting, const int* ids, long long slots, long long experts,
                                       long long rows) {
    const unsigned row_tiles = (unsigned)((rows + kYRows - 1) / kYRows);
    while (at >= end) {
      at -= end;
      first_expert += kExpertsAtOnce;
      if (first_expert >= experts) return false;
      end = (unsigned)count_tiles(places, meeting, ids, slots, experts, first_expert) * row_tiles;
    }
    const int tile = (int)(at / row_tiles);
    int own = 0; // the first expert whose tiles end after that
#pragma unroll
    for (int step = kExpertsAtOnce / 2; step > 0; step /= 2) {
      if (places.tile_end[own + step - 1] <= tile) own += step;
    } // step: experts
    const unsigned begin = own == 0 ? 0u : (unsigned)places.tile_end[own - 1];
    const unsigned x_tiles = (unsigned)places.tile_end[own] - begin;
    const unsigned of_expert = at - begin * row_tiles;
    expert = (int)first_expert + own;
    first_row = (long long)(of_expert / x_tiles) * kYRows;
    first_slot = (int)(of_expert % x_tiles) * kTileX;
    at += gridDim.x;
    return true;
  }
};

// The rows of a tile of y.
struct TileSlots {
  int slot[kTileX];  // of y
  int x_row[kTileX]; // of x
};

// Lists up to kTileX of the expert's slots, from number `first` of them on; gives how many there are. Thread by thread, each
// with every kListThreads-th slot.
__device__ __forceinline__ int list_slots(ExpertPlaces& places, TileSlots& list, Meeting& meeting, const int* ids, long long slots,
                                          long long slots_per_x, int expert, int first) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  int found = -first; // in the tile, so far
  for (long long begin = 0; begin < slots && found < kTileX; begin += 32 * kListThreads) {
    const int loads = (int)min_of(32, (slots - begin + kListThreads - 1) / kListThreads);
    unsigned own = 0;
#pragma unroll 8
    for (int i = 0; i < loads; ++i) {
      const long long slot = begin + i * kListThreads + threadIdx.x;
      if (slot < slots && ids[slot] == expert) own |= 1u << i;
    } // i: slots of this thread
    int upto = __popc(own);
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, upto, distance);
      if (lane >= distance) upto += before;
    } // distance: lanes apart
    if (lane == 31) places.warp_total[warp] = upto;
    meeting.wait(); // also: the list before has been read
    int place = found + upto - __popc(own);
#pragma unroll
    for (int i = 0; i < kListThreads / 32; ++i) {
      const int total = places.warp_total[i];
      if (i < warp) place += total;
      found += total;
    } // i: warps
    for (; own != 0; own &= own - 1, ++place) {
      const int slot = (int)begin + (__ffs((int)own) - 1) * kListThreads + (int)threadIdx.x;
      if (place < 0 || place >= kTileX) continue;
      list.slot[place] = slot;
      list.x_row[place] = (int)(slot / slots_per_x);
    } // own: slots of the expert
    meeting.wait();
  } // begin: slots at a time
  return (int)min_of(found, kTileX);
}

// NaN in the rows of y whose id is no expert's; each CTA has every gridDim.x-th slot.
template <typename Y>
__device__ __forceinline__ void store_strays(const int* ids, long long slots, long long experts, Y* y, long long rows) {
  for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
    if (ids[slot] >= 0 && ids[slot] < experts) continue;
    for (long long row = threadIdx.x; row < rows; row += kListThreads) {
      store_element(y + slot * rows + row, __uint_as_float(0x7fc00000u));
    } // row: of y
  } // slot: of this CTA
}

// A tile's rows, for those who have not looked for them.
struct TileList {
  TileSlots rows;
  int slots; // 0: no tile is left
  int expert;
  long long first_row; // of the expert's rows of w
};

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

// sum = a b for 64 rows of a, of which this warp has 16, 64 rows of b and 32 columns. The sums are there after
// products_done; until then no one changes what they read.
__device__ __forceinline__ void start_product(float (&sum)[32], const unsigned (&a)[4], unsigned long long b_matrix) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, 0, 1, 1;"
      :
        "=f"(sum[0]), "=f"(sum[1]), "=f"(sum[2]), "=f"(sum[3]), "=f"(sum[4]), "=f"(sum[5]), "=f"(sum[6]), "=f"(sum[7]),
        "=f"(sum[8]), "=f"(sum[9]), "=f"(sum[10]), "=f"(sum[11]), "=f"(sum[12]), "=f"(sum[13]), "=f"(sum[14]), "=f"(sum[15]),
        "=f"(sum[16]), "=f"(sum[17]), "=f"(sum[18]), "=f"(sum[19]), "=f"(sum[20]), "=f"(sum[21]), "=f"(sum[22]), "=f"(sum[23]),
        "=f"(sum[24]), "=f"(sum[25]), "=f"(sum[26]), "=f"(sum[27]), "=f"(sum[28]), "=f"(sum[29]), "=f"(sum[30]), "=f"(sum[31])
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

// Rows and rows of x past the last ones are left out.
__device__ __forceinline__ void store_tile(const float (&total)[kTileX / 2], float* y, long long first_row, const int (&slot)[kTileX],
                                           long long rows, int n, int group, int q) {
#pragma unroll
  for (int j = 0; j < kTileX / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int x_row = 8 * j + 2 * q + i % 2;
      const long long row = first_row + group + i / 2 * 8;
      if (x_row < n && row < rows) store_element(y + (long long)slot[x_row] * rows + row, total[4 * j + i]);
    } // i: two rows of w and of x
  } // j: eight rows of x
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtas)
moe_matmul_fp8_e4m3_s128x128_f32_afp8_x_fp8_e4m3_g128_tc_c640(
    const unsigned char* __restrict__ w,
    const float* __restrict__ scale,
    const int* __restrict__ ids,
    const unsigned char* __restrict__ x,
    const float* __restrict__ x_scale,
    float* __restrict__ y,
    long long rows,
    long long slots,
    long long slots_per_x,
    long long experts) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const unsigned x_ring = shared_address(shared);
  unsigned char* const unit_ring = shared + kUnitsAt;
  const unsigned x_filled = shared_address(shared + kBarriersAt);
  const unsigned x_emptied = x_filled + 8 * kStages;
  const unsigned unit_filled = x_emptied + 8 * kStages;
  const unsigned unit_emptied = unit_filled + 8 * kUnitSlots;
  const unsigned list_filled = unit_emptied + 8 * kUnitSlots;
  const unsigned list_emptied = list_filled + 8 * kLists;
  const unsigned looked = list_emptied + 8 * kLists; // of the threads that look for tiles
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      init_barrier(x_filled + 8 * i, kCopyThreads);
      init_barrier(x_emptied + 8 * i, kTiles);
    } // i: stages
#pragma unroll
    for (int i = 0; i < kUnitSlots; ++i) {
      init_barrier(unit_filled + 8 * i, kCopyThreads);
      init_barrier(unit_emptied + 8 * i, kTiles);
    } // i: places for units
#pragma unroll
    for (int i = 0; i < kLists; ++i) {
      init_barrier(list_filled + 8 * i, kCopyThreads);
      init_barrier(list_emptied + 8 * i, kTiles);
    } // i: lists
    init_barrier(looked, kCopyThreads);
  }
  __syncthreads();

  const int lane = threadIdx.x % 32;
  ExpertPlaces& places = *(ExpertPlaces*)(shared + kPlacesAt);
  TileList* const lists = (TileList*)(shared + kListsAt);
  int stage = 0;     // of this thread, counted through all tiles, as units are
  int unit_step = 0;
  if (threadIdx.x < kCopyThreads) {
    const int own_row = threadIdx.x / 8;
    const int own_place = threadIdx.x % 8; // of 16 bytes
    Meeting meeting = {looked, 0};
    ExpertTiles tiles = {blockIdx.x, 0u, -kExpertsAtOnce, 0, 0, 0};
    long long expert = 0; // whose weights the pointers are at
    int list_step = 0;    // lists are counted through all tiles
    while (tiles.next(places, meeting, ids, slots, experts, rows)) {
      const int list_place = list_step % kLists;
      TileList& list = lists[list_place];
      wait_for_barrier(list_emptied + 8 * list_place, list_step / kLists % 2 ^ 1);
      const int tile_slots =
          list_slots(places, list.rows, meeting, ids, slots, slots_per_x, tiles.expert, tiles.first_slot);
      if (threadIdx.x == 0) {
        list.slots = tile_slots;
        list.expert = tiles.expert;
        list.first_row = tiles.first_row;
      }
      arrive_at_barrier(list_filled + 8 * list_place);
      ++list_step;
      const long long experts_on = tiles.expert - expert; // from the last tile's
      w += experts_on * (rows * kRowBytes);
      expert = tiles.expert;
      const long long first_row = tiles.first_row;
      unsigned own_x[kTileX / 16]; // where this thread's places of rows of x begin, in 16 bytes
#pragma unroll
      for (int i = 0; i < kTileX / 16; ++i) {
        const int row = (int)min_of(own_row + 16 * i, tile_slots - 1);
        own_x[i] = (unsigned)list.rows.x_row[row] * (unsigned)(kXRowBytes / 16) + (unsigned)own_place;
      } // i: rows of this thread
#pragma unroll 1
      for (int s = 0; s < kSteps; ++s, ++stage) {
        if (s % kUnitStages == 0) {
          const int slot = unit_step % kUnitSlots;
          wait_for_barrier(unit_emptied + 8 * slot, unit_step / kUnitSlots % 2 ^ 1);
          unsigned char* const units = unit_ring + slot * (kTiles * kUnitBytes);
          copy_unit_tile<kTiles / 2>(units, w, first_row, rows, s / kUnitStages);
          copy_unit_tile<kTiles / 2>(units + kTiles / 2 * kUnitBytes, w, first_row + kTiles * 8, rows, s / kUnitStages);
          arrive_after_copies(unit_filled + 8 * slot);
          ++unit_step;
        }
        const int slot = stage % kStages;
        wait_for_barrier(x_emptied + 8 * slot, stage / kStages % 2 ^ 1);
        unsigned char* const to = shared + slot * (kTileX * 128) + 128 * own_row + 16 * (own_place ^ own_row % 8);
#pragma unroll
        for (int i = 0; i < kTileX / 16; ++i) {
          if (own_row + 16 * i < tile_slots || stage < kStages) copy_16_bytes(to + 2048 * i, x + 16ll * own_x[i] + 128 * s);
        } // i: rows of this thread; past the last slot's, what lies there
#pragma unroll 1
        for (int row = threadIdx.x; row < kTileX; row += kCopyThreads) {
          const float* own = x_scale + (long long)list.rows.x_row[min_of(row, tile_slots - 1)] * kXScaleCols + s;
          copy_4_bytes(shared + kXScalesAt + 4 * (slot * kTileX + row), (const unsigned char*)own);
        } // row: of x
        arrive_after_copies(x_filled + 8 * slot);
      } // s: stages
    } // tile: of y
    const int list_place = list_step % kLists;
    wait_for_barrier(list_emptied + 8 * list_place, list_step / kLists % 2 ^ 1);
    if (threadIdx.x == 0) lists[list_place].slots = 0; // no tile is left
    arrive_at_barrier(list_filled + 8 * list_place);
    if (places.has_strays) store_strays(ids, slots, experts, y, rows);
    finish_copies();
    return;
  }

  const int tile_of_cta = threadIdx.x / 32 - kCopyThreads / 32; // 16 rows: this warp's
  const int group = lane / 4;
  const int q = lane % 4;
  long long expert = 0; // whose scales or bias the pointers are at
  for (int list_step = 0;; ++list_step) {
    const int list_place = list_step % kLists;
    const TileList& list = lists[list_place];
    wait_for_barrier(list_filled + 8 * list_place, list_step / kLists % 2);
    const int tile_slots = list.slots;
    if (tile_slots == 0) break;
    const long long experts_on = list.expert - expert; // from the last tile's
    scale += experts_on * ((rows + kScaleBlockRows - 1) / kScaleBlockRows) * kScaleCols;
    expert = list.expert;
    const int row_tile = (int)(list.first_row / 16) + tile_of_cta;
    float total[kTileX / 2];
#pragma unroll
    for (int i = 0; i < kTileX / 2; ++i) total[i] = 0.0f;
#pragma unroll 1
    for (int u = 0; u < kUnits; ++u, ++unit_step) {
      const int slot = unit_step % kUnitSlots;
      wait_for_barrier(unit_filled + 8 * slot, unit_step / kUnitSlots % 2);
      const unsigned char* const own_unit = unit_ring + (slot * kTiles + tile_of_cta) * kUnitBytes;

#pragma unroll 1
      for (int pair = 0; pair < kUnitStages; ++pair) {
        if (kSteps % kUnitStages != 0 && kUnitStages * u + pair >= kSteps) break;
        unsigned a[4][4];
        float scale_of_row[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const long long row = min_of((long long)row_tile * 16 + group + 8 * r, rows - 1);
          const int col = 128 * (kUnitStages * u + pair);
          scale_of_row[r] = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
        } // r: rows
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const unsigned char* own = own_unit + 1024 * (2 * pair + r) + 128 * group + 4 * q;
#pragma unroll
          for (int i = 0; i < 8; ++i) a[i / 2][r + i % 2 * 2] = *(const unsigned*)(own + 16 * (i ^ group));
        } // r: rows
        if (pair == kUnitStages - 1 || (kSteps % kUnitStages != 0 && kUnitStages * u + pair == kSteps - 1)) {
          __syncwarp(); // all lanes have read the unit
          if (lane == 0) arrive_at_barrier(unit_emptied + 8 * slot);
        }
        wait_for_barrier(x_filled + 8 * (stage % kStages), stage / kStages % 2);
        see_copies();
        const unsigned long long x_matrix = x_descriptor(x_ring + stage % kStages * (kTileX * 128));
        const float* const own_x_scales = (const float*)(shared + kXScalesAt) + stage % kStages * kTileX + 2 * q;
#pragma unroll
        for (int part = 0; part < kTileX / kPartX; ++part) {
          float sum[kPartX / 2];
          begin_products();
          start_product(sum, a[0], x_matrix + part * (kPartX * 8));
#pragma unroll
          for (int k = 1; k < 4; ++k) add_product(sum, a[k], x_matrix + part * (kPartX * 8) + 2 * k);
          end_products();
          products_done<0>();
          keep_sums(sum);
#pragma unroll
          for (int j = 0; j < kPartX / 8; ++j) {
            const Words2 x_scales = *(const Words2*)(own_x_scales + part * kPartX + 8 * j);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const float scale_of_sum = scale_of_row[0] * __uint_as_float(x_scales.word[i % 2]);
              total[part * (kPartX / 2) + 4 * j + i] += scale_of_sum * sum[4 * j + i];
            } // i: two rows of w and of x
          } // j: eight rows of x
        } // part: of the rows of x
        __syncwarp(); // all lanes have read the stage's scales
        if (lane == 0) arrive_at_barrier(x_emptied + 8 * (stage % kStages));
        ++stage;
      } // pair: a stage's columns
    } // u: units
    store_tile(total, y, (long long)row_tile * 16, list.rows.slot, rows, tile_slots, group, q);
    __syncwarp(); // all lanes have read the list
    if (lane == 0) arrive_at_barrier(list_emptied + 8 * list_place);
  } // tile: of y
}
