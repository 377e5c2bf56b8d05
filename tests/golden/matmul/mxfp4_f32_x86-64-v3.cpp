// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matmul.cpp.in.
//   kernel   matmul_mxfp4_s1x32_e8m0_x_f32_c512, emitter version 7
//   w        in   mxfp4  [rows, 512]  row-major, blocks of 32 elements in 16 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   x        in   f32  [n, 512]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32
//   panels   f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: halves from a table in a register, times the block's scale
//   launch   matmul_mxfp4_s1x32_e8m0_x_f32_c512_begin for ranges of groups of 16 rows of x, then ranges of 16 rows of w, each in parallel

constexpr int kCols = 512;                             // columns of w, and of each row of x
constexpr int kRowBytes = 256;                         // bytes of one row of w
constexpr int kRun = 16;                               // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32;                    // columns that share one scale
constexpr int kScaleCols = 16;                         // scales in one row of scales
constexpr int kChunk = 256;                            // columns decoded at a time
constexpr int kChunks = (kCols + kChunk - 1) / kChunk; // of a row
constexpr int kTileRows = 16;                          // rows of w of a launch's tile
constexpr int kBlockRows = 128;                        // rows of w decoded together
constexpr int kFewGroups = 4;                          // of x, for which fewer are
constexpr int kFewRows = 16;                           // then
constexpr int kRowsTogether = 4;                       // rows of w whose sums are in registers
constexpr int kGroupsTogether = 1;                     // groups of 16 rows of x, likewise
constexpr int kBlockGroups = 32;                       // groups of x whose sums a thread keeps

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// Exact e2m1 (OCP MX 1.0), 16 codes in 8 bytes, the first of two in the low nibble: bit 3 is the sign, the
// other bits choose one of 0, 1, 2, 3, 4, 6, 8 and 12 halves. Code 8 is -0.
static inline F32Run e2m1_run_to_f32(const unsigned char* at) {
  typedef unsigned char U8x8 __attribute__((vector_size(8)));
  const U8x8 pairs = load<U8x8>(at);
  const U8Run twice = __builtin_shufflevector(pairs, pairs, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const U32Run nibble = {0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4};
  const U32Run codes = __builtin_convertvector(twice, U32Run) >> nibble;
  const U32Run halves = ((U32Run){} + 0xc8643210u) >> ((codes & 7u) << 2) & 15u;
  const F32Run magnitude = __builtin_convertvector((S32Run)halves, F32Run) * 0.5f;
  return (F32Run)((U32Run)magnitude | (codes & 8u) << 28);
}

static inline F32Run decode_run(const unsigned char* row, long long col) { return e2m1_run_to_f32(row + col / 2); }

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
static inline float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __builtin_bit_cast(float, code == 255u ? 0x7fc00000u : bits);
}

static inline F32Run multiply_add(F32Run a, F32Run b, F32Run c) { return __builtin_elementwise_fma(a, b, c); }

static inline F32Run load_x(const float* at) { return load<F32Run>(at); }

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

struct Arguments {
  const unsigned char* w;
  const unsigned char* scale;
  const float* x;
  float* y;
  long long rows;
  long long n;
  unsigned char* packed; // groups of x: scratch of the launch, which the device adds to the caller's arguments
  unsigned char* own;    // Own: memory of this thread, as well
};

static inline int at_most(int limit, long long value) { return value < limit ? (int)value : limit; }

// Columns begin to end of a row of w, as f32; zeros fill the last run.
static inline void decode_row(const Arguments* arguments, long long row, int begin, int end, float* out) {
  const unsigned char* w_row = arguments->w + row * kRowBytes;
  const unsigned char* scale_row = arguments->scale + (row) * kScaleCols;
#pragma unroll 2
  for (int at = begin; at + kRun <= end; at += kRun) {
    F32Run weight = decode_run(w_row, at);
    weight *= load_scale(scale_row, at / kScaleBlockCols);
    store(out + (at - begin), weight);
  } // at: runs of this row
}

// Columns begin to end of row j of x, as f32; zeros fill the last run.
static inline void widen_row(const Arguments* arguments, long long j, int begin, int end, float* out) {
  const float* x_row = arguments->x + j * kCols;
  for (int at = begin; at + kRun <= end; at += kRun) store(out + (at - begin), load_x(x_row + at));
}

// 16 rows of x side by side, a column after another.
struct XGroup {
  float column[kCols][kRun];
};

