// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/warpgroup_matmul.cu.in.
//   kernel   matmul_q4_K_x_bf16_y_bf16_tc_prepared_c512, emitter version 7
//   w        in   q4_K  [rows, 512]  prepared
//   x        in   bf16  [n, 512]  row-major
//   y        out  bf16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32, then rounded once to bf16, to nearest even; each number of w rounded once to bf16
//   arch     sm_90a, no instruction decodes q4_K blocks: codes times scales, rounded to bf16; wgmma m64n256k16 bf16
//   tiles    128 rows of w, 256 of x, 5 stages of 64 columns, 2 places for 256 columns of w; 4 warps copy, 8 multiply
//   launch   grid (ceil(rows / 128) * ceil(n / 256) or less, 1, 1), block (384, 1, 1), 209008 bytes of dynamic shared memory
//
// y^T = w x^T. A warpgroup's wgmma takes 64 rows of w from registers and rows of x from shared memory. Four warps
// copy: x in stages of 64 columns, w in units of 256. The other warps multiply: each decodes 16 rows of w while the
// columns before are being multiplied. Of each 8 columns lane 4 g + q feeds columns 2 q and 2 q + 1 of rows g and g + 8 to
// wgmma: it reads those of units, which lie otherwise, wherever they are.

constexpr int kXRowBytes = 1024;    // bytes of a row of x
constexpr int kThreads = 384;       // threads per CTA
constexpr int kCopyThreads = 128;   // of which copy
constexpr int kCtas = 1;            // CTAs on a multiprocessor
constexpr int kTiles = 8;           // 16-row tiles of w of a CTA, each of one warp
constexpr int kTileX = 256;         // rows of x of a CTA
constexpr int kStages = 5;          // of 64 columns of x: in use or on their way
constexpr int kSteps = 8;           // stages of a tile
constexpr int kUnitStages = 4;      // stages of a unit
constexpr int kUnits = 2;           // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 2304;    // bytes of a unit in shared memory
constexpr int kUnitSlots = 2;       // places for units: in use or on their way
constexpr int kUnitsAt = 163840;    // bytes of shared memory before the units
constexpr int kBarriersAt = 208896; // before the barriers
constexpr int kFewRegisters = 40;   // of a thread that copies
constexpr int kManyRegisters = 232; // of one that multiplies
constexpr int kCodeVectors = 4;     // 16-byte vectors of codes that a lane has of a unit
constexpr int kBlocks = 8;          // blocks of a unit, whose columns share a scale
constexpr int kTablesAt = 200704;   // bytes of shared memory before the tables
constexpr float kFactor = 1.0f;     // by which all scales are too small
// Bits by which codes of pair 0 to 3 lie further up in their bytes.
__device__ __forceinline__ constexpr int code_shift(int pair) {
  return pair == 0 ? 0 : pair == 1 ? 0 : pair == 2 ? 4 : 4;
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

// An 8 x 8 matrix of 16-bit numbers, two of a row in each lane, the other way round.
__device__ __forceinline__ unsigned transposed(unsigned pair) {
  unsigned result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
}

// To nearest even.
__device__ __forceinline__ unsigned f32x2_to_bf16x2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// To nearest even.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_bf16(value); }

// Gives registers of this warpgroup to the others.
__device__ __forceinline__ void keep_few_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(kFewRegisters));
}

// Waits until the CTA has as many left.
__device__ __forceinline__ void keep_many_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(kManyRegisters));
}

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

// The codes of pairs 2 and 3 are 16 times as large.
__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
  const unsigned mask = pair < 2 ? 0x0f0f0f0fu : 0xf0f0f0f0u;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[2 * r + pair % 2].word[k] & mask;
  } // r: rows
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

struct alignas(8) Words2 {
  unsigned word[2];
};

// Of v = 1 + code / 128: a number of the block is v * word 0 + word 1.
__device__ __forceinline__ Words2 block_factor(float scale, float minimum) {
  return {{__float_as_uint(128.0f * scale), __float_as_uint(minimum - 128.0f * scale)}};
}

