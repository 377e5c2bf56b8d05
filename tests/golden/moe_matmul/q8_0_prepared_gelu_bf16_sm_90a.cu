// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/unit_matmul.cu.in.
//   kernel   moe_matmul_q8_0_x_bf16_gate_gelu_tanh_prepared_c512, emitter version 7
//   w_gate   in   q8_0  [experts, rows, 512]  prepared
//   w_up     in   q8_0  [experts, rows, 512]  prepared
//   ids      in   i32  [slots]  the expert of each slot
//   x        in   bf16  [ceil(slots / slots_per_x), 512]  row-major
//   y        out  f32  [slots, rows]  row-major
//   math     y[s, r] = gelu_tanh(sum over c of decode(w_gate)[ids[s], r, c] * f32(x[s / slots_per_x, c])) * (sum over c of decode(w_up)[ids[s], r, c] * f32(x[s / slots_per_x, c])), products and sums in f32; NaN where no expert has the id
//   arch     sm_90a, no instruction decodes q8_0 blocks: codes to bf16x2 integers; mma m16n8k16 bf16
//   tiles    64 rows of w, 32 of x, 3 stages; warps 4 x 1 x 2 along rows, x, columns; codes to bf16x2 integers; mma m16n8k16 bf16
//   launch   grid (ceil(rows / 32) * slots or less, 1, 1), block (256, 1, 1), 98304 bytes of dynamic shared memory
//
// y^T = w x^T: codes of w, as integers, are the operand of 16 rows, so that a decoded code serves all rows of x of a warp.
// w comes as units of 16 rows and 256 columns, x in stages of 64 columns. The sums of each block
// of 32 columns are multiplied by its scale when they join the totals.

constexpr int kCols = 512;                                   // columns of w, and of each row of x
constexpr int kRun = 8;                                      // columns of x that a thread moves at once
constexpr int kXBytes = 2;                                   // bytes of an element of x
constexpr int kUnits = 2;                                    // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 4352;                             // bytes of a unit
constexpr int kCodeVectors = 8;                              // 16-byte vectors of codes that a lane has of a unit
constexpr int kThreads = 256;                                // threads per CTA
constexpr int kTiles = 4;                                    // 16-row tiles of w of a CTA
constexpr int kTileX = 32;                                   // rows of x of a CTA
constexpr int kWarpsRows = 4;                                // warps side by side along the rows of w
constexpr int kWarpsX = 1;                                   // along the rows of x
constexpr int kWarpsK = 2;                                   // along the columns: each has every so manyth unit
constexpr int kUnitSteps = (kUnits + kWarpsK - 1) / kWarpsK; // units that a warp has at most
constexpr int kRowTiles = kTiles / kWarpsRows;               // 16-row tiles of a warp
constexpr int kXTiles = kTileX / kWarpsX / 8;                // 8-row tiles of x of a warp
constexpr int kTerms = 1;                                    // 16-bit numbers whose sum is a number of x
constexpr int kXRuns = kWarpsK * kTileX * 8 / kThreads;      // runs of x that a thread moves of a stage
constexpr int kStages = 3;                                   // stages of x: in use or on their way
constexpr int kUnitSlots = 2;                                // places for a unit: in use or on its way
constexpr int kBlocks = 8;                                   // blocks of a unit, whose columns share a scale
constexpr int kPairBlocks = kBlocks / 4;                     // in a stage
constexpr int kBlockSteps = 2;                               // mma along the columns of a block
constexpr int kTables = 1;                                   // of scales
constexpr int kXRowMask = 1;                                 // how 16-byte places of x are exchanged
constexpr int kXRowStep = 4;
constexpr int kUnitsAt = 24576;                              // bytes of shared memory before the units
constexpr int kFactorsAt = 94208;                            // before the scales of blocks
constexpr float kFactor = 1.0f;                              // by which all scales are too small
constexpr int kYRows = 32;                                   // rows of y, along the rows of w, of a CTA
constexpr int kExpertsAtOnce = 512;                          // whose slots are counted together
constexpr int kListThreads = kThreads;                       // threads that look for the CTA's tiles

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

