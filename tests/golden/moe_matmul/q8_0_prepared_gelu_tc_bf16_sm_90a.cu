// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/warpgroup_matmul.cu.in.
//   kernel   moe_matmul_q8_0_x_bf16_bias_f32_gate_gelu_tanh_tc_prepared_c512, emitter version 7
//   w_gate    in   q8_0  [experts, rows, 512]  prepared
//   w_up      in   q8_0  [experts, rows, 512]  prepared
//   ids       in   i32  [slots]  the expert of each slot
//   x         in   bf16  [ceil(slots / slots_per_x), 512]  row-major
//   bias_gate in   f32  [experts, rows]
//   bias_up   in   f32  [experts, rows]
//   y         out  f32  [slots, rows]  row-major
//   math     y[s, r] = gelu_tanh(sum over c of decode(w_gate)[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_gate[ids[s], r]) * (sum over c of decode(w_up)[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_up[ids[s], r]), products and sums in f32; NaN where no expert has the id; each number of w rounded once to bf16
//   arch     sm_90a, no instruction decodes q8_0 blocks: codes times scales, rounded to bf16; wgmma m64n32k16 bf16
//   tiles    256 rows of w, 32 of x, 6 stages of 64 columns, 2 places for 256 columns of w; 4 warps copy, 16 multiply
//   launch   grid (ceil(rows / 128) * slots or less, 1, 1), block (640, 1, 1), 199528 bytes of dynamic shared memory
//
// y^T = w x^T. A warpgroup's wgmma takes 64 rows of w from registers and rows of x from shared memory. Four warps
// copy: x in stages of 64 columns, w in units of 256. The other warps multiply: each decodes 16 rows of w while the
// columns before are being multiplied. Of each 8 columns lane 4 g + q feeds columns 2 q and 2 q + 1 of rows g and g + 8 to
// wgmma: it reads those of units, which lie otherwise, wherever they are.

constexpr int kXRowBytes = 1024;           // bytes of a row of x
constexpr int kThreads = 640;              // threads per CTA
constexpr int kCopyThreads = 128;          // of which copy
constexpr int kCtas = 1;                   // CTAs on a multiprocessor
constexpr int kTiles = 16;                 // 16-row tiles of w of a CTA, each of one warp
constexpr int kTileX = 32;                 // rows of x of a CTA
constexpr int kStages = 6;                 // of 64 columns of x: in use or on their way
constexpr int kSteps = 8;                  // stages of a tile
constexpr int kUnitStages = 4;             // stages of a unit
constexpr int kUnits = 2;                  // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 4352;           // bytes of a unit in shared memory
constexpr int kUnitSlots = 2;              // places for units: in use or on their way
constexpr int kUnitsAt = 24576;            // bytes of shared memory before the units
constexpr int kBarriersAt = 199232;        // before the barriers
constexpr int kCodeVectors = 8;            // 16-byte vectors of codes that a lane has of a unit
constexpr int kBlocks = 8;                 // blocks of a unit, whose columns share a scale
constexpr int kTablesAt = 163840;          // bytes of shared memory before the tables
constexpr float kFactor = 1.0f;            // by which all scales are too small
constexpr int kYRows = 128;                // rows of y, along the rows of w, of a CTA
constexpr int kExpertsAtOnce = 512;        // whose slots are counted together
constexpr int kListThreads = kCopyThreads; // threads that look for the CTA's tiles
constexpr int kLists = 2;                  // lists of a tile's slots: in use or being made
constexpr int kPlacesAt = 180224;          // bytes of shared memory before the counts
constexpr int kListsAt = 182304;           // before the lists
constexpr int kUpSumsAt = 182848;          // before the sums of w_up

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

