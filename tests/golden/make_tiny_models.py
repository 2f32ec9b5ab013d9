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

CONTEXT = 2048
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


class Plan:
    """One model: its widths, its tensor types, and its turns. `keys` are of its architecture. Where
    llama.cpp knows no such model the reference is its golden."""

    def __init__(
        self,
        name,
        kind,
        *,
        d,
        heads,
        kv_heads,
        head_dim,
        ff,
        layers=2,
        kinds=None,
        own_output=False,
        biases=False,
        rope_factors=None,
        scaling=None,
        parts=1,
        experts=0,
        used=0,
        arch="llama",
        keys=None,
        fused=False,
        golden="llama.cpp",
        context=CONTEXT,
        n_tokens=600,
    ):
        self.name, self.kind, self.d, self.heads, self.kv_heads = name, kind, d, heads, kv_heads
        self.head_dim, self.ff, self.layers, self.kinds = head_dim, ff, layers, kinds or {}
        self.own_output, self.biases, self.rope_factors = own_output, biases, rope_factors
        self.scaling, self.parts = scaling or {}, parts
        self.experts, self.used = experts, used  # of ff values each; none: a dense model
        self.arch, self.keys, self.fused, self.golden = arch, keys or {}, fused, golden
        self.context, self.n_tokens = context, n_tokens  # of the model, and of its golden

    def path(self, folder):
        """The file to open; the first one of a model in parts."""
        name = self.name if self.parts == 1 else f"{self.name}-00001-of-{self.parts:05d}"
        return pathlib.Path(folder) / f"{name}.gguf"


MIXED = {
    "token_embd": T.Q8_0,
    "attn_q": T.Q8_0,
    "attn_k": T.F16,
    "attn_v": T.F32,
    "attn_output": T.Q4_0,
    "ffn_gate": T.Q4_1,
    "ffn_up": T.Q8_0,
    "ffn_down": T.Q4_1,
    "output": T.F16,
}
GROWING = [1.0] * 8 + [1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 8.0]

