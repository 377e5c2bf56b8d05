#!/usr/bin/env python3
"""FP8 block dequant and gemm beside Triton's, on one GPU, in one run.

    python3 bench/fp8_peers.py [--json OUT]

Needs the ktjit package, torch with CUDA, and Triton. Prints
1. what Triton says when its dequantiser is compiled for sm_86 (an A10);
2. block dequant of e4m3 to bf16: Triton native, ktjit native, ktjit's sm_86 and sm_75 code on the
   same tensors, whether the results have the same bits, and times;
3. a matrix product of act_quant's codes: the same places, errors against float64, times.

Times are medians of CUDA-event times of calls that follow each other, over buffers that together exceed the
L2 cache; where the GPU needs less than Python does for a call, they are Python's. ktjit allocates its result in
each call, Triton's kernels here don't. Bytes are those of codes, scales and results.
"""

import argparse
import json
import statistics
import sys

import torch
import triton
import triton.language as tl

import ktjit
from triton_dequant import BLOCK, triton_dequant, triton_refusal

DEQUANT_SHAPES = [(7168, 18432), (7168, 2304), (576, 7168), (24576, 1536)]
GEMM_SHAPES = [(1, 4096, 7168), (16, 7168, 16384), (64, 7168, 16384), (4096, 4096, 7168)]
PLACES = [("ktjit native", None), ("ktjit as sm_86", "sm_86"), ("ktjit as sm_75", "sm_75")]


