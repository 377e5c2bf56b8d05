// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/unit_matmul.cu.in.
//   kernel   moe_matmul_q4_K_x_f32_c512, emitter version 7
//   w        in   q4_K  [experts, rows, 512]  row-major, blocks of 256 elements in 144 bytes
//   ids      in   i32  [slots]  the expert of each slot
//   x        in   f32  [ceil(slots / slots_per_x), 512]  row-major
//   y        out  f32  [slots, rows]  row-major
//   math     y[s, r] = sum over c of decode(w)[ids[s], r, c] * f32(x[s / slots_per_x, c]), products and sums in f32; NaN where no expert has the id
//   arch     sm_75, no instruction decodes q4_K blocks: codes to f16x2 integers; mma m16n8k8 f16, x in 2 terms
//   tiles    128 rows of w, 64 of x, 2 stages; warps 4 x 2 x 1 along rows, x, columns; codes to f16x2 integers; mma m16n8k8 f16, x in 2 terms
//   launch   grid (ceil(rows / 128) * slots or less, 1, 1), block (256, 1, 1), 61952 bytes of dynamic shared memory
//
// y^T = w x^T: codes of w, as integers, are the operand of 16 rows, so that a decoded code serves all rows of x of a warp.
// w comes as units of 16 rows and 256 columns, made of native blocks here, x in stages of 64 columns. The sums of each block
// of 32 columns are multiplied by its scale when they join the totals.

constexpr int kCols = 512;                                   // columns of w, and of each row of x
constexpr int kRun = 8;                                      // columns of x that a thread moves at once
constexpr int kXBytes = 4;                                   // bytes of an element of x
constexpr int kUnits = 2;                                    // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 2304;                             // bytes of a unit
constexpr int kCodeVectors = 4;                              // 16-byte vectors of codes that a lane has of a unit
constexpr int kThreads = 256;                                // threads per CTA
constexpr int kTiles = 8;                                    // 16-row tiles of w of a CTA
constexpr int kTileX = 64;                                   // rows of x of a CTA
constexpr int kWarpsRows = 4;                                // warps side by side along the rows of w
constexpr int kWarpsX = 2;                                   // along the rows of x
constexpr int kWarpsK = 1;                                   // along the columns: each has every so manyth unit
constexpr int kUnitSteps = (kUnits + kWarpsK - 1) / kWarpsK; // units that a warp has at most
constexpr int kRowTiles = kTiles / kWarpsRows;               // 16-row tiles of a warp
constexpr int kXTiles = kTileX / kWarpsX / 8;                // 8-row tiles of x of a warp
constexpr int kTerms = 2;                                    // 16-bit numbers whose sum is a number of x
constexpr int kXRuns = kWarpsK * kTileX * 8 / kThreads;      // runs of x that a thread moves of a stage
constexpr int kStages = 2;                                   // stages of x: in use or on their way
constexpr int kUnitSlots = 1;                                // places for a unit: in use or on its way
constexpr int kBlocks = 8;                                   // blocks of a unit, whose columns share a scale
constexpr int kPairBlocks = kBlocks / 4;                     // in a stage
constexpr int kBlockSteps = 2;                               // mma along the columns of a block
constexpr int kTables = 2;                                   // of scales and of minima
constexpr int kXRowMask = 1;                                 // how 16-byte places of x are exchanged
constexpr int kXRowStep = 4;
constexpr int kUnitsAt = 32768;                              // bytes of shared memory before the units
constexpr int kFactorsAt = 51200;                            // before the scales of blocks
constexpr float kFactor = 1.0f;                              // by which all scales are too small
constexpr unsigned kPairOffset = 0xe400e400u;                // -1024, twice
constexpr int kSumsAt = 59392;                               // before the sums of x over blocks
constexpr unsigned kOnes = 0x3c003c00u;                      // 1, twice
constexpr int kXFactorsAt = 61440;                           // before the powers of x
constexpr long long kRowBytes = 288;                         // bytes of one row of w
constexpr int kCodeBytes = 2048;                             // of a unit are codes, then come the heads of 16 rows, then their tails
constexpr int kHeadBytes = 16;                               // bytes of a row's head
constexpr int kTailBytes = 0;                                // bytes of a row's tail
constexpr int kYRows = 128;                                  // rows of y, along the rows of w, of a CTA
constexpr int kExpertsAtOnce = 512;                          // whose slots are counted together
constexpr int kListThreads = kThreads;                       // threads that look for the CTA's tiles
// Bits by which codes of pair 0 to 3 lie further up in their bytes.
__device__ __forceinline__ constexpr int code_shift(int pair) {
  return pair == 0 ? 0 : pair == 1 ? 0 : pair == 2 ? 4 : 4;
}

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

