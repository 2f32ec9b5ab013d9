"""Tiny random models for the table of families and tensor types: one for each cell, all of its
matrices, the embedding and the head of the one type. Made where they are needed, to the byte the
same each time."""

from gguf.constants import GGMLQuantizationType as T

from make_tiny_models import UNIT, tensors_of, write_model
from tiny_plans import Latent, Plan

KINDS = {
    kind.name: kind
    for kind in (
        T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K,
        T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.MXFP4,
    )
}
# Blocks are random ones of all types but MXFP4, whose scales are no halves.
UNITS = UNIT | {
    T.Q4_0: (4.6, (0,), 0),
    T.Q4_1: (4.6, (0, 2), -7.5),
    T.Q5_0: (9.2, (0,), 0),
    T.Q5_1: (9.2, (0, 2), -15.5),
    T.Q8_0: (73.9, (0,), 0),
}
# rows of 256 values: whole blocks of every type
SHAPE = dict(d=256, heads=4, kv_heads=2, head_dim=64, ff=256)
EXPERTS = dict(experts=4, used=2)
FF = {"expert_feed_forward_length": 256}
FAMILIES = {
    "llama": dict(own_output=True),
    "llama, fused": dict(fused=True, biases=True),
    "llama, sliding": dict(
        keys={"attention.sliding_window": 40, "attention.sliding_window_pattern": 2}
    ),
    "llama, experts": EXPERTS,
    "mistral3": dict(
        arch="mistral3",
        scaling={"type": "yarn", "factor": 16.0, "original_context_length": 32},
        keys={"attention.temperature_scale": 0.3, "rope.scaling.yarn_log_multiplier": 1.0},
    ),
    "qwen2": dict(arch="qwen2", biases=True, own_output=True),
    "qwen3": dict(arch="qwen3"),
    "qwen2moe": dict(
        arch="qwen2moe", own_output=True, keys={**FF, "expert_shared_feed_forward_length": 256},
        **EXPERTS,
    ),
    "qwen3moe": dict(arch="qwen3moe", keys=FF, **EXPERTS),
    "llama4": dict(
        arch="llama4", layers=4, experts=4, used=1,
        keys={
            **FF,
            "interleave_moe_layer_step": 2,
            "attention.chunk_size": 32,
            "attention.temperature_length": 20,
            "attention.temperature_scale": 0.3,
        },
    ),
    "deepseek2": dict(  # keys and values of a head in one matrix, which is taken apart at load
        arch="deepseek2", own_output=True, kv_heads=1, head_dim=80, experts=8, used=2,
        latent=Latent(rank=256, rope=16, nope=64, value=64, q_rank=256, joined=True),
        keys={
            **FF,
            "leading_dense_block_count": 1,
            "expert_shared_count": 1,
            "expert_group_count": 4,
            "expert_group_used_count": 2,
            "expert_weights_scale": 4.0,
        },
    ),
}
# Where rounding decides between two experts, or a random model magnifies it, other dice are taken.
# Of qwen2 in Q5_K one row in 75 was 0.13 off with keys in f16; with f32 pages, and activations of f32,
# it is 9e-5.
OTHER_DICE = {
    ("qwen2", "Q5_K"): " again",
    ("qwen2moe", "F16"): " again",
    ("qwen3moe", "F32"): " again",
    ("deepseek2", "BF16"): " again",
    ("deepseek2", "Q5_1"): " again",
    ("deepseek2", "IQ4_XS"): " again",
}


def plan_of(family, kind):
    dice = OTHER_DICE.get((family, kind), "")
    return Plan(f"{family} {kind}{dice}", KINDS[kind], **{**SHAPE, **FAMILIES[family]})


def make_cell(family, kind, path):
    """Returns the name that the dice were thrown by."""
    plan = plan_of(family, kind)
    write_model(plan, path, list(tensors_of(plan, UNITS)))
    return plan.name