PLANS = [
    # ff 200 is neither whole tiles of 16 rows nor whole blocks of 32
    Plan("f32", T.F32, d=192, heads=3, kv_heads=1, head_dim=64, ff=200),
    Plan("f16", T.F16, d=200, heads=6, kv_heads=2, head_dim=32, ff=232, own_output=True),
    Plan("q4_0", T.Q4_0, d=192, heads=3, kv_heads=1, head_dim=64, ff=352, own_output=True),
    Plan("q4_1", T.Q4_1, d=192, heads=3, kv_heads=1, head_dim=64, ff=384, layers=3),
    Plan("q8_0", T.Q8_0, d=256, heads=3, kv_heads=1, head_dim=128, ff=288),
    Plan(
        "mixed",
        T.Q8_0,
        d=192,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=352,
        kinds=MIXED,
        own_output=True,
    ),
    Plan(
        "every_head",
        T.Q4_1,
        d=128,
        heads=4,
        kv_heads=4,
        head_dim=32,
        ff=256,
        scaling={"type": "none"},
    ),
    Plan("biases", T.Q8_0, d=192, heads=3, kv_heads=1, head_dim=64, ff=256, biases=True),
    Plan(
        "biases_f32",
        T.F32,
        d=96,
        heads=3,
        kv_heads=1,
        head_dim=32,
        ff=100,
        biases=True,
        own_output=True,
    ),
    Plan(
        "rope_freqs", T.Q4_0, d=192, heads=6, kv_heads=2, head_dim=32, ff=256, rope_factors=GROWING
    ),
    Plan(
        "linear",
        T.Q8_0,
        d=192,
        heads=3,
        kv_heads=1,
        head_dim=64,
        ff=256,
        scaling={"type": "linear", "factor": 4.0},
    ),
    Plan(
        "yarn",
        T.Q8_0,
        d=192,
        heads=3,
        kv_heads=1,
        head_dim=64,
        ff=256,
        scaling={"type": "yarn", "factor": 4.0, "original_context_length": 512},
    ),
    Plan(
        "mixtral",
        T.Q4_1,
        d=192,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=96,
        experts=4,
        used=2,
        kinds={"ffn_down_exps": T.Q8_0},
    ),
    Plan(
        "fused", T.Q8_0, d=192, heads=6, kv_heads=2, head_dim=32, ff=256, biases=True, fused=True
    ),
    Plan(
        "sliding",
        T.F32,
        d=96,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=100,
        layers=4,
        keys={"attention.sliding_window": 100, "attention.sliding_window_pattern": 2},
        golden="reference",
    ),
    Plan(
        "mistral3",
        T.Q8_0,
        d=192,
        heads=6,
        kv_heads=2,
        head_dim=64,
        ff=256,
        arch="mistral3",
        scaling={"type": "yarn", "factor": 16.0, "original_context_length": 128},
        keys={
            "attention.temperature_scale": 0.3,
            "rope.scaling.yarn_log_multiplier": 1.0,
            "rope.scaling.yarn_beta_fast": 16.0,
            "rope.scaling.yarn_beta_slow": 2.0,
        },
    ),
    Plan(
        "qwen2",
        T.Q4_1,
        d=192,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=256,
        arch="qwen2",
        biases=True,
        own_output=True,
    ),
    Plan("qwen3", T.Q8_0, d=192, heads=6, kv_heads=2, head_dim=64, ff=256, arch="qwen3"),
    Plan(
        "qwen2moe",
        T.Q8_0,
        d=192,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=96,
        experts=5,
        used=2,
        arch="qwen2moe",
        own_output=True,
        keys={"expert_feed_forward_length": 96, "expert_shared_feed_forward_length": 160},
    ),
    Plan(
        "qwen3moe",
        T.F32,
        d=96,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=64,
        experts=6,
        used=3,
        arch="qwen3moe",
        keys={"expert_feed_forward_length": 64},
    ),
    Plan(
        "llama4",  # chunks and growth that 600 tokens meet
        T.Q8_0,
        d=192,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=96,
        layers=8,
        experts=4,
        used=1,
        arch="llama4",
        rope_factors=GROWING,
        keys={
            "interleave_moe_layer_step": 2,
            "expert_feed_forward_length": 96,
            "attention.chunk_size": 128,
            "attention.temperature_length": 100,
            "attention.temperature_scale": 0.3,
        },
        golden="reference",
    ),
    Plan(
        "llama4_published",
        T.F32,
        d=96,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=64,
        layers=4,
        experts=4,
        used=1,
        arch="llama4",
        keys={"interleave_moe_layer_step": 1, "expert_feed_forward_length": 64},
    ),
    Plan(
        "split", T.Q4_1, d=192, heads=3, kv_heads=1, head_dim=64, ff=256, own_output=True, parts=2
    ),
]

# Beyond the chunk that a file has without a key of its own, and where queries begin to grow.
LONG_PLANS = [
    Plan(
        "llama4_long",
        T.Q8_0,
        d=64,
        heads=2,
        kv_heads=1,
        head_dim=32,
        ff=64,
        layers=4,
        experts=4,
        used=1,
        arch="llama4",
        keys={"interleave_moe_layer_step": 2, "expert_feed_forward_length": 64},
        golden="reference",
        context=16384,
        n_tokens=8300,
    ),
]