// The codes of pairs 2 and 3 are 16 times as large.
__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
  const unsigned mask = pair < 2 ? 0x0f0f0f0fu : 0xf0f0f0f0u;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[2 * r + pair % 2].word[k] & mask;
  } // r: rows
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

__device__ __forceinline__ unsigned add_f16x2(unsigned a, unsigned b) {
  unsigned sum;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
  return sum;
}

// Four codes as f16 integers: 0x6400 | code reads as 1024 + code. kPairOffset takes off 1024 and what codes have added.
__device__ __forceinline__ void code_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = add_f16x2(permute_bytes(codes, 0x64646464u, 0x4140u), kPairOffset);
  high = add_f16x2(permute_bytes(codes, 0x64646464u, 0x4342u), kPairOffset);
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// A row's scales and minima: eight of 6 bits each (see ScaleMin of q4_K), under d and dmin.
struct RowScales {
  unsigned scale[2];
  unsigned minimum[2];
  float whole;
  float whole_minimum;

  __device__ __forceinline__ int of_block(int block) const {
    return (int)permute_bytes(scale[block / 4], 0u, 0x4440u | (unsigned)block % 4u);
  }
};

__device__ __forceinline__ RowScales row_scales(const Unit& unit, int r) {
  const Words4& head = unit.head[r];
  return {{head.word[1] & 0x3f3f3f3fu, (head.word[3] & 0x0f0f0f0fu) | (head.word[1] >> 2 & 0x30303030u)},
          {head.word[2] & 0x3f3f3f3fu, (head.word[3] >> 4 & 0x0f0f0f0fu) | (head.word[2] >> 2 & 0x30303030u)},
          f16_to_f32((unsigned short)head.word[0]),
          f16_to_f32((unsigned short)(head.word[0] >> 16))};
}

__device__ __forceinline__ float unit_minimum(const Unit&, const RowScales&, const unsigned char*) { return 0.0f; }

// Scales of a row of this lane's, as unit_product needs them.
struct OwnScales {
  const Unit& unit;
  RowScales scales;

  __device__ __forceinline__ float whole() const { return scales.whole; }
  __device__ __forceinline__ float of_block(int block) const { return (float)scales.of_block(block); }
  __device__ __forceinline__ float minimum(const unsigned char* sums) const { return unit_minimum(unit, scales, sums); }
};

__device__ __forceinline__ OwnScales own_scales(const Unit& unit, int r) { return {unit, row_scales(unit, r)}; }

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

// sum += a b for 16 rows, 8 rows of x and 16 columns, in two halves; f16, sums in f32.
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  } // half: of the 16 columns
}

// No copies past registers on this target: 16 bytes are there at once.
__device__ __forceinline__ void begin_copy(unsigned char* to, const unsigned char* from) {
  *(Words4*)to = *(const Words4*)from;
}

__device__ __forceinline__ void end_copies() {}

template <int kLeft>
__device__ __forceinline__ void copies_done() {}

// What is added to each number of a block.
__device__ __forceinline__ float block_minimum(const Unit&, const OwnScales& own, int block) {
  const unsigned minimum = permute_bytes(own.scales.minimum[block / 4], 0u, 0x4440u | (unsigned)block % 4u);
  return -own.scales.whole_minimum * (float)minimum;
}

// Left, or right if `bits` is negative.
__device__ __forceinline__ unsigned shifted(unsigned word, int bits) { return bits < 0 ? word >> -bits : word << bits; }

// Codes of a pair where pair_codes leaves them further up in their bytes, moved down.
__device__ __forceinline__ unsigned plain_codes(unsigned codes, int pair) { return shifted(codes, -code_shift(pair)); }

// Eight columns of a row.
template <int kBytes>
struct alignas(kBytes >= 2 ? 16 : 8) Run {
  unsigned word[2 * kBytes];
};

template <int kBytes>
__device__ __forceinline__ Run<kBytes> load_run(const unsigned char* row, int col) {
  return *(const Run<kBytes>*)(row + col * kBytes);
}

