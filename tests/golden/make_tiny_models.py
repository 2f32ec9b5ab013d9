#!/usr/bin/env python3
"""Makes tiny random models, one for each tensor type, each architecture and each turn that it can
take.

    make_tiny_models.py [--into DIR]        default: build/tiny

Deterministic to the byte: weights are sums of integers from a seeded generator times a constant, so
that no mathematical library takes part, and the goldens beside this script name the SHA-256 of the
files that they are of.
"""

import argparse
import fcntl
import hashlib
import pathlib
import sys
import zlib
from importlib import metadata

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType as T

from tiny_plans import ALL_PLANS, LONG_PLANS, PLANS, TYPE_PLANS, Plan  # noqa: F401

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
MERGES = (
    "Ġ t;h e;i n;Ġ a;r e;o n;Ġt he;e r;a t;Ġ s;o r;Ġ w;Ġ o;i s;e n;i t;n d;Ġ c;Ġ b;e s;Ġo f;Ġa nd;"
    "in g;e d;"
    "Ġt o;a l;o u;Ġ f;Ġ in;Ġ p;a r;l e;Ġ m;r o;Ġ d;Ġ h;i c;a n;Ġ is;Ġ it"
).split(";")
TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_texts():
    """GPT-2's printable stand-in of each byte, in byte order."""
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    moved = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(moved)) for byte in range(256)]


