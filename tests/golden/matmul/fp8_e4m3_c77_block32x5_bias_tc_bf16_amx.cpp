// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matmul.cpp.in.
//   kernel   matmul_fp8_e4m3_s32x5_f32_x_bf16_y_bf16_bias_f16_tc_c77, emitter version 7
//   w        in   fp8_e4m3  [rows, 77]  row-major
//   scale    in   f32  [ceil(rows / 32), 16]  row-major, one per 32 x 5 block of w
//   x        in   bf16  [n, 77]  row-major
//   bias     in   f16  [rows]
//   y        out  bf16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]) + bias[r], products and sums in f32, then rounded once to bf16, to nearest even
//   panels   tiles of AMX: w as bf16, rounded, x as bf16, sums in f32
//   cpu      cpu:amx (amx-bf16 amx-tile avx avx2 avx512bf16 avx512bw avx512cd avx512dq avx512f avx512vl bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   matmul_fp8_e4m3_s32x5_f32_x_bf16_y_bf16_bias_f16_tc_c77_begin for ranges of groups of 16 rows of x, then ranges of 32 rows of w, each in parallel

constexpr int kCols = 77;                              // columns of w, and of each row of x
constexpr int kRowBytes = 77;                          // bytes of one row of w
constexpr int kRun = 16;                               // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 32;                    // rows that share one scale
constexpr int kScaleBlockCols = 5;                     // columns that share one scale
constexpr int kScaleCols = 16;                         // scales in one row of scales
constexpr int kMainCols = kCols / kRun * kRun;         // columns in whole runs
constexpr int kTail = kCols - kMainCols;               // columns after them
constexpr int kElemBytes = 1;                          // bytes of one element of w
constexpr int kChunk = 512;                            // columns decoded at a time
constexpr int kChunks = (kCols + kChunk - 1) / kChunk; // of a row
constexpr int kTileRows = 32;                          // rows of w of a launch's tile
constexpr int kBlockRows = 256;                        // rows of w decoded together
constexpr int kFewGroups = 4;                          // of x, for which fewer are
constexpr int kFewRows = 32;                           // then
constexpr int kRowsTogether = 32;                      // rows of w whose sums are in registers
constexpr int kGroupsTogether = 2;                     // groups of 16 rows of x, likewise
constexpr int kBlockGroups = 32;                       // groups of x whose sums a thread keeps
constexpr int kStep = 32;                              // columns of a tile
constexpr int kChunkSteps = kChunk / kStep;            // tiles of a chunk
constexpr int kAllSteps = (kCols + kStep - 1) / kStep; // tiles of a row
constexpr int kWTerms = 1;                             // of bf16, that add up to a weight
constexpr int kXTerms = 1;                             // of bf16, that add up to an x
constexpr int kRowsAhead = 8;                          // that are asked for while a row is decoded
constexpr int kChunkBytes = 77;                        // of a row of w

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

typedef _Float16 F16Run __attribute__((vector_size(2 * kRun)));
static inline F32Run f16_run_to_f32(U16Run bits) {
  return __builtin_convertvector(__builtin_bit_cast(F16Run, bits), F32Run);
}

// 2^-8 of e4m3's values but NaN, exact: the 7 magnitude bits, moved to bit 7, as f16, subnormals too. An Intel CPU takes a
// hundred times as long for a product with subnormal f32 as for these conversions.
static inline F32Run e4m3_halves(U8Run codes) {
  const U16Run at_top = __builtin_convertvector(codes, U16Run) << 8;
  return f16_run_to_f32((at_top & (unsigned short)0x8000) | (at_top >> 1 & (unsigned short)0x3f80));
}

// Exact e4m3 (OCP OFP8 1.0). 0x7f is the only NaN.
static inline F32Run e4m3_run_to_f32(U8Run codes) {
  const U32Run nan = (U32Run)((__builtin_convertvector(codes, U32Run) & 0x7fu) == 0x7fu) & 0x7fc00000u;
  return (F32Run)((U32Run)(e4m3_halves(codes) * 256.0f) | nan);
}

static inline F32Run decode_run(const unsigned char* row, long long col) {
  return e4m3_run_to_f32(load<U8Run>(row + col));
}

