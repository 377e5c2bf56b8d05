// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/interleave.cpp.in.
//   kernel   prepare_q1_0_interleaved_c640, emitter version 7
//   w        in   q1_0  [rows, 640]  row-major, blocks of 128 elements in 18 bytes
//   y        out  q1_0  [rows, 640]  interleaved
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): bytes are moved
//   launch   ranges of tiles of 16 rows, in parallel

constexpr int kRowBytes = 90;   // of a native row
constexpr int kBlockBytes = 18; // of a native block
constexpr int kBlocks = 5;      // of a row
constexpr int kUnits = 3;       // of a row, 256 columns each
constexpr int kUnitRows = 16;   // side by side
constexpr int kUnitBlocks = 2;  // of a row of a unit
constexpr int kUnitWords = 9;   // of a row of a unit
constexpr int kUnitBytes = 64 * kUnitWords;

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

typedef unsigned char Bytes8 __attribute__((vector_size(8)));
typedef unsigned char Bytes16 __attribute__((vector_size(16)));
typedef unsigned char Bytes32 __attribute__((vector_size(32)));
typedef unsigned char Bytes64 __attribute__((vector_size(64)));
typedef unsigned Words8 __attribute__((vector_size(32)));
typedef unsigned Words16 __attribute__((vector_size(64)));
typedef unsigned long long Longs8 __attribute__((vector_size(64)));

// Bit i of a byte as byte i, 0 or 1, and back: lowest bits of eight bytes as one byte.
[[maybe_unused]] static inline unsigned long long spread_bits(unsigned byte) {
  const unsigned long long alone = byte * 0x0101010101010101ull & 0x8040201008040201ull;
  return (alone + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}
[[maybe_unused]] static inline unsigned gather_bits(unsigned long long bytes) {
  return (unsigned)((bytes & 0x0101010101010101ull) * 0x0102040810204080ull >> 56);
}
// Bit `shift` of eight codes.
[[maybe_unused]] static inline void add_bits(unsigned char* codes, unsigned byte, int shift) {
  store(codes, load<unsigned long long>(codes) | spread_bits(byte) << shift);
}
[[maybe_unused]] static inline unsigned bits_of(const unsigned char* codes, int shift) {
  return gather_bits(load<unsigned long long>(codes) >> shift);
}

template <int kBytes>
static inline void copy(const unsigned char* from, unsigned char* to) { __builtin_memcpy(to, from, kBytes); }

static inline void take_row(const unsigned char* w, unsigned char* codes, unsigned char* head, unsigned char*) {
  for (int b = 0; b < 2; ++b) {
    copy<2>(w + 18 * b, head + 2 * b);
    for (int n = 0; n < 16; ++n) store(codes + 128 * b + 8 * n, spread_bits(w[18 * b + 2 + n]));
  } // b: blocks
}

// Bit `shift` of the codes, and back.
[[maybe_unused]] static inline void store_bits_of(const unsigned char* codes, int shift, unsigned char* to) {
  Bytes32 bits = {};
  for (int g = 0; g < 8; ++g) bits |= (load<Bytes32>(codes + 32 * g) >> shift & 1) << g;
  store(to, bits);
}
[[maybe_unused]] static inline void add_bits_of(const unsigned char* from, int shift, unsigned char* codes) {
  const Bytes32 bits = load<Bytes32>(from);
  for (int g = 0; g < 8; ++g) store(codes + 32 * g, load<Bytes32>(codes + 32 * g) | (bits >> g & 1) << shift);
}

static inline void store_planes(const unsigned char* codes, unsigned char* to) { store_bits_of(codes, 0, to); }

struct Arguments {
  const unsigned char* w;
  unsigned char* y;
  long long rows;
};

// A row's scales, then its codes in planes.
static inline void copy_blocks(const unsigned char* block, unsigned char* lane, int blocks) {
  alignas(64) unsigned char codes[256];
  unsigned char whole[kUnitBlocks * kBlockBytes] = {};
  __builtin_memcpy(whole, block, blocks * kBlockBytes);
  take_row(whole, codes, lane, lane + 4);
  store_planes(codes, lane + 4);
}

extern "C" __attribute__((visibility("default"))) void
prepare_q1_0_interleaved_c640(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long rows = arguments->rows;
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    unsigned char* unit = arguments->y + tile * (kUnits * (long long)kUnitBytes);
    for (int u = 0; u < kUnits; ++u, unit += kUnitBytes) {
      const int blocks_left = kBlocks - u * kUnitBlocks;
      const int blocks = blocks_left < kUnitBlocks ? blocks_left : kUnitBlocks;
      for (int r = 0; r < kUnitRows; ++r) {
        const long long row = tile * kUnitRows + r;
        unsigned words[kUnitWords] = {};
        if (row < rows) copy_blocks(arguments->w + row * kRowBytes + u * (kUnitBlocks * kBlockBytes), (unsigned char*)words, blocks);
        for (int w = 0; w < kUnitWords; ++w) __builtin_memcpy(unit + 64 * w + 4 * r, words + w, 4);
      } // r: rows of this tile
    } // u: units of 256 columns
  } // tile: tiles of this call
}
