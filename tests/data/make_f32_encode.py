#!/usr/bin/env python3
"""Writes f32_encode.json: the codes that ml_dtypes' casts give all 2^32 f32 inputs but NaNs.

Needs ml_dtypes and numpy; takes a few minutes. Each format has a list of runs "INPUT:CODE" in hexadecimal: the
f32 inputs from there to the next run, in the order of their bits, have that code. Infinities are the last
inputs of each sign. What ml_dtypes makes of NaNs is not kept: it has other NaN codes than torch, and gives zero
where a format has no NaN.
"""
import json
import pathlib

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


def runs_of(cast_type):
    runs, last = [], None
    for sign in (0, 1 << 31):
        for begin in range(sign, sign + INFINITY + 1, CHUNK):
            end = min(begin + CHUNK, sign + INFINITY + 1)
            bits = numpy.arange(begin, end, dtype=numpy.uint32)
            codes = bits.view(numpy.float32).astype(cast_type).view(numpy.uint8)
            starts = [0] + [int(i) + 1 for i in numpy.flatnonzero(codes[1:] != codes[:-1])]
            for start in starts:
                if codes[start] != last or begin + start == sign:
                    last = int(codes[start])
                    runs.append(f"{begin + start:08x}:{last:02x}")
    return " ".join(runs)


def main():
    with numpy.errstate(all="ignore"):
        tables = [{"format": name, "by": f"ml_dtypes {ml_dtypes.__version__}", "runs": runs_of(cast_type)}
                  for name, cast_type in FORMATS.items()]
    (HERE / "f32_encode.json").write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