def vocabulary():
    texts = SPECIALS + byte_texts() + [merge.replace(" ", "") for merge in MERGES]
    kinds = [gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * (256 + len(MERGES))
    return texts, kinds


N_VOCABULARY = len(vocabulary()[0])


class Dice:
    """Bell-shaped values of a given spread, by integers alone until the one last product."""

    def __init__(self, name, units=None):
        self.units = units or UNIT
        self.rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))

    def values(self, shape, spread, centre=0.0):
        half = 1 << 20
        total = self.rng.integers(-half, half, size=(4, *shape), dtype=np.int64).sum(axis=0)
        deviation = 2 * half / 3**0.5  # of the sum of four uniform integers
        return (total * (spread / deviation) + centre).astype(np.float32)

    def blocks(self, shape, kind, spread):
        """Random blocks of a type that the gguf package does not write, [out, bytes of a row]."""
        out, width = shape
        block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        deviation, places, ratio = self.units[kind]
        n = out * width // block_values
        raw = self.rng.integers(0, 256, size=(n, block_bytes), dtype=np.uint8)
        steps = self.rng.integers(0, 8, size=n)
        d = spread / deviation * (1 + steps % 4 / 8) * np.where(steps < 4, 1, -1)
        for at, factor in zip(places, (1.0, ratio), strict=False):
            halves = (d * factor).astype("<f2").view(np.uint8).reshape(n, 2)
            raw[:, at : at + 2] = halves
        return raw.reshape(out, width // block_values * block_bytes)


# Of random blocks with d = 1: the values' deviation, where d and dmin stand, and the dmin that
# leaves them no mean.
UNIT = {
    T.Q2_K: (13.9, (80, 82), 1.5),
    T.Q3_K: (43.5, (108,), 0),
    T.Q4_K: (258.0, (0, 2), 7.5),
    T.Q5_K: (529.0, (0, 2), 15.5),
    T.Q6_K: (1364.0, (208,), 0),
    T.IQ4_NL: (67.4, (0,), 0),
    T.IQ4_XS: (1247.0, (0,), 0),
}


def fuse(block, what, *parts):
    """Weights, then biases, of q, k and v one below the other; or weights alone."""
    for of_one_kind in zip(*(list(part) for part in parts)):
        kind = of_one_kind[0][0].rsplit(".", 1)[1]
        if what == "weights" and kind == "bias":
            yield from of_one_kind
            continue
        values = np.concatenate([values for _, values, _ in of_one_kind])
        yield f"{block}.attn_qkv.{kind}", values, of_one_kind[0][2]


def tensors_of(plan, units=None):
    """(name, float32 values [out, in] or blocks, type) in file order."""
    dice, d = Dice(plan.seed, units), plan.d
    q_width, kv_width = plan.heads * plan.head_dim, plan.kv_heads * plan.head_dim

    def matrix(name, out, width, gain=1.0):
        kind, spread = plan.kinds.get(name.split(".")[-2], plan.kind), gain / width**0.5
        if kind in dice.units:
            yield name, dice.blocks((out, width), kind, spread), kind
        else:
            yield name, dice.values((out, width), spread), kind
        if has_bias(name):
            yield name.replace(".weight", ".bias"), dice.values((out,), 0.3), T.F32

    def experts(name, out, width, gain=1.0):
        kind, spread = plan.kinds.get(name.split(".")[-2], plan.kind), gain / width**0.5
        if kind in dice.units:
            blocks = dice.blocks((plan.experts * out, width), kind, spread)
            yield name, blocks.reshape(plan.experts, out, -1), kind
        else:
            yield name, dice.values((plan.experts, out, width), spread), kind

    def latent_attention(block):
        latent = plan.latent
        q_width, source = plan.heads * (latent.nope + latent.rope), d
        if latent.q_rank > 0:
            yield from matrix(f"{block}.attn_q_a.weight", latent.q_rank, d)
            yield from norm(f"{block}.attn_q_a_norm.weight", latent.q_rank)
            source = latent.q_rank
        name = "attn_q_b" if latent.q_rank > 0 else "attn_q"
        yield from matrix(f"{block}.{name}.weight", q_width, source, gain=1.5)
        yield from matrix(f"{block}.attn_kv_a_mqa.weight", latent.rank + latent.rope, d)
        yield from norm(f"{block}.attn_kv_a_norm.weight", latent.rank)
        n_joined = plan.heads * (latent.nope + latent.value)
        [joined] = matrix(f"{block}.attn_kv_b.weight", n_joined, latent.rank, gain=1.5)
        if latent.joined:
            yield joined
        else:
            heads = joined[1].reshape(plan.heads, latent.nope + latent.value, latent.rank)
            keys = np.ascontiguousarray(heads[:, : latent.nope].transpose(0, 2, 1))
            values = np.ascontiguousarray(heads[:, latent.nope :])
            yield f"{block}.attn_k_b.weight", keys, plan.kinds.get("attn_k_b", plan.kind)
            yield f"{block}.attn_v_b.weight", values, plan.kinds.get("attn_v_b", plan.kind)
        out_width = plan.heads * latent.value
        yield from matrix(f"{block}.attn_output.weight", d, out_width, gain=0.7)

    def plain_attention(block):
        queries = matrix(f"{block}.attn_q.weight", q_width, d, gain=1.5)
        keys = matrix(f"{block}.attn_k.weight", kv_width, d, gain=1.5)
        values = matrix(f"{block}.attn_v.weight", kv_width, d)
        yield from fuse(block, plan.fused, queries, keys, values) if plan.fused else (
            *queries,
            *keys,
            *values,
        )
        if plan.arch in ("qwen3", "qwen3moe"):
            yield from norm(f"{block}.attn_q_norm.weight", plan.head_dim)
            yield from norm(f"{block}.attn_k_norm.weight", plan.head_dim)
        yield from matrix(f"{block}.attn_output.weight", d, q_width, gain=0.7)

    def has_experts(layer):
        if plan.arch == "deepseek2":
            return layer >= plan.keys["leading_dense_block_count"]
        return plan.experts and (layer + 1) % plan.keys.get("interleave_moe_layer_step", 1) == 0

    def shared(block, width):
        yield from matrix(f"{block}.ffn_gate_shexp.weight", width, d)
        yield from matrix(f"{block}.ffn_up_shexp.weight", width, d)
        yield from matrix(f"{block}.ffn_down_shexp.weight", d, width, gain=0.7)

    def has_bias(name):
        if plan.arch in ("qwen2", "qwen2moe"):  # of q, k and v, and of the output matrix
            without = ("attn_output", "ffn", "embd") + (("output",) if plan.experts else ())
            return not any(part in name for part in without)
        return plan.biases and name.startswith("blk.")

    def norm(name, width=d):
        yield name, dice.values((width,), 0.2, centre=1.0), T.F32

    yield from matrix("token_embd.weight", N_VOCABULARY, d, gain=3.0)
    if plan.rope_factors:
        yield "rope_freqs.weight", np.array(plan.rope_factors, dtype=np.float32), T.F32
    for layer in range(plan.layers):
        block = f"blk.{layer}"
        yield from norm(f"{block}.attn_norm.weight")
        yield from latent_attention(block) if plan.latent else plain_attention(block)
        yield from norm(f"{block}.ffn_norm.weight")
        if has_experts(layer):
            ff = plan.keys.get("expert_feed_forward_length", plan.ff)
            # chosen by wide margins, mostly
            router = dice.values((plan.experts, d), 3 / d**0.5)
            yield f"{block}.ffn_gate_inp.weight", router, T.F32
            yield from experts(f"{block}.ffn_gate_exps.weight", ff, d)
            yield from experts(f"{block}.ffn_up_exps.weight", ff, d)
            yield from experts(f"{block}.ffn_down_exps.weight", d, ff, gain=0.7)
            if "expert_gating_func" in plan.keys:
                yield f"{block}.exp_probs_b.bias", dice.values((plan.experts,), 0.1), T.F32
            if plan.arch == "qwen2moe":
                gate = dice.values((d,), 1 / d**0.5)
                yield f"{block}.ffn_gate_inp_shexp.weight", gate, T.F32
                yield from shared(block, plan.keys["expert_shared_feed_forward_length"])
            if plan.arch in ("llama4", "deepseek2"):
                yield from shared(block, plan.keys.get("expert_shared_count", 1) * ff)
            continue
        yield from matrix(f"{block}.ffn_gate.weight", plan.ff, d)
        yield from matrix(f"{block}.ffn_up.weight", plan.ff, d)
        yield from matrix(f"{block}.ffn_down.weight", d, plan.ff, gain=0.7)
    yield from norm("output_norm.weight")
    if plan.own_output:
        yield from matrix("output.weight", N_VOCABULARY, d, gain=3.0)


def add_latent_keys(writer, plan):
    latent = plan.latent
    writer.add_rope_dimension_count(latent.rope)
    writer.add_kv_lora_rank(latent.rank)
    if latent.q_rank > 0:
        writer.add_q_lora_rank(latent.q_rank)
    if latent.joined:
        writer.add_head_count_kv(plan.heads)
        writer.add_key_length(latent.nope + latent.rope)
        writer.add_value_length(latent.value)
    else:
        writer.add_head_count_kv(1)
        writer.add_key_length(latent.rank + latent.rope)
        writer.add_value_length(latent.rank)
        writer.add_key_length_mla(latent.nope + latent.rope)
        writer.add_value_length_mla(latent.value)


def add_keys(writer, plan):
    writer.add_name(f"tiny-{plan.name}")
    writer.add_context_length(plan.context)
    writer.add_embedding_length(plan.d)
    writer.add_block_count(plan.layers)
    writer.add_feed_forward_length(plan.ff)
    if plan.experts:
        writer.add_expert_count(plan.experts)
        writer.add_expert_used_count(plan.used)
    writer.add_head_count(plan.heads)
    if plan.latent:
        add_latent_keys(writer, plan)
    else:
        writer.add_head_count_kv(plan.kv_heads)
        writer.add_key_length(plan.head_dim)
        writer.add_value_length(plan.head_dim)
        writer.add_rope_dimension_count(plan.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCABULARY)
    if "type" in plan.scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType(plan.scaling["type"]))
    if "factor" in plan.scaling:
        writer.add_rope_scaling_factor(plan.scaling["factor"])
    if "original_context_length" in plan.scaling:
        writer.add_rope_scaling_orig_ctx_len(plan.scaling["original_context_length"])
    for key, value in plan.keys.items():
        add = {float: writer.add_float32, bool: writer.add_bool}.get(type(value), writer.add_uint32)
        add(f"{plan.arch}.{key}", value)
    texts, kinds = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(3)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def write_model(plan, path, tensors):
    per_part = -(-len(tensors) // plan.parts) if plan.parts > 1 else 0
    writer = gguf.GGUFWriter(path, plan.arch, split_max_tensors=per_part)
    add_keys(writer, plan)
    for name, values, kind in tensors:
        if kind in (T.F32, T.F16):
            writer.add_tensor(name, values.astype(np.float32 if kind == T.F32 else np.float16))
        elif values.dtype == np.uint8:
            writer.add_tensor(name, values, raw_dtype=kind)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sha256_of(path):
    """Of one file, or of all parts of a split model in their order."""
    digest = hashlib.sha256()
    parts = [path]
    if "-00001-of-" in path.name:
        parts = sorted(path.parent.glob(path.name.replace("-00001-of-", "-*-of-")))
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()


def make_all(folder):
    """Makes what is not there yet of this very script and gguf version; returns {name: path to
    open}."""
    folder = pathlib.Path(folder)
    here = pathlib.Path(__file__).resolve().parent
    parts = [(here / name).read_bytes() for name in ("make_tiny_models.py", "tiny_plans.py")]
    source = b"".join(parts)
    seal = hashlib.sha256(source).hexdigest() + f" gguf {metadata.version('gguf')} numpy {np.__version__}\n"
    stamp = folder / "made-by.txt"
    paths = {plan.name: plan.path(folder) for plan in ALL_PLANS}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # suites that run side by side make them once
        make_where_missing(folder, stamp, seal, paths)
    return paths


def make_where_missing(folder, stamp, seal, paths):
    if (
        stamp.exists()
        and stamp.read_text() == seal
        and all(path.exists() for path in paths.values())
    ):
        return
    stamp.unlink(missing_ok=True)
    for plan in ALL_PLANS:
        for old in folder.glob(f"{plan.name}*.gguf"):
            if old == paths[plan.name] or plan.parts > 1:
                old.unlink()
        write_model(plan, folder / f"{plan.name}.gguf", list(tensors_of(plan)))
    stamp.write_text(seal)


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--into", type=pathlib.Path, default=root / "build" / "tiny", metavar="DIR")
    for name, path in make_all(parser.parse_args().into).items():
        print(
            f"{name:12} {path.stat().st_size:9,} bytes  {sha256_of(path)[:16]}  {path}",
            file=sys.stdout,
        )


if __name__ == "__main__":
    main()
