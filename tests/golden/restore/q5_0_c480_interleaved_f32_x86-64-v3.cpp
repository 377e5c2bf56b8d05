// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/interleave.cpp.in.
//   kernel   restore_q5_0_interleaved_c480, emitter version 7
//   w        in   q5_0  [rows, 480]  interleaved
//   y        out  q5_0  [rows, 480]  row-major
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): bytes are moved
//   launch   ranges of tiles of 16 rows, in parallel

constexpr int kRowBytes = 330;  // of a native row
constexpr int kBlockBytes = 22; // of a native block
constexpr int kBlocks = 15;     // of a row
constexpr int kUnits = 2;       // of a row, 256 columns each
constexpr int kUnitRows = 16;   // side by side
constexpr int kUnitBlocks = 8;  // of a row of a unit
constexpr int kUnitWords = 44;  // of a row of a unit
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

// Bit k of byte i becomes bit 4 k + i.
static inline unsigned bytes_to_bits(unsigned bytes) {
  unsigned bits = 0;
  for (int c = 0; c < 32; ++c) bits |= (bytes >> (c % 4 * 8 + c / 4) & 1u) << c;
  return bits;
}

struct Arguments {
  const unsigned char* w;
  unsigned char* y;
  long long rows;
};

// A row's blocks, from their sorted fields.
static inline void copy_blocks(const unsigned char* lane, unsigned char* block, int blocks) {
  for (int b = 0; b < blocks; ++b) {
    __builtin_memcpy(block + b * kBlockBytes + 0, lane + 0 + b * 2, 2);
    store(block + b * kBlockBytes + 2, bytes_to_bits(load<unsigned>(lane + 16 + b * 4)));
    __builtin_memcpy(block + b * kBlockBytes + 6, lane + 48 + b * 16, 16);
  } // b: blocks of this unit
}

extern "C" __attribute__((visibility("default"))) void
restore_q5_0_interleaved_c480(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long rows = arguments->rows;
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    const unsigned char* unit = arguments->w + tile * (kUnits * (long long)kUnitBytes);
    for (int u = 0; u < kUnits; ++u, unit += kUnitBytes) {
      const int blocks_left = kBlocks - u * kUnitBlocks;
      const int blocks = blocks_left < kUnitBlocks ? blocks_left : kUnitBlocks;
      for (int r = 0; r < kUnitRows; ++r) {
        const long long row = tile * kUnitRows + r;
        unsigned words[kUnitWords] = {};
        if (row >= rows) break;
        for (int w = 0; w < kUnitWords; ++w) __builtin_memcpy(words + w, unit + 64 * w + 4 * r, 4);
        copy_blocks((const unsigned char*)words, arguments->y + row * kRowBytes + u * (kUnitBlocks * kBlockBytes), blocks);
      } // r: rows of this tile
    } // u: units of 256 columns
  } // tile: tiles of this call
}