// Begins to copy unit u of kTiles tiles of 16 rows, each by 16 threads. Vectors of codes are exchanged, so that the same one
// of eight groups of lanes lie in different banks. Past the last tile, that is read again and its sums are not stored.
template <int kTiles>
__device__ __forceinline__ void copy_unit_tile(unsigned char* to, const unsigned char* w, long long first_row, long long rows,
                                               int u) {
  constexpr int kVectors = kUnitBytes / 16;
  const int tile = threadIdx.x / 16;
  const int own = threadIdx.x % 16;
  if (tile >= kTiles) return;
  const long long own_tile = min_of(first_row / 16 + tile, (rows - 1) / 16);
  const unsigned char* const from = w + (own_tile * kUnits + u) * kUnitBytes + 16 * own;
  unsigned char* const tile_to = to + tile * kUnitBytes;
#pragma unroll
  for (int i = 0; i < (kVectors + 15) / 16; ++i) {
    const int place = i < 2 * kCodeVectors ? own ^ (own / 8 + i % 2 * 2) : own;
    if (16 * i + 16 <= kVectors || 16 * i + own < kVectors) copy_16_bytes(tile_to + 256 * i + 16 * place, from + 256 * i);
  } // i: vectors of this thread
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

__device__ __forceinline__ float load_bias(const float* bias, long long row) { return bias[row]; }

struct alignas(16) Words4 {
  unsigned word[4];
};

using Head = Words4;

struct Tail {};
__device__ __forceinline__ Tail load_tail(const unsigned char*, int) { return {}; }

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// The 16 columns of step k: of which lane of four the words with the first and the last eight are, and which of its four
// words, or the next one, this lane takes. Of units whose blocks have 32 columns lane k has all 16.
__device__ __forceinline__ constexpr int first_lane(int k) { return k; }
__device__ __forceinline__ constexpr int last_lane(int k) { return k; }
__device__ __forceinline__ constexpr int first_word(int) { return 0; }
__device__ __forceinline__ constexpr int last_word(int) { return 2; }

// A unit in shared memory: its codes as this lane feeds them to wgmma, and the head and the tail of a row. Of eight columns
// this lane takes the lower or the upper half of one of two words.
struct LaneWords {
  const unsigned char* at; // of the lane's row in the first vector
  unsigned swizzle;        // of its 16-byte places
  unsigned half;           // selects halves for prmt
  int second;              // 1 in lanes 2 and 3 of four, which take the second of two words

  // A word of a lane of the four, of word vectors * 4.
  __device__ __forceinline__ unsigned raw(int lane, int word) const {
    return *(const unsigned*)(at + ((unsigned)(16 * lane) ^ swizzle) + word / 4 * 512 + word % 4 * 4);
  }
  // This lane's one of two.
  __device__ __forceinline__ unsigned own(int lane, int word) const {
    return *(const unsigned*)(at + ((unsigned)(16 * lane) ^ swizzle) + word / 4 * 512 + (word % 4 + second) * 4);
  }
  // Halves of two words, as bytes of columns.
  __device__ __forceinline__ unsigned halves(unsigned first, unsigned last) const { return permute_bytes(first, last, half); }
};

struct StepWords {
  const LaneWords& lane;
  int vector;

  __device__ __forceinline__ unsigned operator[](int k) const {
    return lane.halves(lane.own(first_lane(k), 4 * vector + first_word(k)), lane.own(last_lane(k), 4 * vector + last_word(k)));
  }
};

struct StepVector {
  StepWords word;
};

struct UnitCodes {
  LaneWords lane;

  __device__ __forceinline__ StepVector operator[](int i) const { return {{lane, i}}; }
};

struct Unit {
  UnitCodes codes;
  Head head[1];
  Tail tail[1];
};

__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[2 * pair + r].word[k];
  } // r: rows
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

struct alignas(8) Words2 {
  unsigned word[2];
};

// To nearest even.
__device__ __forceinline__ unsigned f32x2_to_bf16x2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// A block's scale as two bf16 whose sum it is to 2^-17, each twice.
__device__ __forceinline__ Words2 block_factor(float scale) {
  const unsigned upper = f32x2_to_bf16x2(scale, scale);
  const float rest = scale - __uint_as_float(upper << 16);
  const float lower = rest == rest ? rest : 0.0f; // nothing after an infinity, which would leave a NaN
  return {{upper, f32x2_to_bf16x2(lower, lower)}};
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

__device__ __forceinline__ void code_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = signed_pair(permute_bytes(codes, 0x43434343u, 0x4140u));
  high = signed_pair(permute_bytes(codes, 0x43434343u, 0x4342u));
}

