// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matmul.cpp.in.
//   kernel   matmul_q4_K_x_f32_c512, emitter version 7
//   w        in   q4_K  [rows, 512]  row-major, blocks of 256 elements in 144 bytes
//   x        in   f32  [n, 512]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   panels   f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   matmul_q4_K_x_f32_c512_begin for ranges of groups of 16 rows of x, then ranges of 16 rows of w, each in parallel

constexpr int kCols = 512;                             // columns of w, and of each row of x
constexpr int kRowBytes = 288;                         // bytes of one row of w
constexpr int kRun = 16;                               // consecutive elements decoded at a time
constexpr int kBlockElems = 256;                       // elements of one block
constexpr int kBlockBytes = 144;                       // bytes of one block
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

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// Scales and minima of the eight sub-blocks (32 elements each) of a q4_K or q5_K block, which begins with
// d f16, dmin f16 and 12 bytes that pack eight 6-bit scales and eight 6-bit minima: sub-blocks 0 to 3 in
// the low 6 bits of bytes 0 to 3 and 4 to 7; of sub-blocks 4 to 7 the low 4 bits in bytes 8 to 11 (scale
// low nibble, minimum high nibble) and the top 2 bits above the others'.
struct ScaleMin {
  float scale[8];
  float minimum[8];
};

typedef unsigned char U8Eight __attribute__((vector_size(8)));
typedef float F32Eight __attribute__((vector_size(32)));

// Eight bytes times a number.
static inline F32Eight bytes_times(unsigned long long bytes, float factor) {
  return __builtin_convertvector(__builtin_bit_cast(U8Eight, bytes), F32Eight) * factor;
}

static inline ScaleMin load_scale_min(const unsigned char* at) {
  const unsigned first = load<unsigned>(at + 4);
  const unsigned second = load<unsigned>(at + 8);
  const unsigned third = load<unsigned>(at + 12);
  // Four 6-bit numbers in each half, a byte apart.
  const unsigned scales = (third & 0x0f0f0f0fu) | (first >> 6 & 0x03030303u) << 4;
  const unsigned minima = (third >> 4 & 0x0f0f0f0fu) | (second >> 6 & 0x03030303u) << 4;
  ScaleMin result;
  store(result.scale, bytes_times((unsigned long long)scales << 32 | (first & 0x3f3f3f3fu),
                                  f16_to_f32(load<unsigned short>(at))));
  store(result.minimum, bytes_times((unsigned long long)minima << 32 | (second & 0x3f3f3f3fu),
                                    f16_to_f32(load<unsigned short>(at + 2))));
  return result;
}

// q4_K: 144 bytes for 256 elements: 16 bytes of scales (see ScaleMin), then 4 chunks of 32 bytes; a chunk's
// low nibbles are its first 32 elements, the high nibbles the next 32. value = scale * q - minimum.
struct Block {
  const unsigned char* codes;
  ScaleMin s;
};

static inline Block open_block(const unsigned char* at) { return {at + 16, load_scale_min(at)}; }

static inline F32Run decode_run(const Block& block, int first) {
  const int sub_block = first / 32;
  const U8Run packed = load<U8Run>(block.codes + sub_block / 2 * 32 + first % 32);
  const U32Run q = __builtin_convertvector(packed, U32Run) >> 4 * (sub_block % 2) & 15;
  return __builtin_convertvector((S32Run)q, F32Run) * block.s.scale[sub_block] - block.s.minimum[sub_block];
}

static inline F32Run multiply_add(F32Run a, F32Run b, F32Run c) { return __builtin_elementwise_fma(a, b, c); }

static inline F32Run load_x(const float* at) { return load<F32Run>(at); }

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
  for (int b = begin / kBlockElems; b < end / kBlockElems; ++b) {
    const Block block = open_block(w_row + b * kBlockBytes);
#pragma unroll 4
    for (int first = 0; first < kBlockElems; first += kRun) {
      const int at = b * kBlockElems + first;
      const F32Run weight = decode_run(block, first);
      store(out + (at - begin), weight);
    } // first: runs of this block
  } // b: blocks of this row
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
matmul_q4_K_x_f32_c512_scratch_bytes(const Arguments* arguments) { return groups_of(arguments) * (long long)sizeof(XGroup); }

extern "C" __attribute__((visibility("default"))) long long
matmul_q4_K_x_f32_c512_thread_bytes(const Arguments*) { return sizeof(Own); }

extern "C" __attribute__((visibility("default"))) long long
matmul_q4_K_x_f32_c512_begin_tiles(const Arguments* arguments) { return groups_of(arguments); }

extern "C" __attribute__((visibility("default"))) void
matmul_q4_K_x_f32_c512_begin(const Arguments* arguments, long long group_begin, long long group_end) {
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
matmul_q4_K_x_f32_c512(const Arguments* arguments, long long tile_begin, long long tile_end) {
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