static inline void pack_x(const Arguments* arguments, long long j, int present, XGroup* group) {
  alignas(64) float rows[kRun][kChunk];
  for (int first = 0; first < kCols; first += kChunk) {
    const int columns = at_most(kChunk, kCols - first);
    for (int i = 0; i < present; ++i) widen_row(arguments, j + i, first, first + columns, rows[i]);
    for (int at = 0; at < columns; at += kRun) {
      F32Run value[kRun];
#pragma unroll
      for (int i = 0; i < kRun; ++i) value[i] = i < present ? load<F32Run>(rows[i] + at) : (F32Run){};
      transpose(value);
      for (int c = 0; c < kRun && at + c < columns; ++c) store(group->column[first + at + c], value[c]);
    } // at: columns of this chunk
  } // first: chunks of columns
}

// Decoded rows of w; the rest of the last rows multiplied together are not used.
struct Panel {
  float row[kBlockRows + kRowsTogether][kChunk];
};

static inline void pack_w(const Arguments* arguments, long long row, int r, int, int chunk, Panel* panel) {
  const int first = chunk * kChunk;
  decode_row(arguments, row + r, first, first + at_most(kChunk, kCols - first), panel->row[r]);
}

// Adds the chunk's products of kRowsTogether rows of the panel and kGroupsTogether groups; `stride`: f32 from the sums of 16
// rows to those of the next.
static inline void multiply(const Panel& panel, int r, const XGroup* x, int chunk, float* sums, long long) {
  const int columns = at_most(kChunk, kCols - chunk * kChunk);
  F32Run sum[kRowsTogether][kGroupsTogether];
#pragma unroll
  for (int i = 0; i < kRowsTogether; ++i) {
#pragma unroll
    for (int g = 0; g < kGroupsTogether; ++g)
      sum[i][g] = chunk == 0 ? (F32Run){} : load<F32Run>(sums + (g * kRun + i) * kRun);
  } // i: rows of w
  for (int c = 0; c < columns; ++c) {
    F32Run value[kGroupsTogether];
#pragma unroll
    for (int g = 0; g < kGroupsTogether; ++g) value[g] = load<F32Run>(x[g].column[chunk * kChunk + c]);
#pragma unroll
    for (int i = 0; i < kRowsTogether; ++i) {
      const F32Run weight = panel.row[r + i][c] - (F32Run){}; // in all lanes; to add zero would cost an addition, for -0
#pragma unroll
      for (int g = 0; g < kGroupsTogether; ++g) sum[i][g] = multiply_add(weight, value[g], sum[i][g]);
    } // i: rows of w
  } // c: columns of this chunk
#pragma unroll
  for (int i = 0; i < kRowsTogether; ++i) {
#pragma unroll
    for (int g = 0; g < kGroupsTogether; ++g) store(sums + (g * kRun + i) * kRun, sum[i][g]);
  } // i: rows of w
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
matmul_mxfp4_s1x32_e8m0_x_f32_c512_scratch_bytes(const Arguments* arguments) { return groups_of(arguments) * (long long)sizeof(XGroup); }

extern "C" __attribute__((visibility("default"))) long long
matmul_mxfp4_s1x32_e8m0_x_f32_c512_thread_bytes(const Arguments*) { return sizeof(Own); }

extern "C" __attribute__((visibility("default"))) long long
matmul_mxfp4_s1x32_e8m0_x_f32_c512_begin_tiles(const Arguments* arguments) { return groups_of(arguments); }

extern "C" __attribute__((visibility("default"))) void
matmul_mxfp4_s1x32_e8m0_x_f32_c512_begin(const Arguments* arguments, long long group_begin, long long group_end) {
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
    float* y_row = arguments->y + (j + i) * rows + row;
    if (block_rows == kRun) {
      for (int r = 0; r < kRun; ++r) y_row[r] = total[r];
    } else {
      for (int r = 0; r < block_rows; ++r) y_row[r] = total[r];
    }
  } // i: rows of x
}

extern "C" __attribute__((visibility("default"))) void
matmul_mxfp4_s1x32_e8m0_x_f32_c512(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long groups = groups_of(arguments);
  const long long last_row = tile_end * kTileRows < arguments->rows ? tile_end * kTileRows : arguments->rows;
  Own* own = (Own*)arguments->own;
  // Many groups share decoded rows, as many as the second cache holds; for few they had better stay in the first.
  const int most_rows = groups <= kFewGroups ? kFewRows : kBlockRows;
  
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
  
}
