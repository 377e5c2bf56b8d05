#!/usr/bin/env python3
"""Host microseconds of a repeated launch: the driver's own call, ktjit, CuPy and Triton, in one run.

    python3 bench/launch_cost.py --host-costs build/bin/host_costs [--rounds N] [--json OUT]

Needs a GPU, the ktjit package, torch, Triton and CuPy; a peer that is not there is left out by name. The driver's
call and ktjit's C++ and C interfaces are timed by bench/host_costs (before and after the others: their
spread is the machine's noise), the rest here, in turn: a tiny kernel of 3 and one of 8 arguments, 200 launches a
round, few enough that the queue never fills, then a wait that is not counted. Medians over rounds.

The rows "..., whole call" also allocate a result and check the arguments, as users call it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

import torch

import ktjit
from ktjit import _kernels

LAUNCHES = 200

CUPY_SOURCE = r"""
extern "C" __global__ void three(const unsigned char* w, float* y, long long rows) {
  if (threadIdx.x < rows) y[threadIdx.x] = w[threadIdx.x];
}
extern "C" __global__ void eight(const unsigned char* w, const float* scale, const unsigned char* x,
                                 const float* x_scale, const float* bias, float* y,
                                 long long rows, long long n) {
  if (threadIdx.x < rows) y[threadIdx.x] = w[0] * scale[0] * x[0] * x_scale[0] + bias[0] * n;
}
"""


def cupy_ways(buffers):
    """CuPy's RawKernel on torch's memory and, as torch by default, on the null stream."""
    import cupy

    module = cupy.RawModule(code=CUPY_SOURCE)
    codes, floats, y = (cupy.from_dlpack(buffer) for buffer in buffers)
    three, eight = module.get_function("three"), module.get_function("eight")
    grid, block = (1,), (32,)
    rows = cupy.int64(1)
    three_arguments = (codes, y, rows)
    eight_arguments = (codes, floats, codes, floats, floats, y, rows, rows)
    return {
        3: {"CuPy RawKernel": lambda: three(grid, block, three_arguments)},
        8: {"CuPy RawKernel": lambda: eight(grid, block, eight_arguments)},
    }


def triton_ways(buffers):
    import triton
    import triton.language as tl

    @triton.jit
    def three(w, y, rows):
        tl.store(y, tl.load(w).to(tl.float32) * rows)

    @triton.jit
    def eight(w, scale, x, x_scale, bias, y, rows, n):
        product = tl.load(w).to(tl.float32) * tl.load(scale) * tl.load(x).to(tl.float32)
        tl.store(y, product * tl.load(x_scale) + tl.load(bias) * rows * n)

    codes, floats, y = buffers
    grid = (1,)
    return {
        3: {"Triton jit": lambda: three[grid](codes, y, 2)},
        8: {"Triton jit": lambda: eight[grid](codes, floats, codes, floats, floats, y, 2, 2)},
    }


def ktjit_ways():
    """The kernels that bench/host_costs launches, from Python."""
    device = f"cuda:{torch.cuda.current_device()}"
    data = torch.zeros(34, dtype=torch.uint8, device="cuda")
    codes = torch.zeros((1, 128), dtype=torch.uint8, device="cuda").view(torch.float8_e4m3fn)
    ones = torch.ones((1, 1), device="cuda")
    x = torch.ones(32, device="cuda")
    wide = torch.zeros(4096, device="cuda")
    prepared_dequant = ktjit.prepare(ktjit.gguf.dequant, data, "q8_0", 1, 32)
    prepared_gemm = ktjit.prepare(ktjit.fp8.fp8_gemm, codes, ones, codes, ones)

    stream = torch.cuda.current_stream().cuda_stream
    spec = _kernels.Spec(
        "matmul", "fp8_e4m3", 128, scale_type="f32", scale_block_rows=128, scale_block_cols=128,
        activation="afp8", x_scale_group=128, bias_format="f32", x_columns=1,
    )  # fmt: skip
    queue = _kernels.load(device, stream, spec).queue
    w, one, y = codes.data_ptr(), ones.data_ptr(), wide.data_ptr()
    assert w % 16 == 0 and y % 16 == 0
    return {
        3: {
            "ktjit Python, prepared": prepared_dequant,
            "ktjit gguf.dequant, whole call": lambda: ktjit.gguf.dequant(data, "q8_0", 1, 32),
            "ktjit gguf.matvec, whole call": lambda: ktjit.gguf.matvec(data, "q8_0", 1, 32, x),
            "ktjit weight_dequant, whole call": lambda: ktjit.fp8.weight_dequant(codes, ones),
        },
        8: {
            "ktjit Python, prepared": prepared_gemm,  # 7: without a bias
            "ktjit Python, by addresses": lambda: queue(1, 1, stream, w, one, w, one, one, y, 0),
            "ktjit fp8_gemm, whole call": lambda: ktjit.fp8.fp8_gemm(codes, ones, codes, ones),
        },
    }


def time_ways(ways, rounds):
    """Medians by name, of ways that take turns."""
    times = {name: [] for name in ways}
    clock = time.perf_counter
    for number in range(rounds + 3):
        for name, launch in ways.items():
            start = clock()
            for _ in range(LAUNCHES):
                launch()
            us = (clock() - start) * 1e6 / LAUNCHES
            torch.cuda.synchronize()
            if number >= 3:  # the first rounds warm up
                times[name].append(us)
    return {name: statistics.median(one) for name, one in times.items()}


def bare_costs(program, rounds):
    """What bench/host_costs measures: {arguments: {name: us}}."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [program, "launch", "--rounds", str(rounds), "--json", file.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(file.name, encoding="utf-8") as result:
            kernels = json.load(result)["kernels"]
    return {kernel["arguments"]: kernel["us"] for kernel in kernels}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host-costs", required=True, help="the program bench/host_costs")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", help="also write the figures here")
    arguments = parser.parse_args()

    versions = {"torch": torch.__version__, "ktjit": ktjit.__version__}
    buffers = [
        torch.ones(4096, dtype=torch.uint8, device="cuda"),
        torch.ones(4096, device="cuda"),
        torch.zeros(4096, device="cuda"),
    ]
    ways = ktjit_ways()
    for module, make in (("cupy", cupy_ways), ("triton", triton_ways)):
        try:
            versions[module] = __import__(module).__version__
        except ImportError as error:
            print(f"left out: {error}")
            continue
        for count, more in make(buffers).items():
            ways[count].update(more)

    first = bare_costs(arguments.host_costs, arguments.rounds)
    here = {count: time_ways(of_count, arguments.rounds) for count, of_count in ways.items()}
    again = bare_costs(arguments.host_costs, arguments.rounds)

    print(torch.cuda.get_device_name(), versions)
    figures = {}
    for count, of_count in here.items():
        bare = statistics.mean([first[count]["cuLaunchKernel"], again[count]["cuLaunchKernel"]])
        rows = {name: statistics.mean([us, again[count][name]]) for name, us in first[count].items()}
        rows.update(of_count)
        figures[count] = rows
        spread = abs(first[count]["cuLaunchKernel"] - again[count]["cuLaunchKernel"])
        print(f"\n{count} arguments: us a launch, and above cuLaunchKernel (whose two runs differ by {spread:.3f})")
        for name, us in rows.items():
            print(f"  {name:34} {us:8.3f}  {us - bare:+8.3f}")
    if arguments.json:
        result = {"device": torch.cuda.get_device_name(), "versions": versions, "us": figures}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)

    missed = [
        name
        for count, rows in figures.items()
        for name in ("ktjit C++", "ktjit C", "ktjit Python, prepared")
        if rows[name] > rows["cuLaunchKernel"] + 1.5
    ]
    print(f"\nbar: at most 1.5 us above cuLaunchKernel: {'missed by ' + ', '.join(missed) if missed else 'held'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
