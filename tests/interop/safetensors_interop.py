"""Our files read by Python's safetensors and the reverse, bit for bit, every dtype.

    safetensors_interop.py PROBE [KTJIT]

Exit code 77 (skipped) without the packages safetensors, numpy and ml_dtypes. torch is used where it
is installed. PROBE is the program safetensors_probe; KTJIT, if given, writes sample checkpoints that
Python then reads whole.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import ml_dtypes
    import numpy as np
    import safetensors
    import safetensors.numpy
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
try:
    import torch
    import safetensors.torch
except ImportError:
    torch = None

# The format's dtypes: their bits, and the names that the Python package's writer has for them.
DTYPES = {
    "BOOL": (8, "bool"), "F4": (4, "float4_e2m1fn_x2"), "F6_E2M3": (6, None), "F6_E3M2": (6, None),
    "U8": (8, "uint8"), "I8": (8, "int8"), "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3": (8, "float8_e4m3fn"), "F8_E8M0": (8, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"), "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "I16": (16, "int16"), "U16": (16, "uint16"), "F16": (16, "float16"), "BF16": (16, "bfloat16"),
    "I32": (32, "int32"), "U32": (32, "uint32"), "F32": (32, "float32"), "C64": (64, "complex64"),
    "F64": (64, "float64"), "I64": (64, "int64"), "U64": (64, "uint64"),
}
SHAPE = [3, 5, 32]


def pattern(dtype):
    """As make_pattern in safetensors_probe.cpp."""
    count = 480 * DTYPES[dtype][0] // 8
    mask = 1 if dtype == "BOOL" else 255
    return bytes((i * 7 + len(dtype) * 31) & mask for i in range(count))


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    check(done.returncode == 0, f"{arguments}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def dump(probe, path):
    return json.loads(run(probe, "dump", path))


def python_reads_ours(probe, folder):
    path = folder / "ours.safetensors"
    run(probe, "write", path)
    read = dict(safetensors.deserialize(path.read_bytes()))
    check(len(read) == 2 * len(DTYPES), f"{len(read)} tensors")
    for dtype in DTYPES:
        tensor = read[f"t_{dtype}"]
        check(tensor["dtype"] == dtype, f"t_{dtype}: {tensor['dtype']}")
        check(list(tensor["shape"]) == SHAPE, f"t_{dtype}: {tensor['shape']}")
        check(bytes(tensor["data"]) == pattern(dtype), f"t_{dtype}: other bytes")
        check(list(read[f"none_{dtype}"]["shape"]) == [0, 4], f"none_{dtype}: shape")
    # The way that applications read, for the dtypes that numpy knows.
    with safetensors.safe_open(path, framework="np") as opened:
        check(opened.metadata() == {"origin": "ktjit"}, "metadata")
        for dtype in ["F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL", "C64"]:
            array = opened.get_tensor(f"t_{dtype}")
            check(array.tobytes() == pattern(dtype), f"t_{dtype} as a numpy array")
    if torch is not None:
        with safetensors.safe_open(path, framework="pt") as opened:
            for dtype in ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "U8", "BOOL"]:
                data = opened.get_tensor(f"t_{dtype}").contiguous().view(torch.uint8)
                check(bytes(data.flatten().tolist()) == pattern(dtype), f"t_{dtype} as a torch tensor")
    return len(read)


def we_read_pythons(probe, folder):
    arrays = {}
    specs = {}
    for dtype, (_, python_name) in DTYPES.items():
        if python_name is None:
            continue  # the package reads F6 and can't write it
        array = arrays[dtype] = np.frombuffer(pattern(dtype), dtype=np.uint8)
        # The packed dtype is given with the shape of its storage.
        shape = SHAPE[:2] + [SHAPE[2] // 2] if dtype == "F4" else SHAPE
        specs[f"t_{dtype}"] = safetensors.TensorSpec(
            dtype=python_name, shape=shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
    path = folder / "theirs.safetensors"
    safetensors.serialize_file(specs, str(path), {"origin": "python", "ü": "ß"})
    ours = dump(probe, path)
    check(ours["metadata"] == {"origin": "python", "ü": "ß"}, f"metadata {ours['metadata']}")
    check(len(ours["tensors"]) == len(specs), "number of tensors")
    for dtype in arrays:
        tensor = ours["tensors"][f"t_{dtype}"]
        check(tensor["dtype"] == dtype, f"t_{dtype}: {tensor['dtype']}")
        check(tensor["shape"] == SHAPE, f"t_{dtype}: {tensor['shape']}")
        check(bytes.fromhex(tensor["hex"]) == pattern(dtype), f"t_{dtype}: other bytes")

    # Values, not only bytes: arrays of ml_dtypes, every code of the small types.
    kinds = {"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
             "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
             "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz, "F8_E8M0": ml_dtypes.float8_e8m0fnu}
    for dtype, kind in kinds.items():
        bits, python_name = DTYPES[dtype]
        codes = np.arange(1 << bits, dtype=np.uint8 if bits == 8 else np.uint16)
        array = codes.view(kind)
        spec = safetensors.TensorSpec(dtype=python_name, shape=list(array.shape),
                                      data_ptr=codes.ctypes.data, data_len=codes.nbytes)
        path = folder / f"{dtype}.safetensors"
        safetensors.serialize_file({"x": spec}, str(path))
        ours = bytes.fromhex(dump(probe, path)["tensors"]["x"]["hex"])
        check(np.frombuffer(ours, kind).astype(np.float32).tobytes() ==
              array.astype(np.float32).tobytes(), f"all codes of {dtype}")

    # What save_file writes, scalars and empty arrays too.
    saved = {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 3), np.int16),
             "matrix": np.arange(12, dtype=np.float64).reshape(3, 4)}
    path = folder / "saved.safetensors"
    safetensors.numpy.save_file(saved, str(path))
    ours = dump(probe, path)["tensors"]
    for name, array in saved.items():
        check(ours[name]["shape"] == list(array.shape), f"{name}: shape")
        check(bytes.fromhex(ours[name]["hex"]) == array.tobytes(), f"{name}: other bytes")
    if torch is not None:
        saved = {str(kind): torch.arange(40).to(kind) for kind in [
            torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
            torch.int64, torch.uint8, torch.bool]}
        path = folder / "torch.safetensors"
        safetensors.torch.save_file(saved, str(path))
        ours = dump(probe, path)["tensors"]
        for name, tensor in saved.items():
            check(bytes.fromhex(ours[name]["hex"]) == bytes(tensor.view(torch.uint8).tolist()),
                  f"{name} of torch: other bytes")
    return len(arrays) + len(kinds) + len(saved)


def python_reads_samples(ktjit, folder):
    """Every tensor of the sample checkpoints, through the index where there is one."""
    count = 0
    for kind in ["deepseek-fp8", "hybrid", "mixed"]:
        out = folder / kind
        run(ktjit, "sample", "--kind", kind, out)
        shards = {path.name: dict(safetensors.deserialize(path.read_bytes()))
                  for path in out.glob("*.safetensors")}
        index = out / "model.safetensors.index.json"
        if index.exists():
            weight_map = json.loads(index.read_text())["weight_map"]
            check({(name, shard) for shard, read in shards.items() for name in read} ==
                  set(weight_map.items()), f"{kind}: index")
        listed = {tensor["name"]: tensor
                  for tensor in json.loads(run(ktjit, "inspect", out, "--json"))["tensors"]}
        for read in shards.values():
            for name, tensor in read.items():
                count += 1
                if name.endswith(("_scale_inv", ".ggml_type")):
                    continue
                check(listed[name]["bytes"] == len(tensor["data"]), f"{kind}: size of {name}")
    return count


def main():
    probe = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        print(f"safetensors {safetensors.__version__}, numpy {np.__version__}, "
              f"torch {torch.__version__ if torch is not None else 'not installed'}")
        print(f"{python_reads_ours(probe, folder)} tensors of ours read")
        print(f"{we_read_pythons(probe, folder)} tensors of Python's read")
        if len(sys.argv) > 2:
            print(f"{python_reads_samples(sys.argv[2], folder)} tensors of the samples read")


main()
