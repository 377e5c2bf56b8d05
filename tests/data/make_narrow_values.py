#!/usr/bin/env python3
"""Writes narrow_values.json: the value of every code of each 4-, 6- and 8-bit float, by ml_dtypes.

Needs ml_dtypes and numpy. Values are C's hexadecimal floats, "nan" and "inf" among them, in the
order of the codes, with a space between two.
"""
import json
import pathlib
import re

import ml_dtypes
import numpy

FORMATS = {
    "fp8_e4m3": (ml_dtypes.float8_e4m3fn, 8),
    "fp8_e5m2": (ml_dtypes.float8_e5m2, 8),
    "fp8_e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, 8),
    "fp8_e5m2fnuz": (ml_dtypes.float8_e5m2fnuz, 8),
    "mxfp6_e2m3": (ml_dtypes.float6_e2m3fn, 6),
    "mxfp6_e3m2": (ml_dtypes.float6_e3m2fn, 6),
    "mxfp4": (ml_dtypes.float4_e2m1fn, 4),
    "nvfp4": (ml_dtypes.float4_e2m1fn, 4),
    "e8m0": (ml_dtypes.float8_e8m0fnu, 8),
}


def main():
    tables = {}
    for name, (dtype, bits) in FORMATS.items():
        values = numpy.arange(1 << bits, dtype=numpy.uint8).view(dtype).astype(numpy.float64)
        texts = [re.sub(r"\.?0+p", "p", float(value).hex()) for value in values]
        tables[name] = " ".join(texts)
    source = f"ml_dtypes {ml_dtypes.__version__}, by make_narrow_values.py"
    path = pathlib.Path(__file__).with_name("narrow_values.json")
    path.write_text(json.dumps({"source": source, "values": tables}, indent=1) + "\n")


if __name__ == "__main__":
    main()