// Four codes below 128, each placed in the fraction of 1.0 as an f32, times scale plus minimum, rounded once to bf16.
__device__ __forceinline__ void round_codes(unsigned codes, const Words2& factor, unsigned& low, unsigned& high) {
  const unsigned placed = codes | 0x80808080u;
  float value[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float one_more = __uint_as_float(permute_bytes(placed, 0x3f000000u, 0x7044u + 0x100u * (unsigned)i));
    value[i] = one_more * __uint_as_float(factor.word[0]) + __uint_as_float(factor.word[1]);
  } // i: codes
  low = f32x2_to_bf16x2(value[0], value[1]);
  high = f32x2_to_bf16x2(value[2], value[3]);
}

// What is added to each number of a block.
__device__ __forceinline__ float block_minimum(const Unit&, const OwnScales& own, int block) {
  const unsigned minimum = permute_bytes(own.scales.minimum[block / 4], 0u, 0x4440u | (unsigned)block % 4u);
  return -own.scales.whole_minimum * (float)minimum;
}

// Left, or right if `bits` is negative.
__device__ __forceinline__ unsigned shifted(unsigned word, int bits) { return bits < 0 ? word >> -bits : word << bits; }

// Codes of a pair where pair_codes leaves them further up in their bytes, moved down.
__device__ __forceinline__ unsigned plain_codes(unsigned codes, int pair) { return shifted(codes, -code_shift(pair)); }

// For codes, or parts of them, in four bytes of a word.
__device__ __forceinline__ unsigned halves_of(int q) { return q % 2 == 0 ? 0x5410u : 0x7632u; }

// sum += a b for 64 rows of a, of which this warp has 16, 256 rows of b and 16 columns. The sums are there after
// products_done; until then no one changes what they read.
__device__ __forceinline__ void add_product(float (&sum)[128], const unsigned (&a)[4], unsigned long long b_matrix) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "{%128, %129, %130, %131}, %132, 1, 1, 1, 0;"
      :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15]),
        "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]),
        "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31]),
        "+f"(sum[32]), "+f"(sum[33]), "+f"(sum[34]), "+f"(sum[35]), "+f"(sum[36]), "+f"(sum[37]), "+f"(sum[38]), "+f"(sum[39]),
        "+f"(sum[40]), "+f"(sum[41]), "+f"(sum[42]), "+f"(sum[43]), "+f"(sum[44]), "+f"(sum[45]), "+f"(sum[46]), "+f"(sum[47]),
        "+f"(sum[48]), "+f"(sum[49]), "+f"(sum[50]), "+f"(sum[51]), "+f"(sum[52]), "+f"(sum[53]), "+f"(sum[54]), "+f"(sum[55]),
        "+f"(sum[56]), "+f"(sum[57]), "+f"(sum[58]), "+f"(sum[59]), "+f"(sum[60]), "+f"(sum[61]), "+f"(sum[62]), "+f"(sum[63]),
        "+f"(sum[64]), "+f"(sum[65]), "+f"(sum[66]), "+f"(sum[67]), "+f"(sum[68]), "+f"(sum[69]), "+f"(sum[70]), "+f"(sum[71]),
        "+f"(sum[72]), "+f"(sum[73]), "+f"(sum[74]), "+f"(sum[75]), "+f"(sum[76]), "+f"(sum[77]), "+f"(sum[78]), "+f"(sum[79]),
        "+f"(sum[80]), "+f"(sum[81]), "+f"(sum[82]), "+f"(sum[83]), "+f"(sum[84]), "+f"(sum[85]), "+f"(sum[86]), "+f"(sum[87]),
        "+f"(sum[88]), "+f"(sum[89]), "+f"(sum[90]), "+f"(sum[91]), "+f"(sum[92]), "+f"(sum[93]), "+f"(sum[94]), "+f"(sum[95]),
        "+f"(sum[96]), "+f"(sum[97]), "+f"(sum[98]), "+f"(sum[99]), "+f"(sum[100]), "+f"(sum[101]), "+f"(sum[102]), "+f"(sum[103]),
        "+f"(sum[104]), "+f"(sum[105]), "+f"(sum[106]), "+f"(sum[107]), "+f"(sum[108]), "+f"(sum[109]), "+f"(sum[110]), "+f"(sum[111]),
        "+f"(sum[112]), "+f"(sum[113]), "+f"(sum[114]), "+f"(sum[115]), "+f"(sum[116]), "+f"(sum[117]), "+f"(sum[118]), "+f"(sum[119]),
        "+f"(sum[120]), "+f"(sum[121]), "+f"(sum[122]), "+f"(sum[123]), "+f"(sum[124]), "+f"(sum[125]), "+f"(sum[126]), "+f"(sum[127])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix)
      : "memory");
}