static inline float load_scale(const float* scale, long long at) { return scale[at]; }

static inline F32Run multiply_add(F32Run a, F32Run b, F32Run c) { return __builtin_elementwise_fma(a, b, c); }

static inline float sum_of(F32Run value) {
  float part[kRun];
  __builtin_memcpy(part, &value, sizeof(part));
#pragma unroll
  for (int width = kRun / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  } // width: sums left
  return part[0];
}

static inline F32Run bf16_run_to_f32(U16Run bits) { return (F32Run)(__builtin_convertvector(bits, U32Run) << 16); }

static inline F32Run load_x(const unsigned short* at) { return bf16_run_to_f32(load<U16Run>(at)); }

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// To nearest even; a NaN stays one.
static inline U16Run f32_run_to_bf16(F32Run value) {
  const U32Run bits = (U32Run)value;
  const U32Run rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U32Run chosen = ((bits & 0x7fffffffu) > 0x7f800000u) ? (bits | 0x00400000u) : rounded;
  return __builtin_convertvector(chosen >> 16, U16Run);
}

static inline unsigned short f32_to_bf16(float value) { return f32_run_to_bf16((F32Run){value})[0]; }

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

template <int kWidth>
static inline void exchange(F32Run& a, F32Run& b) {
  struct At {
    static constexpr int low(int i) { return i & kWidth ? kRun + i - kWidth : i; }
    static constexpr int high(int i) { return i & kWidth ? kRun + i : i + kWidth; }
  };
  const F32Run lower = __builtin_shufflevector(a, b, At::low(0), At::low(1), At::low(2), At::low(3), At::low(4), At::low(5),
                                               At::low(6), At::low(7), At::low(8), At::low(9), At::low(10), At::low(11),
                                               At::low(12), At::low(13), At::low(14), At::low(15));
  b = __builtin_shufflevector(a, b, At::high(0), At::high(1), At::high(2), At::high(3), At::high(4), At::high(5),
                              At::high(6), At::high(7), At::high(8), At::high(9), At::high(10), At::high(11),
                              At::high(12), At::high(13), At::high(14), At::high(15));
  a = lower;
}

template <int kWidth>
static inline void exchange_all(F32Run* v) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    if (!(i & kWidth)) exchange<kWidth>(v[i], v[i + kWidth]);
  } // i: vectors
}

// Lane i of vector j to lane j of vector i.
static inline void transpose(F32Run* v) {
  exchange_all<8>(v);
  exchange_all<4>(v);
  exchange_all<2>(v);
  exchange_all<1>(v);
}

typedef unsigned short U16Pairs __attribute__((vector_size(4 * kRun)));

