#!/usr/bin/env python3
"""Writes f32_encode.json: the codes that ml_dtypes' casts give the f32 inputs but NaNs.

    make_f32_encode.py          looks at every 4096th input, and at all between two of those with different codes
    make_f32_encode.py --all    looks at all 2^32 inputs; takes minutes

Needs ml_dtypes and numpy. Each format has a list of runs "INPUT:CODE" in hexadecimal: the
f32 inputs from there to the next run, in the order of their bits, have that code. Infinities are the last
inputs of each sign. What ml_dtypes makes of NaNs is not kept: it has other NaN codes than torch, and gives zero
where a format has no NaN.
"""
import json
import pathlib
import sys

import ml_dtypes
import numpy

HERE = pathlib.Path(__file__).parent
FORMATS = {
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "fp8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
}
CHUNK = 1 << 24
INFINITY = 0x7F800000


def codes_of(bits, cast_type):
    return bits.astype(numpy.uint32).view(numpy.float32).astype(cast_type).view(numpy.uint8)


def runs_of(cast_type, step):
    """Looks at every `step`-th input, and at all inputs between two of those with different codes."""
    runs = []
    for sign in (0, 1 << 31):
        runs.append(f"{sign:08x}:{codes_of(numpy.array([sign]), cast_type)[0]:02x}")
        for begin in range(sign, sign + INFINITY, CHUNK):
            end = min(begin + CHUNK, sign + INFINITY)
            samples = numpy.append(numpy.arange(begin, end, step, dtype=numpy.int64), end)
            codes = codes_of(samples, cast_type)
            for i in numpy.flatnonzero(codes[1:] != codes[:-1]):
                between = numpy.arange(samples[i], samples[i + 1] + 1, dtype=numpy.int64)
                inner = codes_of(between, cast_type)
                for k in numpy.flatnonzero(inner[1:] != inner[:-1]):
                    runs.append(f"{between[k + 1]:08x}:{inner[k + 1]:02x}")
    return " ".join(runs)


def main():
    step = 1 if sys.argv[1:] == ["--all"] else 4096
    with numpy.errstate(all="ignore"):
        tables = [{"format": name, "by": f"ml_dtypes {ml_dtypes.__version__}",
                   "runs": runs_of(cast_type, step)}
                  for name, cast_type in FORMATS.items()]
    (HERE / "f32_encode.json").write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