// After products_done: no one reads the sums from before.
__device__ __forceinline__ void keep_sums(float (&sum)[128]) {
  asm volatile(""
               :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15]),
        "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]),
        "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31]),
        "+f"(sum[32]), "+f"(sum[33]), "+f"(sum[34]), "+f"(sum[35]), "+f"(sum[36]), "+f"(sum[37]), "+f"(sum[38]), "+f"(sum[39]),
        "+f"(sum[40]), "+f"(sum[41]), "+f"(sum[42]), "+f"(sum[43]), "+f"(sum[44]), "+f"(sum[45]), "+f"(sum[46]), "+f"(sum[47]),
        "+f"(sum[48]), "+f"(sum[49]), "+f"(sum[50]), "+f"(sum[51]), "+f"(sum[52]), "+f"(sum[53]), "+f"(sum[54]), "+f"(sum[55]),
        "+f"(sum[56]), "+f"(sum[57]), "+f"(sum[58]), "+f"(sum[59]), "+f"(sum[60]), "+f"(sum[61]), "+f"(sum[62]), "+f"(sum[63]),
        "+f"(sum[64]), "+f"(sum[65]), "+f"(sum[66]), "+f"(sum[67]), "+f"(sum[68]), "+f"(sum[69]), "+f"(sum[70]), "+f"(sum[71]),
        "+f"(sum[72]), "+f"(sum[73]), "+f"(sum[74]), "+f"(sum[75]), "+f"(sum[76]), "+f"(sum[77]), "+f"(sum[78]), "+f"(sum[79]),
        "+f"(sum[80]), "+f"(sum[81]), "+f"(sum[82]), "+f"(sum[83]), "+f"(sum[84]), "+f"(sum[85]), "+f"(sum[86]), "+f"(sum[87]),
        "+f"(sum[88]), "+f"(sum[89]), "+f"(sum[90]), "+f"(sum[91]), "+f"(sum[92]), "+f"(sum[93]), "+f"(sum[94]), "+f"(sum[95]),
        "+f"(sum[96]), "+f"(sum[97]), "+f"(sum[98]), "+f"(sum[99]), "+f"(sum[100]), "+f"(sum[101]), "+f"(sum[102]), "+f"(sum[103]),
        "+f"(sum[104]), "+f"(sum[105]), "+f"(sum[106]), "+f"(sum[107]), "+f"(sum[108]), "+f"(sum[109]), "+f"(sum[110]), "+f"(sum[111]),
        "+f"(sum[112]), "+f"(sum[113]), "+f"(sum[114]), "+f"(sum[115]), "+f"(sum[116]), "+f"(sum[117]), "+f"(sum[118]), "+f"(sum[119]),
        "+f"(sum[120]), "+f"(sum[121]), "+f"(sum[122]), "+f"(sum[123]), "+f"(sum[124]), "+f"(sum[125]), "+f"(sum[126]), "+f"(sum[127])
               : : "memory");
}

// Rows and rows of x past the last ones are left out.
__device__ __forceinline__ void store_tile(const float (&total)[kTileX / 2], unsigned short* y, long long first_row, long long first_x,
                                           long long rows, long long n, int group, int q) {
  if (rows % 2 == 0 && (unsigned long long)y % 4 == 0) { // two rows of y at once
#pragma unroll
    for (int j = 0; j < kTileX / 8; ++j) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const unsigned pair = transposed(f32x2_to_bf16x2(total[4 * j + 2 * r + 0], total[4 * j + 2 * r + 1]));
        const long long x_row = first_x + 8 * j + group;
        const long long row = first_row + 8 * r + 2 * q;
        if (x_row < n && row < rows) *(unsigned*)(y + x_row * rows + row) = pair;
      } // r: eight rows
    } // j: eight rows of x
    return;
  }