// As a fused multiply-add of -0: sm_80 has no bf16 multiplication.
__device__ __forceinline__ unsigned mul_bf16x2(unsigned a, unsigned b) {
  unsigned product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
  return product;
}

__device__ __forceinline__ unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) {
  unsigned sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  return sum;
}

// Four codes times their block's scale: exact integers, the product rounded once to bf16, but for 2^-17 of it.
__device__ __forceinline__ void round_codes(unsigned codes, const Words2& factor, unsigned& low, unsigned& high) {
  code_pairs(codes, low, high);
  low = fma_bf16x2(low, factor.word[0], mul_bf16x2(low, factor.word[1]));
  high = fma_bf16x2(high, factor.word[0], mul_bf16x2(high, factor.word[1]));
}

// For codes, or parts of them, in four bytes of a word.
__device__ __forceinline__ unsigned halves_of(int q) { return q % 2 == 0 ? 0x5410u : 0x7632u; }

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

// sum += a b for 64 rows of a, of which this warp has 16, 32 rows of b and 16 columns. The sums are there after
// products_done; until then no one changes what they read.
__device__ __forceinline__ void add_product(float (&sum)[16], const unsigned (&a)[4], unsigned long long b_matrix) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "{%16, %17, %18, %19}, %20, 1, 1, 1, 0;"
      :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix)
      : "memory");
}

