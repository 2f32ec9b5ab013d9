#!/usr/bin/env python3
"""Writes a model of the shape of Llama 3.2 1B whose matrices are random: for speed, where values do
not matter and published files of a tensor type are not at hand.

    build/venv/bin/python bench/synthetic_model.py --type Q4_K --output FILE

16 layers, 2048 wide, 32 heads of 64 over 8, feed-forward 8192, 128,256 tokens, the embedding also
the head: 1.24e9 parameters, all matrices of one type. Blocks are random bits under scales that keep
what passes through at its size. The vocabulary is bytes and numbered words.
"""

import argparse
import pathlib
import sys

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType as T

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden"))

import make_tiny_models  # noqa: E402
from make_cell_models import UNITS  # noqa: E402

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, FF, VOCABULARY = 16, 2048, 32, 8, 64, 8192, 128256
TYPES = ("Q4_0", "Q4_K", "Q6_K", "Q8_0", "BF16")
AT_ONCE = 1 << 20  # values of a float type


def random_matrix(rng, dice, kind, out, width, gain):
    """[out, bytes of a row]"""
    spread = gain / width**0.5
    if kind != T.BF16:
        return dice.blocks((out, width), kind, spread)
    pool = (rng.standard_normal(AT_ONCE, dtype=np.float32) * spread).view(np.uint32) >> 16
    starts = rng.integers(0, AT_ONCE - width, size=out)
    rows = pool.astype(np.uint16)[starts[:, None] + np.arange(width)]
    return rows.view(np.uint8)


def matrices():
    """(name, outputs, inputs, gain)"""
    yield "token_embd.weight", VOCABULARY, WIDTH, 3.0
    for layer in range(LAYERS):
        block, kv = f"blk.{layer}", KV_HEADS * HEAD_DIM
        yield f"{block}.attn_q.weight", HEADS * HEAD_DIM, WIDTH, 1.5
        yield f"{block}.attn_k.weight", kv, WIDTH, 1.5
        yield f"{block}.attn_v.weight", kv, WIDTH, 1.0
        yield f"{block}.attn_output.weight", WIDTH, HEADS * HEAD_DIM, 0.3
        yield f"{block}.ffn_gate.weight", FF, WIDTH, 1.0
        yield f"{block}.ffn_up.weight", FF, WIDTH, 1.0
        yield f"{block}.ffn_down.weight", WIDTH, FF, 0.3


def add_keys(writer, kind):
    writer.add_name(f"random 1B {kind.name}")
    writer.add_context_length(131072)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    texts, kinds = make_tiny_models.vocabulary()
    n = VOCABULARY - len(texts)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(texts + [f"w{i}" for i in range(n)])
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * n)
    writer.add_token_merges(make_tiny_models.MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def write(path, name):
    """The file appears under its name when it is whole."""
    kind, path = T[name], pathlib.Path(path)
    unfinished = path.with_suffix(".part")
    rng, dice = np.random.Generator(np.random.PCG64(1)), make_tiny_models.Dice(name, UNITS)
    writer = gguf.GGUFWriter(unfinished, "llama")
    add_keys(writer, kind)
    ones = np.ones(WIDTH, dtype=np.float32)
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    for matrix, out, width, gain in matrices():
        raw = random_matrix(rng, dice, kind, out, width, gain)
        writer.add_tensor(matrix, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--type", required=True, choices=TYPES)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    options = parser.parse_args()
    write(options.output, options.type)


if __name__ == "__main__":
    main()