using Head = Words4;

struct Tail {};
__device__ __forceinline__ Tail load_tail(const unsigned char*, int) { return {}; }

// Where the words of a vector lie whose columns are each word's own: words 2 b and 2 b + 1 are two of the lanes of block b.
__device__ __forceinline__ int lane_place(int lane) { return 16 * (lane / 4 * 4 + lane % 2) + 8 * (lane / 2 % 2); }
__device__ __forceinline__ constexpr int word_place(int k) { return 32 * (k / 2) + 4 * (k % 2); }

// A unit in shared memory: its codes, read word by word as a lane of mma has them, and the head and the tail of a row.
struct UnitWords {
  const unsigned char* at;

  __device__ __forceinline__ unsigned operator[](int k) const { return *(const unsigned*)(at + word_place(k)); }
};

struct UnitVector {
  UnitWords word;
};

struct UnitCodes {
  const unsigned char* at;

  __device__ __forceinline__ UnitVector operator[](int i) const { return {{at + 512 * i}}; }
};

struct Unit {
  UnitCodes codes;
  Head head[1];
  Tail tail[1];
};

__device__ __forceinline__ void exchange_words(unsigned (&)[2][4], int) {}

__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[2 * pair + r].word[k];
  } // r: rows
}

// a times one plus b, the addition that sm_80 has.
__device__ __forceinline__ unsigned add_bf16x2(unsigned a, unsigned b) {
  unsigned sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
  return sum;
}

// Two signed bytes, each below 0x43, as bf16 integers. 0x4300 | its lower 7 bits reads as 128 more than those; from that
// goes 128, or 256 if bit 7 is set, whose bf16 are 0xc300 and 0xc380.
__device__ __forceinline__ unsigned signed_pair(unsigned pair) {
  return add_bf16x2(pair & 0xff7fff7fu, (pair & 0x00800080u) | 0xc300c300u);
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

__device__ __forceinline__ void code_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = signed_pair(permute_bytes(codes, 0x43434343u, 0x4140u));
  high = signed_pair(permute_bytes(codes, 0x43434343u, 0x4342u));
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ float block_scale(const Unit& unit, int r, int block) {
  return f16_to_f32((unsigned short)(unit.head[r].word[block / 2] >> 16 * (block % 2)));
}

__device__ __forceinline__ float unit_minimum(const Unit&, int, const unsigned char*) { return 0.0f; }

// What is multiplied by all block scales of a row of a unit.
__device__ __forceinline__ constexpr float whole_scale(const Unit&, int) { return 1.0f; }

// Scales of a row of this lane's, as unit_product needs them.
struct OwnScales {
  const Unit& unit;
  int r;

  __device__ __forceinline__ float whole() const { return whole_scale(unit, r); }
  __device__ __forceinline__ float of_block(int block) const { return block_scale(unit, r, block); }
  __device__ __forceinline__ float minimum(const unsigned char* sums) const { return unit_minimum(unit, r, sums); }
};

__device__ __forceinline__ OwnScales own_scales(const Unit& unit, int r) { return {unit, r}; }

// The head and the tail of one row of a unit.
__device__ __forceinline__ void load_scales(const unsigned char* at, int row, Unit& unit) {
  unit.head[0] = *(const Head*)(at + 512 * kCodeVectors + row * (int)sizeof(Head));
  unit.tail[0] = load_tail(at, row);
}

// What a lane feeds to the mma of a block: 8 columns of a row of x.
using XWords = Words4;

// Where 16 bytes of a row of x lie in its 128 of a stage: 16-byte places are exchanged by rows, so that the rows which
// lanes read at once lie in different banks.
__device__ __forceinline__ int x_place(int row, int sixteen) { return 16 * (sixteen ^ (row & kXRowMask) * kXRowStep); }

// sum += a b for 16 rows, 8 rows of x and 16 columns; bf16, sums in f32.
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// To shared memory, past the registers and the L1 cache; ends some time before wait_for_copies returns.
__device__ __forceinline__ void copy_16_bytes(unsigned char* to, const unsigned char* from) {
  const unsigned shared_to = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(shared_to), "l"(from) : "memory");
}

