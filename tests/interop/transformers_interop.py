"""What `ktjit convert --names hf` writes, loaded and run by Hugging Face's transformers.

    transformers_interop.py KTJIT DATA [MODEL.gguf ...]

DATA is tests/data/models. Logits are compared with those that lie beside a model as MODEL.ref.json (llama.cpp
on weights decoded to f32), else with transformers' own reading of the GGUF file. Further models are taken by
hand. Exit code 77 (skipped) without torch and transformers; what needs the package gguf is left out without it.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import numpy as np
    import torch
    import transformers
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
try:
    import gguf
except ImportError:
    gguf = None

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
PROMPT = [1, 37, 101, 205, 60, 42, 300, 17]


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def convert(ktjit, source, target, *options):
    done = subprocess.run([ktjit, "convert", source, target, "--device", "cpu", *options], capture_output=True,
                          text=True)
    check(done.returncode == 0, f"{source}: exit code {done.returncode}: {done.stdout} {done.stderr}")


def load(folder, **options):
    """The model in f32; every weight of it was in the files, and every weight of the files is in it."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                                    output_loading_info=True, **options)
    check(not any(info.values()), f"{folder}: {info}")
    return model.eval()


def logits(model, prompt):
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0, -1].double()


def distance(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def greedy(model, prompt, count):
    with torch.no_grad():
        out = model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, eos_token_id=None,
                             pad_token_id=0)
    return out[0, len(prompt):].tolist()


def beside_reference(ktjit, source, folder):
    """A GGUF model as f32 and bf16: the reference's logits and tokens."""
    reference = source.with_name(source.name.removesuffix(".gguf") + ".ref.json")
    convert(ktjit, source, folder / "f32", "--to", "f32", "--all", "--rest", "f32", "--names", "hf")
    convert(ktjit, source, folder / "bf16", "--to", "bf16", "--all", "--names", "hf")
    wide, narrow = load(folder / "f32"), load(folder / "bf16")
    prompt = PROMPT
    if reference.exists():
        facts = json.loads(reference.read_text())["e2e"]
        prompt = facts["prompt_ids"]
        expected = torch.tensor(facts["f32_weights"]["first_step_logits"]).double()
        tokens = facts["f32_weights"]["greedy20"]
        check(greedy(wide, prompt, len(tokens)) == tokens, f"{source.name}: tokens")
        beside = "llama.cpp"
    elif gguf is not None:
        expected = logits(load(source.parent, gguf_file=source.name), prompt)
        beside = "transformers' reading of the GGUF file"
    else:
        return print(f"{source.name}: left out, gguf is not installed")
    errors = [distance(logits(model, prompt), expected) for model in (wide, narrow)]
    print(f"{source.name} beside {beside}: logits differ by {errors[0]:.2g} as f32, {errors[1]:.2g} as bf16")
    # f32: sums in another order. bf16: 2^-9 a weight, a few of them one after another.
    check(errors[0] < 1e-5 and errors[1] < 2e-2, f"{source.name}: logits")


def configs():
    shape = dict(vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=512)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 10000.0}
    moe = dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True)
    yield "llama", transformers.LlamaConfig(**shape)
    yield "llama, linear", transformers.LlamaConfig(
        **shape, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0})
    yield "llama, tied", transformers.LlamaConfig(**shape, tie_word_embeddings=True)
    yield "qwen2, yarn", transformers.Qwen2Config(**shape, rope_parameters=yarn)
    yield "qwen3", transformers.Qwen3Config(**shape, head_dim=32)
    yield "qwen3_moe", transformers.Qwen3MoeConfig(**shape, head_dim=16, **moe)
    mla = dict(shape, num_key_value_heads=4, kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16,
               v_head_dim=16, n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=32,
               first_k_dense_replace=1)
    yield "deepseek_v3", transformers.DeepseekV3Config(**mla, q_lora_rank=32, n_group=2, topk_group=1,
                                                       n_shared_experts=1)
    yield "deepseek_v2", transformers.DeepseekV2Config(**mla, q_lora_rank=None, n_group=1, topk_group=1,
                                                       n_shared_experts=2)


def through_gguf(ktjit, folder):
    """Models of transformers as GGUF and back: the same logits to the bit."""
    for index, (name, config) in enumerate(configs()):
        torch.manual_seed(index)
        config.initializer_range = 0.2
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        start = folder / f"start{index}"
        model.save_pretrained(start)
        convert(ktjit, start, folder / f"{index}.gguf", "--to", "f32", "--all")
        convert(ktjit, folder / f"{index}.gguf", folder / f"back{index}", "--to", "f32", "--all", "--names", "hf",
                "--rest", "f32")
        back = load(folder / f"back{index}")
        long_prompt = [(7 * i + 3) % 320 for i in range(300)]  # yarn and linear differ at far positions
        check(torch.equal(logits(back, long_prompt), logits(model, long_prompt)), f"{name}: logits")
        print(f"{name}: the same logits through GGUF and back")


def llama3_frequencies(ktjit, folder):
    """rope_freqs of a GGUF file as config.json's llama3: the frequencies that transformers makes of it."""
    theta, pairs = 500000.0, 32
    writer = gguf.GGUFWriter(folder / "llama3.gguf", "llama")
    for key, value in {"block_count": 1, "context_length": 131072, "embedding_length": 64, "feed_forward_length": 96,
                       "attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": 64}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.rope.freq_base", theta)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    frequencies = theta ** (-np.arange(pairs) / pairs)
    wavelengths = 2 * np.pi / frequencies
    smooth = np.clip((8192 / wavelengths - 1) / 3, 0, 1)
    divisors = (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32)
    writer.add_tensor("rope_freqs.weight", divisors)
    random = np.random.default_rng(1)
    for name, shape in {"token_embd": (320, 64), "output": (320, 64), "output_norm": (64,), "blk.0.attn_norm": (64,),
                        "blk.0.ffn_norm": (64,), "blk.0.attn_q": (64, 64), "blk.0.attn_k": (64, 64),
                        "blk.0.attn_v": (64, 64), "blk.0.attn_output": (64, 64), "blk.0.ffn_up": (96, 64),
                        "blk.0.ffn_gate": (96, 64), "blk.0.ffn_down": (64, 96)}.items():
        writer.add_tensor(name + ".weight", random.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(ktjit, folder / "llama3.gguf", folder / "llama3", "--to", "bf16", "--names", "hf")
    model = load(folder / "llama3")
    found = model.model.rotary_emb.inv_freq.double().numpy()
    check(np.allclose(found, frequencies / divisors, rtol=1e-5), "llama3: frequencies")
    print(f"llama3: {pairs} frequencies are those of the GGUF file")


def main():
    ktjit = sys.argv[1]
    models = [pathlib.Path(sys.argv[2]) / name for name in ("tiny-llama-q4_k_m.gguf", "tiny-qwen2-iq4_xs.gguf")]
    models += [pathlib.Path(name) for name in sys.argv[3:]]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ["KTJIT_CACHE_DIR"] = str(folder / "cache")
        for index, model in enumerate(models):
            (folder / f"m{index}").mkdir()
            beside_reference(ktjit, model, folder / f"m{index}")
        through_gguf(ktjit, folder)
        if gguf is not None:
            llama3_frequencies(ktjit, folder)


main()
