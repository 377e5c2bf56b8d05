#!/usr/bin/env python3
"""Writes ggml_quantize.json: what ggml's quantize_row_q8_0_ref and quantize_row_q4_0_ref make of blocks of 32.

    make_ggml_quantize.py GGML     a checkout of github.com/ggml-org/ggml (made with commit d99724f2, August 2026)

Needs numpy and gcc on x86-64. ggml-quants.c is compiled for plain x86-64 without contraction. Blocks where its
result is undefined in C (an infinity; so small that 1 / d overflows) have what x86-64 makes of them; there are
none with NaN. All bytes are hexadecimal, x as little-endian f32.
"""
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy

HERE = pathlib.Path(__file__).parent
STUB = """
#include <stdlib.h>
void ggml_abort(const char* file, int line, const char* text, ...) { abort(); }
float ggml_table_f32_f16[1 << 16];
"""


def build(ggml, folder):
    stub = pathlib.Path(folder, "stub.c")
    stub.write_text(STUB)
    library = str(pathlib.Path(folder, "quants.so"))
    subprocess.run(["gcc", "-O2", "-march=x86-64", "-ffp-contract=off", "-shared", "-fPIC", "-w",
                    f"-I{ggml}/include", f"-I{ggml}/src", f"{ggml}/src/ggml-quants.c", str(stub),
                    "-o", library, "-Wl,-z,lazy", "-lm"], check=True)
    return ctypes.CDLL(library, mode=1)


def blocks():
    random = numpy.random.default_rng(23)
    yield "normal values", random.standard_normal((200, 32))
    yield "uniform values", random.uniform(-1, 1, (60, 32))
    yield "zeros", numpy.zeros((1, 32))
    yield "negative zeros", -numpy.zeros((1, 32))
    yield "equal magnitudes, a positive one first", numpy.tile([0.5, -0.5], (1, 16))
    yield "equal magnitudes, a negative one first", numpy.tile([-0.5, 0.5], (1, 16))
    yield "equal magnitudes in both halves", numpy.concatenate(
        [numpy.full(16, 3.0), numpy.full(16, -3.0)])[None]
    yield "halves between integers of q8_0", numpy.concatenate(
        [[127.0], numpy.arange(-15, 16) + 0.5])[None]
    yield "halves between integers of q4_0", numpy.concatenate(
        [[-8.0], (numpy.arange(31) - 15) / 2])[None]
    yield "one value", numpy.eye(32) * -0.3
    yield "powers of two", numpy.exp2(random.integers(-30, 30, (32, 32)).astype(float)) * \
        random.choice([-1, 1], (32, 32))
    for exponent in (-149, -140, -130, -128, -127, -126, -125, -122, -121, -120, -118, -20, -14, 10, 20,
                     22, 23, 24, 100, 126):
        yield f"values below 2^{exponent + 1}", random.uniform(-2, 2, (6, 32)) * 2.0**exponent
    yield "d halfway between two f16", numpy.concatenate(
        [numpy.concatenate([[127 * (1 + (2 * i + 1) * 2.0**-11)], random.uniform(-100, 100, 31)])[None]
         for i in range(16)])
    yield "d of q4_0 halfway between two f16", numpy.concatenate(
        [numpy.concatenate([[8 * (1 + (2 * i + 1) * 2.0**-11)], random.uniform(-8, 8, 31)])[None]
         for i in range(16)])
    infinite = random.standard_normal((4, 32))
    infinite[0, 7], infinite[1, 0], infinite[2, 31] = numpy.inf, -numpy.inf, numpy.inf
    infinite[3, :] = -numpy.inf
    yield "infinities", infinite


def main():
    with tempfile.TemporaryDirectory() as folder:
        library = build(sys.argv[1], folder)
        result = []
        for what, values in blocks():
            x = numpy.ascontiguousarray(values, dtype="<f4")
            entry = {"what": what, "x": x.tobytes().hex()}
            for name, block_bytes in (("q8_0", 34), ("q4_0", 18)):
                out = numpy.zeros(x.size // 32 * block_bytes, dtype=numpy.uint8)
                getattr(library, f"quantize_row_{name}_ref")(
                    x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
                    ctypes.c_int64(x.size))
                entry[name] = out.tobytes().hex()
            result.append(entry)
    notes = "ggml d99724f2 on x86-64, by make_ggml_quantize.py"
    (HERE / "ggml_quantize.json").write_text(json.dumps({"by": notes, "blocks": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