__device__ __forceinline__ void begin_copy(unsigned char* to, const unsigned char* from) { copy_16_bytes(to, from); }

__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" : : : "memory"); }

__device__ __forceinline__ void end_copies() { end_copy_group(); }

// Waits until at most kLeft of this thread's groups of copies have not ended.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kLeft) : "memory");
}

template <int kLeft>
__device__ __forceinline__ void copies_done() {
  wait_for_copies<kLeft>();
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

// Of all threads that look for tiles: what one wrote before, all see.
struct Meeting {
  __device__ __forceinline__ void wait() { __syncthreads(); }
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

// exp(-a) for a >= 0, with a relative error below 2^-22 (below 2^-149 absolute where the result is subnormal);
// 0 from 104 on and for NaN. exp(-a) = 2^-n exp(r), n the integer nearest to a / ln 2, |r| < 0.35; the
// series' remainder there is below 2^-27.
__device__ __forceinline__ float exp_of_negative(float a) {
  const float limited = a < 104.0f ? a : 104.0f; // exp(-104) rounds to 0
  const int n = (int)(limited * 0x1.715476p+0f + 0.5f);
  // ln 2 in two parts: n times the first, of 9 bits, is exact.
  const float r = ((float)n * 0x1.63p-1f - limited) + (float)n * -0x1.bd0106p-13f;
  float series = 1.0f / 5040.0f;
  series = series * r + 1.0f / 720.0f;
  series = series * r + 1.0f / 120.0f;
  series = series * r + 1.0f / 24.0f;
  series = series * r + 1.0f / 6.0f;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  // 2^-n in two factors, for subnormal results.
  const float first = __uint_as_float((unsigned)(127 - n / 2) << 23);
  const float second = __uint_as_float((unsigned)(127 - (n - n / 2)) << 23);
  return series * first * second;
}

// 1 / (1 + exp(-z)), without overflow; 0 or 1 for NaN, which its factor brings back.
__device__ __forceinline__ float sigmoid(float z) {
  const float small = exp_of_negative(z < 0.0f ? -z : z);
  return (z >= 0.0f ? 1.0f : small) / (1.0f + small);
}

// g / 2 * (1 + tanh(u)) = g / (1 + exp(-2 u)), u = sqrt(2 / pi) * (g + 0.044715 g^3), within 2^-21 of |g|.
__device__ __forceinline__ float activate(float g) {
  const float twice_u = 0x1.988454p+0f * (g + 0.044715f * g * g * g);
  return g * sigmoid(twice_u);
}

extern "C" __global__ void __launch_bounds__(kThreads, 2)
moe_matmul_q8_0_x_bf16_gate_gelu_tanh_prepared_c512(
    const unsigned char* __restrict__ w_gate,
    const unsigned char* __restrict__ w_up,
    const int* __restrict__ ids,
    const unsigned char* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long slots,
    long long slots_per_x,
    long long experts) {
  extern __shared__ __align__(128) unsigned char shared[];
  unsigned char* const x_ring = shared;
  unsigned char* const units = shared + kUnitsAt;
  float* const factors = (float*)(shared + kFactorsAt);
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int group = lane / 4; // row of an 8-row fragment
  const int q = lane % 4;
  const int warp_k = warp / (kWarpsRows * kWarpsX);                // which of the units side by side
  const int warp_tile = warp / kWarpsX % kWarpsRows * kRowTiles;   // first of its 16-row tiles
  const int warp_x = warp % kWarpsX * (kXTiles * 8);               // first of its rows of x
  __shared__ ExpertPlaces places;
  __shared__ TileSlots list;
  Meeting meeting;
  ExpertTiles tiles = {blockIdx.x, 0u, -kExpertsAtOnce, 0, 0, 0};
  long long expert = 0; // whose weights the pointers are at
  while (tiles.next(places, meeting, ids, slots, experts, rows)) {
    const int tile_slots =
        list_slots(places, list, meeting, ids, slots, slots_per_x, tiles.expert, tiles.first_slot);
    const long long experts_on = tiles.expert - expert; // from the last tile's
    w_gate += experts_on * ((rows + 15) / 16 * kUnits * kUnitBytes);
    w_up += experts_on * ((rows + 15) / 16 * kUnits * kUnitBytes);
    expert = tiles.expert;
    const long long first_tile = tiles.first_row / 16;
  
    // Begins to fill a stage with x: 64 columns of the units that the CTA then multiplies.
    const auto copy_x = [&](int stage) {
#pragma unroll
      for (int i = 0; i < kXRuns; ++i) {
        const int run = threadIdx.x + i * kThreads;
        const int row = run / 8 % kTileX;
        const int k = run / (8 * kTileX);
        const int col = (stage / 4 * kWarpsK + k) * 256 + stage % 4 * 64 + run % 8 * kRun;
        unsigned char* to = x_ring + ((stage % kStages * kWarpsK + k) * kTileX + row) * 128 + x_place(row, run % 8);
        const unsigned char* from = x + ((long long)list.x_row[min_of(row, tile_slots - 1)] * kCols + col) * kXBytes;
        begin_copy(to, from);
      } // i: runs of this thread
    };
    // Begins to copy the units that the CTA has next.
    const long long last_tile = (rows - 1) / 16;
    const auto copy_units = [&](int v) {
#pragma unroll 1
      for (int at = threadIdx.x; at < kWarpsK * kTiles * (kUnitBytes / 16); at += kThreads) {
        const int vector = at % (kUnitBytes / 16);
        const int tile = at / (kUnitBytes / 16) % kTiles;
        const int unit = v * kWarpsK + at / (kUnitBytes / 16 * kTiles);
        // Past the last tile of rows, that is read again and its sums are not stored.
        const long long from = (min_of(first_tile + tile % (kTiles / 2), last_tile) * kUnits + unit) * kUnitBytes;
        if (unit < kUnits)
          begin_copy(units + v % kUnitSlots * (kWarpsK * kTiles * kUnitBytes) + 16 * at, (tile < kTiles / 2 ? w_gate : w_up) + from + 16 * vector);
      } // at: vectors of this thread
    };

    copy_units(0);
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
      copy_x(stage);
      end_copies();
    } // stage: on their way

    float total[kRowTiles][kXTiles][4] = {};
#pragma unroll 1
    for (int v = 0; v < kUnitSteps; ++v) {
      const bool has_unit = kUnits % kWarpsK == 0 || v * kWarpsK + warp_k < kUnits;
      const unsigned char* own_units = units + ((v % kUnitSlots * kWarpsK + warp_k) * kTiles + warp_tile) * kUnitBytes + lane_place(lane);
      const float* own_factors = factors + warp_k * (kBlocks * kTiles * 16) + warp_tile * 16 + group;
#pragma unroll 1
      for (int pair = 0; pair < 4; ++pair) {
        const int stage = 4 * v + pair;
        copies_done<kStages - 2>();
        __syncthreads(); // this stage is there, the one before has been read
        if (stage + kStages - 1 < 4 * kUnitSteps) copy_x(stage + kStages - 1);
        if (pair == 0 && v + 1 < kUnitSteps) copy_units(v + 1);
        end_copies();
        if (pair == 0) {
          for (int task = threadIdx.x; task < kWarpsK * kTables * kTiles * 16; task += kThreads) {
            const int row = task % (kTiles * 16);
            const int k = task / (kTables * kTiles * 16);
            const unsigned char* at = units + ((v % kUnitSlots * kWarpsK + k) * kTiles + row / 16) * kUnitBytes;
            if (v * kWarpsK + k >= kUnits) continue;
            Unit unit = {};
            load_scales(at, row % 16, unit);
            const OwnScales scales = own_scales(unit, 0);
            float* own = factors + k * (kBlocks * kTiles * 16);
#pragma unroll
            for (int block = 0; block < kBlocks; ++block) {
              own[block * (kTiles * 16) + row] = kFactor * scales.whole() * scales.of_block(block);
            } // block: of a unit
          } // task: a row's scales
          __syncthreads();
        }
        if (has_unit) {
          unsigned codes[kRowTiles][1][2][4];
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) {
            Unit unit;
            unit.codes.at = own_units + m * kUnitBytes;
            pair_codes(unit, pair, codes[m]);
            exchange_words(codes[m][0], lane);
          } // m: 16-row tiles
          const unsigned char* x_stage =
              x_ring + ((stage % kStages * kWarpsK + warp_k) * kTerms * kTileX + warp_x + group) * 128;
#pragma unroll
          for (int b = 0; b < kPairBlocks; ++b) {
            unsigned a[kRowTiles][kBlockSteps][4];
            float factor[kRowTiles][2];
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
              for (int r = 0; r < 2; ++r) {
#pragma unroll
                for (int s = 0; s < kBlockSteps; ++s) {
                  code_pairs(codes[m][0][r][b * kBlockSteps + s], a[m][s][r], a[m][s][r + 2]);
                } // s: 16 columns
                factor[m][r] = own_factors[(pair * kPairBlocks + b) * (kTiles * 16) + m * 16 + 8 * r];
              } // r: rows
            } // m: 16-row tiles
            const unsigned char* x_lane = x_stage + x_place(group, 4 * b + 2 * (q % 2) + q / 2);
#pragma unroll
            for (int j = 0; j < kXTiles; ++j) {
              float sum[kRowTiles][4] = {};
#pragma unroll
              for (int t = 0; t < kTerms; ++t) {
                const XWords own = *(const XWords*)(x_lane + (t * kTileX + j * 8) * 128);
#pragma unroll
                for (int s = 0; s < kBlockSteps; ++s) {
                  const unsigned x_words[2] = {own.word[2 * s], own.word[2 * s + 1]};
#pragma unroll
                  for (int m = 0; m < kRowTiles; ++m) mma(sum[m], a[m][s], x_words);
                } // s: 16 columns
              } // t: terms of x
#pragma unroll
              for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
                for (int i = 0; i < 4; ++i) total[m][j][i] += factor[m][i / 2] * sum[m][i];
              } // m: 16-row tiles
            } // j: 8-row tiles of x
          } // b: blocks
        }
      } // pair: 64 columns
    } // v: units one after another

    // By way of shared memory, so that neighbours in a warp store neighbours in a row of y.
    constexpr int kRowPitch = kTiles * 16 + 4; // spreads rows of x over the banks
    float* const products = (float*)shared;
    copies_done<0>();
    __syncthreads(); // all stages have been read
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int j = 0; j < kXTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          products[(warp_k * kTileX + warp_x + j * 8 + 2 * q + i % 2) * kRowPitch + (warp_tile + m) * 16 + i / 2 * 8 + group] =
              total[m][j][i];
        } // i: two rows of w and of x
      } // j: 8-row tiles of x
    } // m: 16-row tiles
    __syncthreads();
    const int row_of_tile = threadIdx.x % (kTiles * 8);
    const long long row = first_tile * 16 + row_of_tile;
    if (row >= rows) continue;
#pragma unroll 4
    for (int j = threadIdx.x / (kTiles * 8); j < kTileX; j += kThreads / (kTiles * 8)) {
      float gate = products[j * kRowPitch + row_of_tile];
#pragma unroll
      for (int k = 1; k < kWarpsK; ++k) gate += products[(k * kTileX + j) * kRowPitch + row_of_tile];
      float up = products[j * kRowPitch + kTiles * 8 + row_of_tile];
#pragma unroll
      for (int k = 1; k < kWarpsK; ++k) up += products[(k * kTileX + j) * kRowPitch + kTiles * 8 + row_of_tile];
      if (j < tile_slots) store_element(y + (long long)list.slot[j] * rows + row, activate(gate) * up);
    } // j: rows of x
  }
  if (places.has_strays) store_strays(ids, slots, experts, y, rows);
}
