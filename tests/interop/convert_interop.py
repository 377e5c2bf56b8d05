"""What `ktjit convert` writes, read by Python: values beside plain numpy, files beside safetensors and torch.

    convert_interop.py KTJIT

Exit code 77 (skipped) without the packages safetensors, numpy and ml_dtypes. torch is used where it is
installed.
"""

import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

try:
    import ml_dtypes
    import numpy as np
    import safetensors
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
try:
    import torch
except ImportError:
    torch = None

E4M3 = ml_dtypes.float8_e4m3fn
BF16 = ml_dtypes.bfloat16


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    check(done.returncode == 0, f"{arguments}: exit code {done.returncode}: {done.stdout} {done.stderr}")
    return done.stdout


def write_input(path, arrays):
    specs = {}
    for name, array in arrays.items():
        specs[name] = safetensors.TensorSpec(
            dtype={np.float32: "float32", BF16: "bfloat16", E4M3: "float8_e4m3fn"}[array.dtype.type],
            shape=list(array.shape), data_ptr=array.ctypes.data, data_len=array.nbytes)
    safetensors.serialize_file(specs, str(path), {"format": "pt"})


def read_all(path):
    """Every tensor of a file or a folder: dtype, shape, bytes; metadata and index checked on the way."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    read = {}
    for file in files:
        for name, tensor in safetensors.deserialize(file.read_bytes()):
            check(name not in read, f"{name} twice")
            read[name] = tensor
        with safetensors.safe_open(file, framework="np") as opened:
            check(opened.metadata() == {"format": "pt"}, f"metadata of {file.name}")
    index = path / "model.safetensors.index.json"
    if path.is_dir() and index.exists():
        check(set(json.loads(index.read_text())["weight_map"]) == set(read), "index")
    return read


def array_of(tensor, kind):
    return np.frombuffer(bytes(tensor["data"]), kind).reshape(tensor["shape"])


def quantize_blocks(x, block):
    """scale = max |x| / 448, 1 where that is 0; code = e4m3(x / scale), nearest even."""
    rows, cols = x.shape
    block_rows, block_cols = block[0] or rows, block[1] or cols
    scales = np.zeros((-(-rows // block_rows), -(-cols // block_cols)), np.float32)
    codes = np.zeros(x.shape, E4M3)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            at = np.s_[i * block_rows:(i + 1) * block_rows, j * block_cols:(j + 1) * block_cols]
            scale = np.abs(x[at]).max() / np.float32(448)
            scales[i, j] = scale if scale != 0 else 1
            codes[at] = np.clip(x[at] / scales[i, j], -448, 448).astype(E4M3)
    return codes, scales


def blocks_beside_numpy(ktjit, folder, out):
    random = np.random.default_rng(1)
    matrices = {f"m{i}.weight": (random.standard_normal(shape) * 10.0 ** random.integers(-6, 6)).astype(np.float32)
                for i, shape in enumerate([(128, 128), (300, 192), (1, 640), (257, 72)])}
    matrices["zero.weight"] = np.zeros((130, 64), np.float32)
    source = folder / "f32.safetensors"
    write_input(source, matrices)
    count = 0
    for option, block, suffix in [("128x128", (128, 128), "_scale_inv"), ("1x128", (1, 128), "_scale_inv"),
                                  ("48x80", (48, 80), "_scale_inv"), ("row", (1, 0), "_scale"),
                                  ("tensor", (0, 0), "_scale"), ("none", None, None)]:
        target = folder / f"{out}-{option}"
        run(ktjit, "convert", source, target, "--to", "fp8_e4m3", "--scale-block", option, "--device", "cpu",
            "--verify")
        read = read_all(target)
        for name, x in matrices.items():
            if block is None:
                codes = np.clip(x, -448, 448).astype(E4M3)
                check(bytes(read[name]["data"]) == codes.tobytes(), f"a plain cast of {name}")
                count += 1
                continue
            codes, scales = quantize_blocks(x, block)
            check(read[name]["dtype"] == "F8_E4M3" and list(read[name]["shape"]) == list(x.shape), f"{option} {name}")
            check(bytes(read[name]["data"]) == codes.tobytes(), f"{option}: codes of {name}")
            check(bytes(read[name + suffix]["data"]) == scales.tobytes(), f"{option}: scales of {name}")
            count += 2
        if torch is not None:
            for file in target.glob("*.safetensors"):
                with safetensors.safe_open(file, framework="pt") as opened:
                    for name in opened.keys():
                        data = opened.get_tensor(name).contiguous().view(torch.uint8)
                        check(bytes(data.flatten().tolist()) == bytes(read[name]["data"]), f"torch: {name}")
    return count


def codes_come_back(ktjit, folder):
    """e4m3 -> bf16 -> e4m3 with the same scales: every code but NaN under every scale."""
    all_codes = np.tile(np.array([c for c in range(256) if c & 127 != 127], np.uint8), 3 * 128)
    codes = all_codes[:256 * 256].reshape(256, 256).view(E4M3)
    random = np.random.default_rng(2)
    scales = (2.0 ** random.uniform(-20, 8, (2, 2))).astype(np.float32)
    original = folder / "original"
    original.mkdir()
    write_input(original / "model.safetensors", {"a.weight": codes, "a.weight_scale_inv": scales})
    run(ktjit, "convert", original, folder / "wide", "--to", "bf16", "--device", "cpu", "--verify")
    wide = array_of(read_all(folder / "wide")["a.weight"], BF16)
    exact = codes.astype(np.float32) * np.repeat(np.repeat(scales, 128, 0), 128, 1)
    check(wide.tobytes() == exact.astype(BF16).tobytes(), "bf16 is the decode rounded once")
    run(ktjit, "convert", folder / "wide", folder / "narrow", "--to", "fp8_e4m3", "--scales-from", original,
        "--device", "cpu", "--verify")
    narrow = read_all(folder / "narrow")
    check(bytes(narrow["a.weight"]["data"]) == codes.tobytes(), "codes come back")
    check(bytes(narrow["a.weight_scale_inv"]["data"]) == scales.tobytes(), "scales are those given")
    return codes.size


def experts_one_by_one(ktjit, folder):
    """A DeepSeek-shaped checkpoint as GGUF (experts stacked, bf16) and back to Hugging Face's names: the same bytes."""
    source = folder / "deepseek"
    run(ktjit, "sample", "--kind", "deepseek-fp8", source)
    run(ktjit, "convert", source, folder / "wide-hf", "--to", "bf16", "--device", "cpu", "--shard-size", "1M",
        "--verify")
    run(ktjit, "convert", folder / "wide-hf", folder / "wide.gguf", "--to", "bf16", "--device", "cpu", "--verify")
    run(ktjit, "convert", folder / "wide.gguf", folder / "back", "--to", "bf16", "--names", "hf", "--device", "cpu",
        "--verify")
    wide = read_all(folder / "wide-hf")
    back = read_all(folder / "back")
    check(set(wide) == set(back), f"names: {sorted(set(wide) ^ set(back))}")
    for name, tensor in wide.items():
        other = back[name]
        check(list(tensor["shape"]) == list(other["shape"]), f"shape of {name}")
        as_f32 = [array_of(t, BF16 if t["dtype"] == "BF16" else np.float32).astype(np.float32) for t in (tensor, other)]
        check(as_f32[0].tobytes() == as_f32[1].tobytes(), f"values of {name}")
    return len(wide)