# One of each further type, and the mixes that published files have (models.md 2.3). Their goldens
# are computed where they are needed: by reference.py, over the dequantised file.
BLOCKS_256 = dict(d=256, heads=4, kv_heads=1, head_dim=64, ff=512)
TYPE_PLANS = [
    Plan("bf16", T.BF16, d=200, heads=6, kv_heads=2, head_dim=32, ff=232, own_output=True),
    Plan("q5_0", T.Q5_0, d=192, heads=3, kv_heads=1, head_dim=64, ff=352),
    Plan("q5_1", T.Q5_1, d=192, heads=3, kv_heads=1, head_dim=64, ff=352, own_output=True),
    Plan("iq4_nl", T.IQ4_NL, d=192, heads=3, kv_heads=1, head_dim=64, ff=288),
    Plan("mxfp4", T.MXFP4, d=192, heads=3, kv_heads=1, head_dim=64, ff=288),
    Plan("q2_k", T.Q2_K, **BLOCKS_256),
    Plan("q3_k", T.Q3_K, **BLOCKS_256),
    Plan("q4_k", T.Q4_K, **BLOCKS_256, own_output=True),
    Plan("q5_k", T.Q5_K, **BLOCKS_256),
    Plan("q6_k", T.Q6_K, **BLOCKS_256),
    Plan("iq4_xs", T.IQ4_XS, **BLOCKS_256),
    Plan(
        "q4_k_m",
        T.Q4_K,
        **BLOCKS_256,
        kinds={"token_embd": T.Q6_K, "attn_v": T.Q6_K, "ffn_down": T.Q6_K},
    ),
    Plan(
        "q3_k_m",
        T.Q3_K,
        **BLOCKS_256,
        kinds={"attn_v": T.Q5_K, "attn_output": T.Q4_K, "ffn_up": T.Q2_K, "ffn_down": T.Q4_K},
        own_output=True,
    ),
    Plan(  # rows of 192 values are no blocks of 256
        "q4_k_m_narrow",
        T.Q5_0,
        d=192,
        heads=3,
        kv_heads=1,
        head_dim=64,
        ff=352,
        kinds={"token_embd": T.Q8_0, "attn_k": T.BF16, "attn_v": T.Q8_0, "ffn_up": T.Q5_1},
    ),
]

ALL_PLANS = PLANS + LONG_PLANS + TYPE_PLANS


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


def fuse(block, *parts):
    """Weights, then biases, of q, k and v one below the other."""
    for of_one_kind in zip(*(list(part) for part in parts)):
        kind = of_one_kind[0][0].rsplit(".", 1)[1]
        values = np.concatenate([values for _, values, _ in of_one_kind])
        yield f"{block}.attn_qkv.{kind}", values, of_one_kind[0][2]


def tensors_of(plan, units=None):
    """(name, float32 values [out, in] or blocks, type) in file order."""
    dice, d = Dice(plan.name, units), plan.d
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
        queries = matrix(f"{block}.attn_q.weight", q_width, d, gain=1.5)
        keys = matrix(f"{block}.attn_k.weight", kv_width, d, gain=1.5)
        values = matrix(f"{block}.attn_v.weight", kv_width, d)
        yield from fuse(block, queries, keys, values) if plan.fused else (
            *queries,
            *keys,
            *values,
        )
        if plan.arch in ("qwen3", "qwen3moe"):
            yield from norm(f"{block}.attn_q_norm.weight", plan.head_dim)
            yield from norm(f"{block}.attn_k_norm.weight", plan.head_dim)
        yield from matrix(f"{block}.attn_output.weight", d, q_width, gain=0.7)
        yield from norm(f"{block}.ffn_norm.weight")
        if plan.experts and (layer + 1) % plan.keys.get("interleave_moe_layer_step", 1) == 0:
            # chosen by wide margins, mostly
            router = dice.values((plan.experts, d), 3 / d**0.5)
            yield f"{block}.ffn_gate_inp.weight", router, T.F32
            yield from experts(f"{block}.ffn_gate_exps.weight", plan.ff, d)
            yield from experts(f"{block}.ffn_up_exps.weight", plan.ff, d)
            yield from experts(f"{block}.ffn_down_exps.weight", d, plan.ff, gain=0.7)
            if plan.arch == "qwen2moe":
                gate = dice.values((d,), 1 / d**0.5)
                yield f"{block}.ffn_gate_inp_shexp.weight", gate, T.F32
                yield from shared(block, plan.keys["expert_shared_feed_forward_length"])
            if plan.arch == "llama4":
                yield from shared(block, plan.ff)
            continue
        yield from matrix(f"{block}.ffn_gate.weight", plan.ff, d)
        yield from matrix(f"{block}.ffn_up.weight", plan.ff, d)
        yield from matrix(f"{block}.ffn_down.weight", d, plan.ff, gain=0.7)
    yield from norm("output_norm.weight")
    if plan.own_output:
        yield from matrix("output.weight", N_VOCABULARY, d, gain=3.0)


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
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
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
    source = pathlib.Path(__file__).read_bytes()
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
