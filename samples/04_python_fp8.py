"""An FP8 linear layer as DeepSeek's inference code computes it, with numpy: quantise the
activations, multiply by block-scaled weights, and compare with the same product of the decoded
weights. With torch tensors the calls are the same, on the CPU or on any GPU."""

import sys

import numpy as np

import ktjit

ROWS, COLS, BATCH = 576, 512, 4

random = np.random.default_rng(1)
x = random.normal(0, 1, (BATCH, COLS)).astype(np.float32)
codes = random.integers(0, 0x7E, (ROWS, COLS), dtype=np.uint8)  # e4m3, no NaN
scales = random.uniform(1e-3, 2e-3, (-(-ROWS // 128), COLS // 128)).astype(np.float32)

a, a_s = ktjit.fp8.act_quant(x)
y = ktjit.fp8.fp8_gemm(a, a_s, codes, scales)

w = ktjit.fp8.weight_dequant(codes, scales)
expected = x @ w.T
error = np.abs(y - expected).max() / np.abs(expected).max()

for (device, spec), info in ktjit.loaded_kernels().items():
    print(f"{device}: {info['name']}: {info['lowering']}")
print(f"largest difference from unquantised activations: {error:.2%} of the largest result")
sys.exit(0 if error < 0.05 else 1)