# ggml's types: id to values and bytes of a block.
GGML_BLOCKS = {0: (1, 4), 12: (256, 144), 14: (256, 210)}


def read_gguf(path):
    """Every tensor of a GGUF file: its type's id and its bytes."""
    data = path.read_bytes()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length:at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            kind, count = take("IQ")
            return [value(kind) for _ in range(count)]
        return take("BbHhIif?__QqdQ"[kind])

    magic, version, tensors, pairs = take("4sIQQ")
    check(magic == b"GGUF" and version == 3, "GGUF 3")
    metadata = {}
    for _ in range(pairs):
        key = text()
        metadata[key] = value(take("I"))
    places = {}
    for _ in range(tensors):
        name = text()
        extents = [take("Q") for _ in range(take("I"))]
        kind, offset = take("IQ")
        values, size = GGML_BLOCKS[kind]
        places[name] = kind, offset, int(np.prod(extents)) // values * size
    step = metadata.get("general.alignment", 32)
    start = -(-at // step) * step
    return {name: (kind, data[start + offset:start + offset + size]) for name, (kind, offset, size) in places.items()}


MERGED_NAMES = [(re.compile(pattern), name) for pattern, name in [
    (r"model\.embed_tokens\.", "token_embd."), (r"model\.norm\.", "output_norm."), (r"lm_head\.", "output."),
    (r"model\.layers\.(\d+)\.", r"blk.\1."), (r"mlp\.gate\.e_score_correction_bias", "exp_probs_b.bias"),
    (r"input_layernorm", "attn_norm"), (r"post_attention_layernorm", "ffn_norm"),
    (r"self_attn\.o_proj", "attn_output"), (r"self_attn\.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    (r"self_attn\.(\w+)_layernorm", r"attn_\1_norm"), (r"self_attn\.(\w+)_proj", r"attn_\1"),
    (r"mlp\.shared_experts\.(\w+)_proj", r"ffn_\1_shexp"), (r"mlp\.(\w+)_proj", r"ffn_\1"),
    (r"mlp\.gate\.", "ffn_gate_inp.")]]


def merge(checkpoint, experts, layers):
    """KTransformers' merge recipe: routed experts as the GGUF file's bytes with their type beside them, the layers
    of multi-token prediction left out, everything else unchanged; names of GGUF."""
    merged = {}
    for name, tensor in checkpoint.items():
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        if layer and int(layer[1]) >= layers:
            continue
        if ".mlp.experts." in name:
            for part in ("gate", "up", "down"):
                stem = f"blk.{layer[1]}.ffn_{part}_exps"
                kind, data = experts[stem + ".weight"]
                merged[stem + ".weight"] = "U8", [len(data)], data
                merged[stem + ".ggml_type"] = "I64", [], struct.pack("<q", kind)
            continue
        for pattern, replacement in MERGED_NAMES:
            name = pattern.sub(replacement, name)
        merged[name] = tensor["dtype"], list(tensor["shape"]), bytes(tensor["data"])
    return merged


def hybrid_by_the_recipe(ktjit, folder):
    """Every tensor of the hybrid: name, dtype, shape and bytes; from a checkpoint with a layer for multi-token
    prediction, in shards."""
    source = folder / "for-hybrid"
    run(ktjit, "sample", "--kind", "deepseek-fp8", source)
    run(ktjit, "sample", "--kind", "mixed", folder / "mixed")
    config = json.loads((source / "config.json").read_text())
    extra = np.ones((512, 1024), BF16)
    write_input(source / "mtp.safetensors", {f"model.layers.{config['num_hidden_layers']}.eh_proj.weight": extra})
    index = json.loads((source / "model.safetensors.index.json").read_text())
    index["weight_map"][f"model.layers.{config['num_hidden_layers']}.eh_proj.weight"] = "mtp.safetensors"
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    config["num_nextn_predict_layers"] = 1
    (source / "config.json").write_text(json.dumps(config))
    expected = merge(read_all(source), read_gguf(folder / "mixed" / "experts-Q4_K_M.gguf"), config["num_hidden_layers"])
    check(len([name for name in expected if name.endswith(".ggml_type")]) == 3, "experts of one layer")
    run(ktjit, "convert", source, folder / "hybrid", "--experts", folder / "mixed" / "experts-Q4_K_M.gguf", "--device",
        "cpu", "--shard-size", "1M", "--verify")
    made = {name: (tensor["dtype"], list(tensor["shape"]), bytes(tensor["data"]))
            for name, tensor in read_all(folder / "hybrid").items()}
    check(set(made) == set(expected), f"names: {sorted(set(made) ^ set(expected))}")
    for name, tensor in expected.items():
        check(made[name][:2] == tensor[:2], f"{name}: {made[name][:2]}, expected {tensor[:2]}")
        check(made[name][2] == tensor[2], f"bytes of {name}")
    return len(made)


def main():
    ktjit = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ["KTJIT_CACHE_DIR"] = str(folder / "cache")
        print(f"{blocks_beside_numpy(ktjit, folder, 'fp8')} tensors of blocks equal numpy's")
        print(f"{codes_come_back(ktjit, folder)} codes come back")
        print(f"{experts_one_by_one(ktjit, folder)} tensors through GGUF and back")
        print(f"{hybrid_by_the_recipe(ktjit, folder)} tensors of the hybrid are what the merge recipe makes")


main()