// What one thread feeds to mma of four columns: their codes, or two pairs of 16-bit numbers.
template <int kWords>
struct alignas(4 * kWords) Quad {
  unsigned word[kWords];
};

__device__ __forceinline__ void x_values(const Run<kXBytes>& run, float (&value)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = __uint_as_float(run.word[i]);
}

// The larger one; a NaN loses.
__device__ __forceinline__ float max_of(float a, float b) {
  float larger;
  asm("max.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// The power of two that brings the largest of a row's 64 columns, of which eight lanes hold eight each,
// to [2^14, 2^15): the numbers of f16 then have all their bits, however large x is. Its inverse times f16
// gives x again. Infinities stay what they are, NaNs don't count.
__device__ __forceinline__ float power_of_row(const float (&value)[kRun]) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kRun; ++i) largest = max_of(largest, value[i] < 0.0f ? -value[i] : value[i]);
#pragma unroll
  for (int distance = 4; distance > 0; distance /= 2) {
    largest = max_of(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  } // distance: lanes apart
  const int exponent = (int)(__float_as_uint(largest) >> 23) - 127;
  const int lifted = 14 - exponent;
  return __uint_as_float((unsigned)((lifted > 126 ? 126 : lifted) + 127) << 23);
}

// 1 / power, exact: a power of two of at least 2^-126 and at most 2^126.
__device__ __forceinline__ float inverse_power(float power) {
  return __uint_as_float(0x7f000000u - __float_as_uint(power));
}

// What a term leaves; nothing after an infinity, which would leave a NaN.
__device__ __forceinline__ float finite_rest(float value, float term) {
  return value == term ? 0.0f : value - term;
}

// To nearest even; overflow gives infinity.
__device__ __forceinline__ unsigned short f32_to_f16(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

// Four f32 as kTerms terms of f16: each is the nearest f16 to what the terms before it leave.
__device__ __forceinline__ void f16_parts(const float* value, float power, Quad<2> (&part)[kTerms]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float rest = value[i] * power;
#pragma unroll
    for (int p = 0; p < kTerms; ++p) {
      const unsigned short bits = f32_to_f16(rest);
      if (i % 2 == 0) {
        part[p].word[i / 2] = bits;
      } else {
        part[p].word[i / 2] |= (unsigned)bits << 16;
      }
      rest = finite_rest(rest, f16_to_f32(bits));
    } // p: terms
  } // i: elements
}

// Eight columns of x times a power of two of the row's 64, as terms of f16; gives the power's inverse.
__device__ __forceinline__ float run_terms(const Run<kXBytes>& run, Words4 (&term)[kTerms]) {
  float value[kRun];
  x_values(run, value);
  const float power = power_of_row(value);
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    Quad<2> part[kTerms];
    f16_parts(value + 4 * q, power, part);
#pragma unroll
    for (int t = 0; t < kTerms; ++t) {
      term[t].word[2 * q] = part[t].word[0];
      term[t].word[2 * q + 1] = part[t].word[1];
    } // t: terms
  } // q: quads of a run
  return inverse_power(power);
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

__device__ __forceinline__ unsigned char tail_byte(const unsigned char*, int, int) { return 0; }

__device__ __forceinline__ unsigned code_of(const unsigned char* row, int col) {
  const int e = col % 256;
  return row[col / 256 * 144 + 16 + e / 64 * 32 + e % 32] >> e / 32 % 2 * 4 & 15u;
}
__device__ __forceinline__ unsigned char head_byte(const unsigned char* row, int u, int i) { return row[u * 144 + i]; }

// Word k of a lane's 16-byte vector.
__device__ __forceinline__ unsigned* word_at(unsigned char* unit, int vector, int lane, int k) {
  return (unsigned*)(unit + 512 * vector + 16 * lane + 4 * k);
}

__device__ __forceinline__ void store_codes(unsigned char* unit, int lane, int half, int k, const unsigned (&codes)[4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) *word_at(unit, 2 * half + i, lane, k) = (codes[i] & 0x0f0f0f0fu) | (codes[i + 2] & 0x0f0f0f0fu) << 4;
}

// Column of a unit that is number i of the four in word k of lane q's, in a pair of mma.
__device__ __forceinline__ constexpr int column_of(int pair, int k, int q, int i) { return 64 * pair + 16 * q + 4 * k + i; }

// Writes what lane q of four has of a row of unit u; the first of them its head and tail, too. Zeros if it is no row.
template <typename Row>
__device__ __forceinline__ void prepare_quarter(const Row& from, bool is_row, int u, int row_of_unit, int q,
                                                unsigned char* unit) {
  const int half = row_of_unit / 8;
  const int lane = row_of_unit % 8 * 4 + q;
  for (int k = 0; k < 4; ++k) {
    unsigned codes[4] = {}; // of pairs 0 to 3, word k of four neighbours each
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int col = 256 * u + column_of(pair, k, q, i);
        if (is_row && col < kCols) codes[pair] |= code_of(from, col) << 8 * i;
      } // i: neighbours
    } // pair: of mma
    store_codes(unit, lane, half, k, codes);
  } // k: words
  if (q != 0) return;
  unsigned char* head = unit + kCodeBytes + row_of_unit * kHeadBytes;
  for (int i = 0; i < kHeadBytes; ++i) head[i] = is_row ? head_byte(from, u, i) : 0;
  unsigned char* tail = unit + kCodeBytes + 16 * kHeadBytes + row_of_unit * kTailBytes;
  for (int i = 0; i < kTailBytes; ++i) tail[i] = is_row ? tail_byte(from, u, i) : 0;
}

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