// After products_done: no one reads the sums from before.
__device__ __forceinline__ void keep_sums(float (&sum)[16]) {
  asm volatile(""
               :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15])
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
moe_matmul_q8_0_x_bf16_bias_f32_gate_gelu_tanh_tc_prepared_c512(
    const unsigned char* __restrict__ w_gate,
    const unsigned char* __restrict__ w_up,
    const int* __restrict__ ids,
    const unsigned char* __restrict__ x,
    const float* __restrict__ bias_gate,
    const float* __restrict__ bias_up,
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
  const unsigned up_filled = looked + 8;
  const unsigned up_emptied = up_filled + 8 * (kTiles / 2);
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
#pragma unroll
    for (int i = 0; i < kTiles / 2; ++i) {
      init_barrier(up_filled + 8 * i, 32);
      init_barrier(up_emptied + 8 * i, 32);
    } // i: warps of w_up
  }
  __syncthreads();

  const int lane = threadIdx.x % 32;
  ExpertPlaces& places = *(ExpertPlaces*)(shared + kPlacesAt);
  TileList* const lists = (TileList*)(shared + kListsAt);
  float* const up_sums = (float*)(shared + kUpSumsAt);
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
      w_gate += experts_on * ((rows + 15) / 16 * kUnits * kUnitBytes);
      w_up += experts_on * ((rows + 15) / 16 * kUnits * kUnitBytes);
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
          copy_unit_tile<kTiles / 2>(units, w_gate, first_row, rows, s / kUnitStages);
          copy_unit_tile<kTiles / 2>(units + kTiles / 2 * kUnitBytes, w_up, first_row, rows, s / kUnitStages);
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
  Words2* const table = (Words2*)(shared + kTablesAt) + tile_of_cta * (kBlocks * 16);
  const Words2* const own_table = table + group;
  long long expert = 0; // whose scales or bias the pointers are at
  for (int list_step = 0;; ++list_step) {
    const int list_place = list_step % kLists;
    const TileList& list = lists[list_place];
    wait_for_barrier(list_filled + 8 * list_place, list_step / kLists % 2);
    const int tile_slots = list.slots;
    if (tile_slots == 0) break;
    const long long experts_on = list.expert - expert; // from the last tile's
    bias_gate += experts_on * rows;
    bias_up += experts_on * rows;
    expert = list.expert;
    const int row_tile = (int)(list.first_row / 16) + tile_of_cta % (kTiles / 2);
    float total[kTileX / 2];
#pragma unroll
    for (int i = 0; i < kTileX / 2; ++i) total[i] = 0.0f;
#pragma unroll 1
    for (int u = 0; u < kUnits; ++u, ++unit_step) {
      const int slot = unit_step % kUnitSlots;
      wait_for_barrier(unit_filled + 8 * slot, unit_step / kUnitSlots % 2);
      const unsigned char* const own_unit = unit_ring + (slot * kTiles + tile_of_cta) * kUnitBytes;
      {
        Unit unit = {};
        load_scales(own_unit, lane % 16, unit);
        const OwnScales scales = own_scales(unit, 0);
        __syncwarp(); // the table of the unit before has been read
        if (lane < 16) {
#pragma unroll
          for (int block = 0; block < kBlocks; ++block) {
            const float scale = kFactor * scales.whole() * scales.of_block(block);
            table[block * 16 + lane] = block_factor(scale);
          } // block: of a unit
        }
        __syncwarp();
      }
      Unit unit = {};
      unit.codes.lane = {own_unit + 64 * group, 16u * (unsigned)(group / 2), halves_of(q), q / 2};

#pragma unroll
      for (int pair = 0; pair < kUnitStages; ++pair) {
        if (kSteps % kUnitStages != 0 && kUnitStages * u + pair >= kSteps) break;
        unsigned a[4][4];
        unsigned codes[1][2][4];
        pair_codes(unit, pair, codes);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            const Words2 factor = own_table[(kBlocks / 4 * pair + k * kBlocks / 16) * 16 + 8 * r];
            round_codes(codes[0][r][k], factor, a[k][r], a[k][r + 2]);
          } // k: steps of 16 columns
        } // r: rows
        if (pair == kUnitStages - 1 || (kSteps % kUnitStages != 0 && kUnitStages * u + pair == kSteps - 1)) {
          __syncwarp(); // all lanes have read the unit
          if (lane == 0) arrive_at_barrier(unit_emptied + 8 * slot);
        }
        wait_for_barrier(x_filled + 8 * (stage % kStages), stage / kStages % 2);
        see_copies();
        const unsigned long long x_matrix = x_descriptor(x_ring + stage % kStages * (kTileX * 128));
        begin_products();
#pragma unroll
        for (int k = 0; k < 4; ++k) add_product(total, a[k], x_matrix + 2 * k);
        end_products();
        products_done<1>();
        if (kUnitStages * u + pair > 0) {
          __syncwarp(); // the warp's products of the stage before are there
          if (lane == 0) arrive_at_barrier(x_emptied + 8 * ((stage + kStages - 1) % kStages));
        }
        ++stage;
      } // pair: a stage's columns
    } // u: units
    products_done<0>();
    keep_sums(total);
    __syncwarp();
    if (lane == 0) arrive_at_barrier(x_emptied + 8 * ((stage + kStages - 1) % kStages));
    float* const own_up = up_sums + tile_of_cta % (kTiles / 2) * (kTileX * 16) + lane;
    const unsigned own_barrier = 8u * (unsigned)(tile_of_cta % (kTiles / 2));
    if (tile_of_cta >= kTiles / 2) {
      wait_for_barrier(up_emptied + own_barrier, list_step % 2 ^ 1);
#pragma unroll
      for (int i = 0; i < kTileX / 2; ++i) own_up[32 * i] = total[i];
      arrive_at_barrier(up_filled + own_barrier);
    } else {
      wait_for_barrier(up_filled + own_barrier, list_step % 2);
#pragma unroll
      for (int i = 0; i < kTileX / 2; ++i) {
        const long long row = min_of((long long)row_tile * 16 + group + i / 2 % 2 * 8, rows - 1);
        const float gate = total[i];
        const float up = own_up[32 * i];
        total[i] = activate(gate + load_bias(bias_gate, row)) * (up + load_bias(bias_up, row));
      } // i: sums
      arrive_at_barrier(up_emptied + own_barrier);
      store_tile(total, y, (long long)row_tile * 16, list.rows.slot, rows, tile_slots, group, q);
    }
    __syncwarp(); // all lanes have read the list
    if (lane == 0) arrive_at_barrier(list_emptied + 8 * list_place);
  } // tile: of y
}