// 32 columns as terms of bf16, which add up to them; the CPU's conversion takes subnormals for 0.
static inline void split(F32Run first, F32Run second, int terms, U32Run* out) {
  for (int t = 0; t < terms; ++t) {
    const U16Pairs both = (U16Pairs)__builtin_ia32_cvtne2ps2bf16_512(second, first);
    out[t] = (U32Run)both;
    if (t + 1 == terms) break;
    const U16Run low = __builtin_shufflevector(both, both, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const U16Run high = __builtin_shufflevector(both, both, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    first -= (F32Run)(__builtin_convertvector(low, U32Run) << 16);
    second -= (F32Run)(__builtin_convertvector(high, U32Run) << 16);
  } // t: terms
}

static inline void split_weights(F32Run first, F32Run second, int terms, U32Run* out) { split(first, second, terms, out); }

struct Arguments {
  const unsigned char* w;
  const float* scale;
  const unsigned short* x;
  const unsigned short* bias;
  unsigned short* y;
  long long rows;
  long long n;
  unsigned char* packed; // groups of x: scratch of the launch, which the device adds to the caller's arguments
  unsigned char* own;    // Own: memory of this thread, as well
};

static inline int at_most(int limit, long long value) { return value < limit ? (int)value : limit; }

// Columns begin to end of a row of w, as f32; zeros fill the last run.
static inline void decode_row(const Arguments* arguments, long long row, int begin, int end, float* out) {
  const unsigned char* w_row = arguments->w + row * kRowBytes;
  const float* scale_row = arguments->scale + (row / kScaleBlockRows) * kScaleCols;
#pragma unroll 2
  for (int at = begin; at + kRun <= end; at += kRun) {
    F32Run weight = decode_run(w_row, at);
    for (int i = 0; i < kRun; ++i) weight[i] *= load_scale(scale_row, (at + i) / kScaleBlockCols);
    store(out + (at - begin), weight);
  } // at: runs of this row
  if (end == kCols) {
    unsigned char w_tail[kRun * kElemBytes] = {};
    __builtin_memcpy(w_tail, w_row + kMainCols * kElemBytes, kTail * kElemBytes);
    {
      F32Run weight = decode_run(w_tail, 0);
      for (int i = 0; i < kTail; ++i) weight[i] *= load_scale(scale_row, (kMainCols + i) / kScaleBlockCols);
      store(out + (kMainCols - begin), weight);
    }
  }
}

// Columns begin to end of row j of x, as f32; zeros fill the last run.
static inline void widen_row(const Arguments* arguments, long long j, int begin, int end, float* out) {
  const unsigned short* x_row = arguments->x + j * kCols;
  for (int at = begin; at + kRun <= end; at += kRun) store(out + (at - begin), load_x(x_row + at));
  if (end == kCols) {
    unsigned short x_tail[kRun] = {};
    __builtin_memcpy(x_tail, x_row + kMainCols, kTail * sizeof(x_tail[0]));
    store(out + (kMainCols - begin), load_x(x_tail));
  }
}

// 16 rows of x times factor's inverse, as terms of bf16: for 32 columns a tile of pairs of columns, each of 16 rows.
struct XGroup {
  float factor[kRun]; // NaN where x has no place in bf16's range
  unsigned tile[kAllSteps][kXTerms][kRun][kRun];
};

static inline float power_of_two(int exponent) { return __builtin_bit_cast(float, (unsigned)(exponent + 127) << 23); }

// Tiles take subnormals for 0: x is moved to where its largest is 2^60, and its smallest far from them.
static inline void pack_x(const Arguments* arguments, long long j, int present, XGroup* group) {
  alignas(64) float rows[kRun][kChunk];
  float scale[kRun];
  for (int i = 0; i < present; ++i) {
    U32Run most = {}, least = (U32Run){} + 0x7fffffffu;
    for (int first = 0; first < kCols; first += kChunk) {
      const int columns = at_most(kChunk, kCols - first);
      widen_row(arguments, j + i, first, first + columns, rows[0]);
      for (int at = 0; at < columns; at += kRun) {
        const U32Run magnitude = load<U32Run>(rows[0] + at) & 0x7fffffffu;
        const U32Run present_magnitude = magnitude == 0 ? (U32Run){} + 0x7fffffffu : magnitude;
        most = magnitude > most ? magnitude : most;
        least = present_magnitude < least ? present_magnitude : least;
      } // at: columns of this chunk
    } // first: chunks of columns
    const int largest = (int)(__builtin_reduce_max(most) >> 23), smallest = (int)(__builtin_reduce_min(least) >> 23);
    const int shift = at_most(127, 60 + 127 - largest);
    const bool fits = largest < 255 && (largest == 0 || largest - smallest < 120);
    scale[i] = power_of_two(fits ? shift : 0);
    group->factor[i] = fits ? (shift == 127 ? 0x1p-127f : power_of_two(-shift)) : __builtin_nanf("");
  } // i: rows of x
  for (int i = present; i < kRun; ++i) group->factor[i] = 0.0f;
  for (int first = 0; first < kCols; first += kChunk) {
    const int columns = at_most(kChunk, kCols - first);
    for (int i = 0; i < present; ++i) {
      widen_row(arguments, j + i, first, first + columns, rows[i]);
      for (int at = (columns + kRun - 1) / kRun * kRun; at < kChunk && at % kStep != 0; at += kRun) store(rows[i] + at, (F32Run){});
    } // i: rows of x
    for (int at = 0; at < columns; at += kStep) {
      F32Run pairs[kXTerms][kRun];
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        U32Run terms[kXTerms] = {};
        if (i < present) split(load<F32Run>(rows[i] + at) * scale[i], load<F32Run>(rows[i] + at + kRun) * scale[i], kXTerms, terms);
        for (int t = 0; t < kXTerms; ++t) pairs[t][i] = (F32Run)terms[t];
      } // i: rows of x
      for (int t = 0; t < kXTerms; ++t) {
        transpose(pairs[t]);
#pragma unroll
        for (int c = 0; c < kRun; ++c) store(group->tile[(first + at) / kStep][t][c], pairs[t][c]);
      } // t: terms
    } // at: steps of this chunk
  } // first: chunks of columns
}

// Decoded rows of w: for 32 columns each term of bf16 after the other. 64 bytes more, so that rows lie in several sets of the
// cache.
struct Panel {
  unsigned row[kBlockRows][(kChunkSteps * kWTerms + 1) * kRun];
  float decoded[kChunk]; // the row that is being split
};

static inline void pack_w(const Arguments* arguments, long long row, int r, int block_rows, int chunk, Panel* panel) {
  const int first = chunk * kChunk;
  const int columns = at_most(kChunk, kCols - first);
  const int beyond = r + kRowsAhead - block_rows; // 0 and more: rows of the next chunk
  if (beyond < block_rows) {
    const long long ahead_row = row + (beyond < 0 ? r + kRowsAhead : beyond);
    const long long ahead_first = beyond < 0 ? first : first + kChunk;
    const unsigned char* ahead = arguments->w + ahead_row * kRowBytes + ahead_first * kRowBytes / kCols;
    for (int line = 0; line < kChunkBytes; line += 64) __builtin_prefetch(ahead + line, 0, 3);
  }
  decode_row(arguments, row + r, first, first + columns, panel->decoded);
  if (columns % kStep != 0 && columns % kStep <= kRun) store(panel->decoded + columns / kStep * kStep + kRun, (F32Run){});
  unsigned* out = panel->row[r];
#pragma unroll 2
  for (int at = 0; at < columns; at += kStep, out += kWTerms * kRun) {
    U32Run terms[kWTerms];
    split_weights(load<F32Run>(panel->decoded + at), load<F32Run>(panel->decoded + at + kRun), kWTerms, terms);
#pragma unroll
    for (int t = 0; t < kWTerms; ++t) store(out + t * kRun, terms[t]);
  } // at: steps of this chunk
}

// Tiles 0 to 3: sums of two times 16 rows of w and two groups of x; 4 and 5: w; 6 and 7: x.
struct TileConfig {
  unsigned char palette, start_row, reserved[14];
  unsigned short row_bytes[16];
  unsigned char rows[16];
};

// Adds the chunk's products of 32 rows of the panel and two groups; `stride`: f32 from the sums of 16 rows to those of the next.
static inline void multiply(const Panel& panel, int r, const XGroup* x, int chunk, float* sums, long long stride) {
  constexpr int kTile = kRun * kRun;
  if (chunk == 0) {
    __builtin_ia32_tilezero(0);
    __builtin_ia32_tilezero(1);
    __builtin_ia32_tilezero(2);
    __builtin_ia32_tilezero(3);
  } else {
    __builtin_ia32_tileloadd64(0, sums, 64);
    __builtin_ia32_tileloadd64(1, sums + kTile, 64);
    __builtin_ia32_tileloadd64(2, sums + stride, 64);
    __builtin_ia32_tileloadd64(3, sums + stride + kTile, 64);
  }
  const int steps = at_most(kChunkSteps, kAllSteps - chunk * kChunkSteps);
  // The next two groups, an equal part with each 32 rows: x is larger than the cache.
  constexpr int kAheadBytes = (int)sizeof(x->tile[0]) * 2 * 2 * kRun / kBlockRows;
  constexpr int kHalf = kBlockRows / (2 * kRun) / 2;
  const int part = r / (2 * kRun); // few groups, of small blocks, are in the cache
  const unsigned char* ahead = (const unsigned char*)x[2 + part / kHalf].tile[chunk * kChunkSteps] + part % kHalf * steps * kAheadBytes;
#pragma unroll 1
  for (int s = 0; s < steps; ++s) {
    const unsigned* w0 = panel.row[r] + s * kWTerms * kRun;
    const unsigned* w1 = panel.row[r + kRun] + s * kWTerms * kRun;
    const auto* x0 = x[0].tile[chunk * kChunkSteps + s];
    const auto* x1 = x[1].tile[chunk * kChunkSteps + s];
    for (int line = 0; line < kAheadBytes; line += 64) __builtin_prefetch(ahead + s * kAheadBytes + line, 0, 2);
    __builtin_ia32_tileloadd64(4, w0 + 0 * kRun, sizeof(panel.row[0]));
    __builtin_ia32_tileloadd64(6, x0[0], 64);
    __builtin_ia32_tdpbf16ps(0, 4, 6);
    __builtin_ia32_tileloadd64(5, w1 + 0 * kRun, sizeof(panel.row[0]));
    __builtin_ia32_tdpbf16ps(2, 5, 6);
    __builtin_ia32_tileloadd64(7, x1[0], 64);
    __builtin_ia32_tdpbf16ps(1, 4, 7);
    __builtin_ia32_tdpbf16ps(3, 5, 7);
  } // s: steps of this chunk
  __builtin_ia32_tilestored64(0, sums, 64);
  __builtin_ia32_tilestored64(1, sums + kTile, 64);
  __builtin_ia32_tilestored64(2, sums + stride, 64);
  __builtin_ia32_tilestored64(3, sums + stride + kTile, 64);
}

// Row `row` of w times row j of x in f32, for what tiles can't: infinities, NaNs, and numbers beside which subnormals count.
static __attribute__((noinline)) float multiply_exactly(const Arguments* arguments, long long row, long long j) {
  alignas(64) float w[kChunk], x[kChunk];
  F32Run sum = {};
  for (int first = 0; first < kCols; first += kChunk) {
    const int columns = at_most(kChunk, kCols - first);
    decode_row(arguments, row, first, first + columns, w);
    widen_row(arguments, j, first, first + columns, x);
    for (int at = 0; at < columns; at += kRun) sum = multiply_add(load<F32Run>(w + at), load<F32Run>(x + at), sum);
  } // first: chunks of columns
  return sum_of(sum);
}

// Sums of 16 rows of w and one of x: brought back to the size of x, and those that tiles got wrong made again.
static inline void finish(const Arguments* arguments, long long row, int block_rows, long long j, float factor, float* total) {
  const F32Run sum = load<F32Run>(total);
  const F32Run scaled = sum * factor;
  store(total, scaled);
  const U32Run magnitude = (U32Run)sum & 0x7fffffffu;
  constexpr unsigned kSmallest = 0x30800000u; // 2^-30, where the largest x is 2^60
  const S32Run is_wrong = (S32Run)(((U32Run)scaled & 0x7fffffffu) >= 0x7f800000u) | (S32Run)(magnitude - 1 < kSmallest - 1);
  if (__builtin_reduce_or(is_wrong) == 0) return;
  for (int r = 0; r < block_rows; ++r) {
    if (is_wrong[r]) total[r] = multiply_exactly(arguments, row + r, j);
  } // r: rows of w
}

// 16 rows of w times 16 rows of x.
struct Sums {
  float of_row[kRun][kRun];
};

// What a thread works with: weights that are decoded, and the sums of all groups of x.
struct Own {
  Panel panel;
  Sums sums[kBlockRows / kRun][kBlockGroups];
};

static inline long long groups_of(const Arguments* arguments) {
  const long long together = kRun * kGroupsTogether;
  return (arguments->n + together - 1) / together * kGroupsTogether;
}

extern "C" __attribute__((visibility("default"))) long long
matmul_fp8_e4m3_s32x5_f32_x_bf16_y_bf16_bias_f16_tc_c77_scratch_bytes(const Arguments* arguments) { return groups_of(arguments) * (long long)sizeof(XGroup); }

extern "C" __attribute__((visibility("default"))) long long
matmul_fp8_e4m3_s32x5_f32_x_bf16_y_bf16_bias_f16_tc_c77_thread_bytes(const Arguments*) { return sizeof(Own); }

extern "C" __attribute__((visibility("default"))) long long
matmul_fp8_e4m3_s32x5_f32_x_bf16_y_bf16_bias_f16_tc_c77_begin_tiles(const Arguments* arguments) { return groups_of(arguments); }

extern "C" __attribute__((visibility("default"))) void
matmul_fp8_e4m3_s32x5_f32_x_bf16_y_bf16_bias_f16_tc_c77_begin(const Arguments* arguments, long long group_begin, long long group_end) {
  for (long long group = group_begin; group < group_end; ++group) {
    const int present = at_most(kRun, arguments->n - group * kRun);
    pack_x(arguments, group * kRun, present < 0 ? 0 : present, (XGroup*)arguments->packed + group);
  } // group: 16 rows of x
}

// The sums of a group of x, which begin with rows of w and of x, as y.
static inline void write_y(const Arguments* arguments, long long row, int block_rows, long long j,
                           [[maybe_unused]] const XGroup* x, const Sums& sums) {
  const long long rows = arguments->rows;
  F32Run of_x[kRun];
#pragma unroll
  for (int r = 0; r < kRun; ++r) of_x[r] = load<F32Run>(sums.of_row[r]);
  transpose(of_x);
  for (int i = 0; i < kRun && j + i < arguments->n; ++i) {
    alignas(64) float total[kRun];
    store(total, of_x[i]);
    finish(arguments, row, block_rows, j + i, x->factor[i], total);
    unsigned short* y_row = arguments->y + (j + i) * rows + row;
    if (block_rows == kRun) {
      for (int r = 0; r < kRun; ++r) y_row[r] = f32_to_bf16(total[r] + f16_to_f32(arguments->bias[row + r]));
    } else {
      for (int r = 0; r < block_rows; ++r) y_row[r] = f32_to_bf16(total[r] + f16_to_f32(arguments->bias[row + r]));
    }
  } // i: rows of x
}

extern "C" __attribute__((visibility("default"))) void
matmul_fp8_e4m3_s32x5_f32_x_bf16_y_bf16_bias_f16_tc_c77(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long groups = groups_of(arguments);
  const long long last_row = tile_end * kTileRows < arguments->rows ? tile_end * kTileRows : arguments->rows;
  Own* own = (Own*)arguments->own;
  // Many groups share decoded rows, as many as the second cache holds; for few they had better stay in the first.
  const int most_rows = groups <= kFewGroups ? kFewRows : kBlockRows;
  // Others of this thread may count on a configuration of theirs.
  alignas(64) TileConfig before;
  __builtin_ia32_tile_storeconfig(&before);
  alignas(64) const TileConfig config = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  __builtin_ia32_tile_loadconfig(&config);

  for (long long row = tile_begin * kTileRows; row < last_row; row += most_rows) {
    const int block_rows = at_most(most_rows, last_row - row);
    for (long long group = 0; group < groups; group += kBlockGroups) {
      const int block_groups = at_most(kBlockGroups, groups - group);
      const XGroup* x = (const XGroup*)arguments->packed + group;
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        for (int r = 0; r < block_rows; ++r) pack_w(arguments, row, r, block_rows, chunk, &own->panel);
        for (int g = 0; g < block_groups; g += kGroupsTogether) {
          for (int r = 0; r < block_rows; r += kRowsTogether) {
            multiply(own->panel, r, x + g, chunk, own->sums[r / kRun][g].of_row[r % kRun],
                     kBlockGroups * kRun * kRun);
          } // r: rows multiplied together
        } // g: groups multiplied together
      } // chunk: columns of this chunk
      for (int g = 0; g < block_groups; ++g) {
        for (int r = 0; r < block_rows; r += kRun) {
          write_y(arguments, row + r, at_most(kRun, block_rows - r), (group + g) * kRun, x + g, own->sums[r / kRun][g]);
        } // r: 16 rows of w
      } // g: groups of 16 rows of x
    } // group: groups whose sums fit
  } // row: blocks of rows
  if (before.palette == 0) {
    __builtin_ia32_tilerelease();
  } else {
    __builtin_ia32_tile_loadconfig(&before);
  }
}