extern "C" __global__ void __launch_bounds__(kThreads, 1)
moe_matmul_q4_K_x_f32_c512(
    const unsigned char* __restrict__ w,
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
  float* const minima = factors + kWarpsK * (kBlocks * kTiles * 16);
  float* const x_sums = (float*)(shared + kSumsAt);
  float* const x_factors = (float*)(shared + kXFactorsAt);
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
    w += experts_on * (rows * kRowBytes);
    expert = tiles.expert;
    const long long first_tile = tiles.first_row / 16;
  
    // Begins to fill a stage with x: 64 columns of the units that the CTA then multiplies.
    Run<kXBytes> x_next[kXRuns];
    const auto load_x = [&](int stage) {
#pragma unroll
      for (int i = 0; i < kXRuns; ++i) {
        const int run = threadIdx.x + i * kThreads;
        const int row = run / 8 % kTileX;
        const int k = run / (8 * kTileX);
        const int col = (stage / 4 * kWarpsK + k) * 256 + stage % 4 * 64 + run % 8 * kRun;
        x_next[i] = load_run<kXBytes>(x + (long long)list.x_row[min_of(row, tile_slots - 1)] * kCols * kXBytes, col);
      } // i: runs of this thread
    };
    const auto store_x = [&](int stage) {
#pragma unroll
      for (int i = 0; i < kXRuns; ++i) {
        const int run = threadIdx.x + i * kThreads;
        const int row = run / 8 % kTileX;
        const int k = run / (8 * kTileX);
        Words4 term[kTerms];
        const float x_factor = run_terms(x_next[i], term);
        if (run % 8 == 0) x_factors[(stage % kStages * kWarpsK + k) * kTileX + row] = x_factor;
#pragma unroll
        for (int t = 0; t < kTerms; ++t) {
          *(Words4*)(x_ring + (((stage % kStages * kWarpsK + k) * kTerms + t) * kTileX + row) * 128 + x_place(row, run % 8)) = term[t];
        } // t: terms of x
      } // i: runs of this thread
    };

#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
      load_x(stage);
      store_x(stage);
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
        if (stage + kStages - 1 < 4 * kUnitSteps) load_x(stage + kStages - 1);
        end_copies();
        if (pair == 0) {
          for (int task = threadIdx.x; task < kWarpsK * kTiles * 64; task += kThreads) {
            const int row_of_unit = task / 4 % 16;
            const int u = v * kWarpsK + task / (64 * kTiles);
            const long long row = (first_tile + task / 64 % kTiles) * 16 + row_of_unit;
            if (u >= kUnits) continue;
            const auto from = w + row * kRowBytes;
            prepare_quarter(from, row < rows, u, row_of_unit, task % 4, units + task / 64 * kUnitBytes);
          } // task: quarters of a row
          __syncthreads();
          for (int task = threadIdx.x; task < kWarpsK * kTables * kTiles * 16; task += kThreads) {
            const int row = task % (kTiles * 16);
            const int k = task / (kTables * kTiles * 16);
            const unsigned char* at = units + ((v % kUnitSlots * kWarpsK + k) * kTiles + row / 16) * kUnitBytes;
            if (v * kWarpsK + k >= kUnits) continue;
            Unit unit = {};
            load_scales(at, row % 16, unit);
            const OwnScales scales = own_scales(unit, 0);
            float* own = (task / (kTiles * 16) % 2 == 0 ? factors : minima) + k * (kBlocks * kTiles * 16);
            if (task / (kTiles * 16) % 2 == 0) {
              #pragma unroll
              for (int block = 0; block < kBlocks; ++block) {
                own[block * (kTiles * 16) + row] = kFactor * scales.whole() * scales.of_block(block);
              } // block: of a unit
            } else {
              #pragma unroll
              for (int block = 0; block < kBlocks; ++block) {
                own[block * (kTiles * 16) + row] = block_minimum(unit, scales, block);
              } // block: of a unit
            }
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
                  code_pairs(plain_codes(codes[m][0][r][b * kBlockSteps + s], pair), a[m][s][r], a[m][s][r + 2]);
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
              const float* x_factor = x_factors + (stage % kStages * kWarpsK + warp_k) * kTileX + warp_x + j * 8 + 2 * q;
#pragma unroll
              for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
                for (int i = 0; i < 4; ++i) total[m][j][i] += factor[m][i / 2] * x_factor[i % 2] * sum[m][i];
              } // m: 16-row tiles
            } // j: 8-row tiles of x
#pragma unroll 1
            for (int j = warp % (kWarpsRows * kWarpsX); j < kTileX / 8; j += kWarpsRows * kWarpsX) {
              float sum[4] = {};
              const unsigned ones[4] = {kOnes, kOnes, kOnes, kOnes};
#pragma unroll
              for (int t = 0; t < kTerms; ++t) {
                const XWords own = *(const XWords*)(x_lane + (t * kTileX + j * 8 - warp_x) * 128);
#pragma unroll
                for (int s = 0; s < kBlockSteps; ++s) {
                  const unsigned x_words[2] = {own.word[2 * s], own.word[2 * s + 1]};
                  mma(sum, ones, x_words);
                } // s: 16 columns
              } // t: terms of x
              if (group == 0) { // all 16 rows of the product are the same
                float* own_sums = x_sums + (warp_k * kBlocks + pair * kPairBlocks + b) * kTileX + j * 8 + 2 * q;
                const float* x_scale = x_factors + (stage % kStages * kWarpsK + warp_k) * kTileX + j * 8 + 2 * q;
                own_sums[0] = x_scale[0] * sum[0];
                own_sums[1] = x_scale[1] * sum[1];
              }
            } // j: 8-row tiles of x
          } // b: blocks
        }
        if (stage + kStages - 1 < 4 * kUnitSteps) store_x(stage + kStages - 1);
      } // pair: 64 columns
      __syncthreads(); // the sums of x over the unit's blocks are there
      if (has_unit) {
#pragma unroll 1
        for (int block = 0; block < kBlocks; ++block) {
          const float* own_minima = minima + (warp_k * kBlocks + block) * (kTiles * 16) + warp_tile * 16 + group;
          const float* own_sums = x_sums + (warp_k * kBlocks + block) * kTileX + warp_x + 2 * q;
          float minimum[kRowTiles][2];
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) {
            minimum[m][0] = own_minima[m * 16];
            minimum[m][1] = own_minima[m * 16 + 8];
          } // m: 16-row tiles
#pragma unroll
          for (int j = 0; j < kXTiles; ++j) {
            const float sum[2] = {own_sums[j * 8], own_sums[j * 8 + 1]};
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
              for (int i = 0; i < 4; ++i) total[m][j][i] += minimum[m][i / 2] * sum[i % 2];
            } // m: 16-row tiles
          } // j: 8-row tiles of x
        } // block: of a unit
      }
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
    const int row_of_tile = threadIdx.x % (kTiles * 16);
    const long long row = first_tile * 16 + row_of_tile;
    if (row >= rows) continue;
#pragma unroll 4
    for (int j = threadIdx.x / (kTiles * 16); j < kTileX; j += kThreads / (kTiles * 16)) {
      float product = products[j * kRowPitch + row_of_tile];
#pragma unroll
      for (int k = 1; k < kWarpsK; ++k) product += products[(k * kTileX + j) * kRowPitch + row_of_tile];
      if (j < tile_slots) store_element(y + (long long)list.slot[j] * rows + row, product);
    } // j: rows of x
  }
  if (places.has_strays) store_strays(ids, slots, experts, y, rows);
}