#pragma unroll
  for (int j = 0; j < kTileX / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const long long x_row = first_x + 8 * j + 2 * q + i % 2;
      const long long row = first_row + group + i / 2 * 8;
      if (x_row < n && row < rows) store_element(y + x_row * rows + row, total[4 * j + i]);
    } // i: two rows of w and of x
  } // j: eight rows of x
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtas)
matmul_q4_K_x_bf16_y_bf16_tc_prepared_c512(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ x,
    unsigned short* __restrict__ y,
    long long rows,
    long long n) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const unsigned x_ring = shared_address(shared);
  unsigned char* const unit_ring = shared + kUnitsAt;
  const unsigned x_filled = shared_address(shared + kBarriersAt);
  const unsigned x_emptied = x_filled + 8 * kStages;
  const unsigned unit_filled = x_emptied + 8 * kStages;
  const unsigned unit_emptied = unit_filled + 8 * kUnitSlots;
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
  }
  __syncthreads();

  const int lane = threadIdx.x % 32;
  const int x_tiles = (int)((n + kTileX - 1) / kTileX);
  const int all_tiles = (int)((rows + kTiles * 16 - 1) / (kTiles * 16)) * x_tiles; // a grid has no more
  int stage = 0;     // of this thread, counted through all tiles, as units are
  int unit_step = 0;
  if (threadIdx.x < kCopyThreads) {
    keep_few_registers();
    const int own_row = threadIdx.x / 8;
    const int own_place = threadIdx.x % 8; // of 16 bytes
    for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x) {
      const long long first_row = (long long)(tile / x_tiles) * (kTiles * 16);
      const long long first_x = (long long)(tile % x_tiles) * kTileX;
      const int last_x = (int)min_of(kTileX, n - first_x) - 1;
      const unsigned char* const own_x = x + first_x * kXRowBytes + 16 * own_place;
#pragma unroll 1
      for (int s = 0; s < kSteps; ++s, ++stage) {
        if (s % kUnitStages == 0) {
          const int slot = unit_step % kUnitSlots;
          wait_for_barrier(unit_emptied + 8 * slot, unit_step / kUnitSlots % 2 ^ 1);
          copy_unit_tile<kTiles>(unit_ring + slot * (kTiles * kUnitBytes), w, first_row, rows, s / kUnitStages);
          arrive_after_copies(unit_filled + 8 * slot);
          ++unit_step;
        }
        const int slot = stage % kStages;
        wait_for_barrier(x_emptied + 8 * slot, stage / kStages % 2 ^ 1);
        unsigned char* const to = shared + slot * (kTileX * 128) + 128 * own_row + 16 * (own_place ^ own_row % 8);
        if (last_x == kTileX - 1) {
          const unsigned char* const from = own_x + own_row * kXRowBytes + 128 * s;
#pragma unroll
          for (int i = 0; i < kTileX / 16; ++i) copy_16_bytes(to + 2048 * i, from + 16 * i * kXRowBytes);
        } else { // past the last row of x, that is read again
#pragma unroll 1
          for (int i = 0; i < kTileX / 16; ++i) {
            const int row = own_row + 16 * i < last_x ? own_row + 16 * i : last_x;
            copy_16_bytes(to + 2048 * i, own_x + row * kXRowBytes + 128 * s);
          } // i: rows of this thread
        }
        arrive_after_copies(x_filled + 8 * slot);
      } // s: stages
    } // tile: of y
    finish_copies();
    return;
  }

  keep_many_registers();
  const int tile_of_cta = threadIdx.x / 32 - kCopyThreads / 32; // 16 rows: this warp's
  const int group = lane / 4;
  const int q = lane % 4;
  Words2* const table = (Words2*)(shared + kTablesAt) + tile_of_cta * (kBlocks * 16);
  const Words2* const own_table = table + group;
  for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x) {
    const int row_tile = tile / x_tiles * kTiles + tile_of_cta;
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
            table[block * 16 + lane] = block_factor(scale, block_minimum(unit, scales, block));
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
            round_codes(plain_codes(codes[0][r][k], pair), factor, a[k][r], a[k][r + 2]);
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
    store_tile(total, y, (long long)row_tile * 16, (long long)(tile % x_tiles) * kTileX, rows, n, group, q);
  } // tile: of y
}
