#!/usr/bin/env python3
"""Writes fp8_encode.json: the FP8 codes of all 65536 f16 and bf16 inputs, by others' conversions.

Needs torch below 2.12, ml_dtypes, numpy, g++ and the CUDA toolkit's headers (CUDA_HOME, default
/usr/local/cuda). Not saturating: torch's casts, which ml_dtypes must agree with but for the codes
of NaN (from 2.12 on torch saturates in casts to float8_e4m3fn, and in no other). Saturating:
NVIDIA's cuda_fp8.h, run on the host.

Each table is a list of runs "INPUT:CODE" in hexadecimal: the inputs from there to the next run,
in the order of their bits, have that code.
"""
import ctypes
import json
import os
import pathlib
import subprocess
import tempfile

import ml_dtypes
import numpy
import torch

HERE = pathlib.Path(__file__).parent
CUDA_HOME = os.environ.get("CUDA_HOME", "/usr/local/cuda")
FORMATS = {
    "fp8_e4m3": (torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn, "__NV_E4M3"),
    "fp8_e5m2": (torch.float8_e5m2, ml_dtypes.float8_e5m2, "__NV_E5M2"),
    "fp8_e4m3fnuz": (torch.float8_e4m3fnuz, ml_dtypes.float8_e4m3fnuz, None),
    "fp8_e5m2fnuz": (torch.float8_e5m2fnuz, ml_dtypes.float8_e5m2fnuz, None),
}
INPUTS = {"f16": torch.float16, "bf16": torch.bfloat16}
BITS = numpy.arange(65536, dtype=numpy.uint16)


def nvidia_codes(values, interpretation):
    """Saturating codes of f32 values by cuda_fp8.h."""
    text = f"""#include <cuda_fp8.h>
    extern "C" void encode(const float* x, unsigned char* y, int n) {{
      for (int i = 0; i < n; ++i) y[i] = __nv_cvt_float_to_fp8(x[i], __NV_SATFINITE, {interpretation});
    }}"""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "encode.cpp")
        source.write_text(text)
        library = str(source.with_suffix(".so"))
        subprocess.run(["g++", "-O2", "-shared", "-fPIC", f"-I{CUDA_HOME}/include", str(source),
                        "-o", library], check=True)
        codes = numpy.zeros(len(values), dtype=numpy.uint8)
        ctypes.CDLL(library).encode(values.ctypes.data_as(ctypes.c_void_p),
                                    codes.ctypes.data_as(ctypes.c_void_p), len(values))
    return codes


def runs(codes):
    starts = [0] + [int(i) + 1 for i in numpy.flatnonzero(codes[1:] != codes[:-1])]
    return " ".join(f"{start:04x}:{codes[start]:02x}" for start in starts)


def main():
    tables = []
    for input_name, input_type in INPUTS.items():
        inputs = torch.from_numpy(BITS.view(numpy.int16).copy()).view(input_type)
        values = inputs.float().numpy()
        numbers = ~numpy.isnan(values)
        for name, (torch_type, ml_type, interpretation) in FORMATS.items():
            codes = inputs.to(torch_type).view(torch.uint8).numpy()
            other = values.astype(ml_type).view(numpy.uint8)
            assert (codes == other)[numbers].all(), (name, input_name)
            tables.append({"format": name, "input": input_name, "saturate": False,
                           "by": f"torch {torch.__version__.split('+')[0]}", "runs": runs(codes)})
            if interpretation:
                tables.append({"format": name, "input": input_name, "saturate": True,
                               "by": "cuda_fp8.h", "runs": runs(nvidia_codes(values, interpretation))})
    (HERE / "fp8_encode.json").write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
