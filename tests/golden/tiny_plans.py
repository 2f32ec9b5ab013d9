"""The tiny random models that make_tiny_models.py makes: one for each tensor type, each architecture
and each turn that it can take."""

import pathlib

from gguf.constants import GGMLQuantizationType as T

CONTEXT = 2048


class Latent:
    """Latent attention: `joined` files have attn_kv_b, others what attention multiplies by."""

    def __init__(self, rank, rope, nope, value, q_rank=0, joined=False):
        self.rank, self.rope, self.nope, self.value = rank, rope, nope, value
        self.q_rank, self.joined = q_rank, joined


class Plan:
    """One model: its widths, its tensor types, and its turns. `keys` are of its architecture. Where
    llama.cpp knows no such model the reference is its golden. `seed`: another model's name, whose
    values it has too."""

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
        latent=None,
        seed=None,
    ):
        self.name, self.kind, self.d, self.heads, self.kv_heads = name, kind, d, heads, kv_heads
        self.head_dim, self.ff, self.layers, self.kinds = head_dim, ff, layers, kinds or {}
        self.own_output, self.biases, self.rope_factors = own_output, biases, rope_factors
        self.scaling, self.parts = scaling or {}, parts
        self.experts, self.used = experts, used  # of ff values each; none: a dense model
        self.arch, self.keys, self.fused, self.golden = arch, keys or {}, fused, golden
        self.context, self.n_tokens = context, n_tokens  # of the model, and of its golden
        self.latent, self.seed = latent, seed or name

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

V2_LATENT = {"rank": 64, "rope": 16, "nope": 64, "value": 40, "q_rank": 48}
DEEPSEEK_V2 = dict(
    d=96,
    heads=5,
    kv_heads=1,
    head_dim=80,
    ff=100,
    experts=8,
    used=3,
    arch="deepseek2",
    own_output=True,
    keys={
        "leading_dense_block_count": 1,
        "expert_feed_forward_length": 64,
        "expert_shared_count": 1,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
        "expert_weights_scale": 4.0,
    },
    golden="reference",
)

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
        "deepseek2_lite",  # as V2 Lite: one group, queries without a rank of their own
        T.Q8_0,
        d=192,
        heads=4,
        kv_heads=1,
        head_dim=80,
        ff=160,
        layers=3,
        experts=6,
        used=2,
        arch="deepseek2",
        own_output=True,
        latent=Latent(rank=64, rope=16, nope=64, value=32),
        scaling={"type": "yarn", "factor": 4.0, "original_context_length": 256},
        keys={
            "leading_dense_block_count": 1,
            "expert_feed_forward_length": 96,
            "expert_shared_count": 2,
            "rope.scaling.yarn_log_multiplier": 0.0707,
        },
        golden="reference",
    ),
    Plan("deepseek2_v2", T.F32, **DEEPSEEK_V2, latent=Latent(**V2_LATENT, joined=True)),
    Plan(
        "deepseek2_v3",
        T.Q4_1,
        d=192,
        heads=4,
        kv_heads=1,
        head_dim=144,
        ff=160,
        layers=3,
        experts=12,
        used=3,
        arch="deepseek2",
        own_output=True,
        kinds={"attn_k_b": T.Q8_0, "ffn_down_exps": T.Q8_0},
        latent=Latent(rank=128, rope=16, nope=64, value=48, q_rank=96),
        seed="deepseek2_v3 anew",  # no row stands so near between experts that rounding decides
        keys={
            "leading_dense_block_count": 1,
            "expert_feed_forward_length": 64,
            "expert_shared_count": 1,
            "expert_gating_func": 2,
            "expert_group_count": 4,
            "expert_group_used_count": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
        },
        golden="reference",
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

# The same model in a file of the other shape.
TWIN_PLANS = [
    Plan(
        "fused_weights",  # biases stand apart
        T.Q8_0,
        d=192,
        heads=6,
        kv_heads=2,
        head_dim=32,
        ff=256,
        biases=True,
        fused="weights",
        seed="fused",
    ),
    Plan(
        "deepseek2_v2_absorbed",
        T.F32,
        **DEEPSEEK_V2,
        latent=Latent(**V2_LATENT),
        seed="deepseek2_v2",
    ),
]

ALL_PLANS = PLANS + LONG_PLANS + TYPE_PLANS + TWIN_PLANS
