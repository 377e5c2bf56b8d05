// A kernel as the CPU device loads it, built by the build's own compiler: writes KTJIT_TEST_VALUE
// plus half of x[tile] to y[tile], and counts calls for each tile.
extern "C" __attribute__((visibility("default"))) void test_kernel(
    const unsigned long long* arguments, long long tile_begin, long long tile_end) {
  const float* x = reinterpret_cast<const float*>(arguments[0]);
  float* y = reinterpret_cast<float*>(arguments[1]);
  unsigned char* calls = reinterpret_cast<unsigned char*>(arguments[2]);
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    y[tile] = x[tile] * 0.5f + KTJIT_TEST_VALUE;
    ++calls[tile];
  }
}
