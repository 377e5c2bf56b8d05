// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/interleave.cpp.in.
//   kernel   prepare_q5_0_interleaved_c480, emitter version 7
//   w        in   q5_0  [rows, 480]  row-major, blocks of 32 elements in 22 bytes
//   y        out  q5_0  [rows, 480]  interleaved
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

// Bit 4 k + i becomes bit k of byte i.
static inline unsigned bits_to_bytes(unsigned bits) {
  unsigned bytes = 0;
  for (int c = 0; c < 32; ++c) bytes |= (bits >> c & 1u) << (c % 4 * 8 + c / 4);
  return bytes;
}

struct Arguments {
  const unsigned char* w;
  unsigned char* y;
  long long rows;
};

// The fields of a row's blocks, sorted.
static inline void copy_blocks(const unsigned char* block, unsigned char* lane, int blocks) {
  for (int b = 0; b < blocks; ++b) {
    __builtin_memcpy(lane + 0 + b * 2, block + b * kBlockBytes + 0, 2);
    store(lane + 16 + b * 4, bits_to_bytes(load<unsigned>(block + b * kBlockBytes + 2)));
    __builtin_memcpy(lane + 48 + b * 16, block + b * kBlockBytes + 6, 16);
  } // b: blocks of this unit
}

extern "C" __attribute__((visibility("default"))) void
prepare_q5_0_interleaved_c480(const Arguments* arguments, long long tile_begin, long long tile_end) {
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