@triton.autotune(
    configs=[
        triton.Config({"TILE_M": m, "TILE_N": n}, num_stages=stages, num_warps=warps)
        for m in (16, 64, 128)
        for n in (64, 128)
        for stages in (4,)
        for warps in (4, 8)
    ],
    key=["size_m", "size_n", "size_k"],
)
@triton.jit
def gemm_kernel(a, a_scale, b, b_scale, c, size_m, size_n, size_k,
                TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr):
    m = (tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)) % size_m
    n = (tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)) % size_n
    k = tl.arange(0, TILE_K)
    groups = tl.cdiv(size_k, TILE_K)
    total = tl.zeros((TILE_M, TILE_N), dtype=tl.float32)
    for group in range(groups):
        column = group * TILE_K + k
        left = tl.load(a + m[:, None] * size_k + column[None, :], mask=column[None, :] < size_k, other=0.0)
        right = tl.load(b + n[None, :] * size_k + column[:, None], mask=column[:, None] < size_k, other=0.0)
        scale = tl.load(a_scale + m * groups + group)[:, None]
        scale = scale * tl.load(b_scale + (n // TILE_K) * groups + group)[None, :]
        total += tl.dot(left, right) * scale
    row = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    col = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    inside = (row[:, None] < size_m) & (col[None, :] < size_n)
    tl.store(c + row[:, None] * size_n + col[None, :], total.to(c.dtype.element_ty), mask=inside)


def triton_gemm(a, a_scale, b, b_scale, c):
    m, k = a.shape
    n = b.shape[0]
    grid = lambda meta: (triton.cdiv(m, meta["TILE_M"]), triton.cdiv(n, meta["TILE_N"]))
    gemm_kernel[grid](a, a_scale, b, b_scale, c, m, n, k, TILE_K=BLOCK)


def median_us(call, copies):
    """Of one call, when calls follow each other without a pause; `call(i)` works on copy i of the buffers."""
    batch = 4 * copies if copies > 2 else 8
    for i in range(copies):
        call(i)
    torch.cuda.synchronize()
    times = []
    for _ in range(9):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        for i in range(batch):
            call(i % copies)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / batch)
    return statistics.median(times)


def copies_for(bytes_once):
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    return max(1, -(-3 * l2 // bytes_once))


def random_codes(shape, generator):
    """All finite codes, equally often."""
    codes = torch.randint(0, 254, shape, generator=generator, device="cuda", dtype=torch.int32)
    codes = torch.where(codes >= 127, codes + 1, codes)  # leaves out 0x7f and 0xff
    return codes.to(torch.uint8).view(torch.float8_e4m3fn)


def same_bits(a, b):
    return bool((a.view(torch.int16) == b.view(torch.int16)).all())


def bench_dequant(generator, results):
    print(f"\nblock dequant, e4m3 to bf16, {BLOCK} x {BLOCK} scales")
    for rows, cols in DEQUANT_SHAPES:
        scale_shape = (-(-rows // BLOCK), -(-cols // BLOCK))
        bytes_once = rows * cols * 3 + scale_shape[0] * scale_shape[1] * 4
        copies = copies_for(bytes_once)
        codes = [random_codes((rows, cols), generator) for _ in range(copies)]
        scales = [torch.rand(scale_shape, generator=generator, device="cuda") + 0.5
                  for _ in range(copies)]
        out = [torch.empty((rows, cols), dtype=torch.bfloat16, device="cuda") for _ in range(copies)]
        triton_us = median_us(lambda i: triton_dequant(codes[i], scales[i], out[i]), copies)
        row = {"op": "dequant", "rows": rows, "cols": cols, "triton_us": triton_us}
        print(f"  {rows} x {cols}: {'Triton native':16} {triton_us:9.1f} us {bytes_once / triton_us / 1e3:7.0f} GB/s")
        for name, target in PLACES:
            ktjit.configure(target=target)
            equal = same_bits(ktjit.fp8.weight_dequant(codes[0], scales[0]), out[0])
            us = median_us(lambda i: ktjit.fp8.weight_dequant(codes[i], scales[i]), copies)
            row[name] = {"us": us, "gbps": bytes_once / us / 1e3, "same_bits": equal}
            print(f"  {rows} x {cols}: {name:16} {us:9.1f} us {bytes_once / us / 1e3:7.0f} GB/s"
                  f"  {'same bits' if equal else 'DIFFERENT BITS'}")
        results.append(row)


def bench_gemm(generator, results):
    print(f"\nfp8_gemm, e4m3 x e4m3 to bf16, 1 x {BLOCK} and {BLOCK} x {BLOCK} scales")
    for m, n, k in GEMM_SHAPES:
        copies = copies_for(n * k)
        x = torch.randn((m, k), generator=generator, device="cuda", dtype=torch.bfloat16)
        ktjit.configure(target=None)
        a, a_scale = ktjit.fp8.act_quant(x)
        b = [random_codes((n, k), generator) for _ in range(copies)]
        b_scale = torch.rand((-(-n // BLOCK), -(-k // BLOCK)), generator=generator, device="cuda") + 0.5
        c = torch.empty((m, n), dtype=torch.bfloat16, device="cuda")
        exact_a = a.to(torch.float64) * a_scale.to(torch.float64).repeat_interleave(BLOCK, 1)[:, :k]
        exact_b = b[0].to(torch.float64) * b_scale.to(torch.float64).repeat_interleave(
            BLOCK, 0)[:n].repeat_interleave(BLOCK, 1)[:, :k]
        some = slice(0, min(m, 64))
        exact = exact_a[some] @ exact_b.T
        magnitude = exact_a[some].abs() @ exact_b.abs().T
        del exact_a, exact_b

        def error_of(result):
            rounding = exact.abs() * 2.0**-8  # of the result to bf16
            excess = ((result[some].to(torch.float64) - exact).abs() - rounding).clamp(min=0)
            return float((excess / magnitude).max())

        triton_us = median_us(lambda i: triton_gemm(a, a_scale, b[i], b_scale, c), copies)
        triton_gemm(a, a_scale, b[0], b_scale, c)
        tflops = lambda us: 2e-6 * m * n * k / us
        row = {"op": "gemm", "m": m, "n": n, "k": k, "triton_us": triton_us,
               "triton_error": error_of(c)}
        print(f"  m {m} n {n} k {k}: {'Triton native':16} {triton_us:9.1f} us {tflops(triton_us):7.1f} TFLOP/s"
              f"  error {row['triton_error']:.1e} of sum |a b|")
        for name, target in PLACES:
            ktjit.configure(target=target)
            error = error_of(ktjit.fp8.fp8_gemm(a, a_scale, b[0], b_scale))
            us = median_us(lambda i: ktjit.fp8.fp8_gemm(a, a_scale, b[i], b_scale), copies)
            row[name] = {"us": us, "tflops": tflops(us), "error": error}
            print(f"  m {m} n {n} k {k}: {name:16} {us:9.1f} us {tflops(us):7.1f} TFLOP/s"
                  f"  error {error:.1e} of sum |a b|")
        results.append(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.bfloat16)
    generator = torch.Generator("cuda").manual_seed(1)
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, Triton {triton.__version__}, "
          f"ktjit {ktjit.__version__}")
    refusal = triton_refusal()
    print(f"Triton, compiling its dequantiser for sm_86: {refusal or 'accepted'}")
    results = []
    bench_dequant(generator, results)
    bench_gemm(generator, results)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"triton_refusal": refusal, "results": results}, file, indent=1)
    wrong = [row for row in results if row["op"] == "dequant"
             and not all(row[name]["same_bits"] for name, _ in PLACES)]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
