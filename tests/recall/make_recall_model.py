#!/usr/bin/env python3
"""Writes the recall model: weights by construction, without training, that continue any text whose
last 8 tokens stood once in the context with the token that followed them there.

    make_recall_model.py [--layers 4|8] [--vocabulary FILE] [--output FILE]
    make_recall_model.py --search 200       the seed of the angles, found again

README.md beside this script explains the construction. The file is an ordinary llama4 model.
"""

import argparse
import pathlib
import sys

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOCABULARY = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"

CONTEXT = 160 * 8192
CHUNK = 8192
D, N_HEADS, HEAD_DIM, N_FF = 384, 2, 256, 32
EPS = 1e-5
FREQ_BASE = 500000.0
ANGLE_SEED = 164  # --search 200: all other positions weigh 1.5e-3
CODE = 32
KEY_TOKENS = 8  # tokens that a question must match
SHARPNESS = 32.0  # of the global layer's queries

# Where the parts of the residual stand.
CUR = 0
PREV = CUR + CODE  # prev1 to prev8
ECHO = PREV + KEY_TOKENS * CODE  # of the model with 8 layers
OUT = ECHO + CODE
ONE = OUT + CODE  # a constant


def codes_of(n_ids):
    """[n_ids, 32] of +-1: the 16 bits of an id by the Reed-Muller code of order 2 in 5 variables,
    in which two words differ in at least 8 places."""
    x = (np.arange(CODE)[None, :] >> np.arange(5)[:, None]) & 1
    monomials = [np.ones(CODE, dtype=np.int64), *x]
    monomials += [x[i] & x[j] for i in range(5) for j in range(i)]
    bits = (np.arange(n_ids)[:, None] >> np.arange(len(monomials))[None, :]) & 1
    return (1 - 2 * (bits @ np.array(monomials) % 2)).astype(np.float32)


def angles_of(seed):
    """The angle of each pair a position, uniform in (0, pi); the largest first, as by nature."""
    return np.sort(np.random.default_rng(seed).uniform(0, np.pi, HEAD_DIM // 2))[::-1]


def leak_of(angles):
    """What all other positions of a chunk weigh against the one that is copied."""
    apart = np.arange(1, CHUNK)
    alike = np.cos(apart[:, None] * angles[None, :]).mean(axis=1)
    return np.exp(HEAD_DIM**0.5 * (alike - 1)).sum()


def blank_layer():
    return {
        "attn_q": np.zeros((N_HEADS * HEAD_DIM, D)),
        "attn_k": np.zeros((HEAD_DIM, D)),
        "attn_v": np.zeros((HEAD_DIM, D)),
        "attn_output": np.zeros((D, N_HEADS * HEAD_DIM)),
    }


def copy_parts(matrix, row, column, n_parts):
    """n_parts codes from `column` on to `row` on."""
    for i in range(n_parts * CODE):
        matrix[row + i, column + i] = 1


def copying_layer(offsets, n_parts, angles):
    """Head h copies the first n_parts codes of the token offsets[h] before, to where they belong: a
    query turned back by the offset meets the key of that position and of no other."""
    layer = blank_layer()
    layer["attn_k"][0::2, ONE] = 1
    copy_parts(layer["attn_v"], 0, CUR, n_parts)
    for head, offset in enumerate(offsets):
        queries = layer["attn_q"][head * HEAD_DIM :][:HEAD_DIM]
        queries[0::2, ONE] = np.cos(offset * angles)
        queries[1::2, ONE] = -np.sin(offset * angles)
        copy_parts(layer["attn_output"], PREV + (offset - 1) * CODE, head * HEAD_DIM, n_parts)
    return layer


def matching_layer(keys_from, values_from, values_to):
    """Queries of the last 8 tokens against keys of 8: the value of the one that matches."""
    layer = blank_layer()
    copy_parts(layer["attn_q"], 0, CUR, KEY_TOKENS)
    layer["attn_q"] *= SHARPNESS
    copy_parts(layer["attn_k"], 0, keys_from, KEY_TOKENS)
    copy_parts(layer["attn_v"], 0, values_from, 1)
    copy_parts(layer["attn_output"], values_to, 0, 1)
    return layer


def layers_of(n_layers, angles):
    """(tensors of a layer, parts of the residual that are +-1 before it) of each layer."""
    copies = [
        (copying_layer((1, 2), 1, angles), 1),
        (copying_layer((3, 6), 3, angles), 3),
        (blank_layer(), 9),
    ]
    if n_layers == 4:
        return [*copies, (matching_layer(PREV, CUR, OUT), 9)]
    echo = matching_layer(CUR, CUR, ECHO)  # every row finds itself in all of the context
    blank = [(blank_layer(), 10)] * 3
    return [*copies, (echo, 9), *blank, (matching_layer(PREV, ECHO, OUT), 10)]


def undo_norm(n_parts):
    """The weight that gives a residual of so many codes and the constant back as it was."""
    return np.full(D, np.sqrt((n_parts * CODE + 1) / D + EPS))


def tensors_of(n_layers, n_ids):
    """(name, values) in file order: F16 of what holds a value for each id, the rest F32."""
    angles, codes = angles_of(ANGLE_SEED), codes_of(n_ids)
    embedding = np.zeros((n_ids, D), dtype=np.float16)
    embedding[:, CUR : CUR + CODE] = codes
    embedding[:, ONE] = 1
    yield "token_embd.weight", embedding
    natural = FREQ_BASE ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    yield "rope_freqs.weight", natural / angles
    for i, (layer, n_parts) in enumerate(layers_of(n_layers, angles)):
        yield f"blk.{i}.attn_norm.weight", undo_norm(n_parts)
        for name, values in layer.items():
            yield f"blk.{i}.{name}.weight", values
        yield f"blk.{i}.ffn_norm.weight", np.ones(D)
        for name, shape in (("gate", (N_FF, D)), ("up", (N_FF, D)), ("down", (D, N_FF))):
            yield f"blk.{i}.ffn_{name}.weight", np.zeros(shape)
    yield "output_norm.weight", undo_norm(10 if n_layers == 4 else 11)
    head = np.zeros((n_ids, D), dtype=np.float16)
    head[:, OUT : OUT + CODE] = codes
    yield "output.weight", head


def add_keys(writer, n_layers, vocabulary):
    writer.add_name(f"recall-{n_layers}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(D)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(N_FF)
    writer.add_expert_feed_forward_length(N_FF)
    writer.add_expert_count(1)
    writer.add_expert_used_count(1)
    writer.add_interleave_moe_layer_step(1000)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(FREQ_BASE)
    writer.add_layer_norm_rms_eps(EPS)
    for field in vocabulary.fields.values():  # raw prompts only: no template
        if field.name.startswith("tokenizer.") and "chat_template" not in field.name:
            of = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)


def write_model(path, n_layers, vocabulary_path=VOCABULARY):
    vocabulary = gguf.GGUFReader(vocabulary_path)
    n_ids = len(vocabulary.fields["tokenizer.ggml.tokens"].data)
    if n_ids > 1 << 16:
        raise ValueError(f"{n_ids} tokens, and a code has 16 bits: at most {1 << 16}")
    writer = gguf.GGUFWriter(path, "llama4")
    add_keys(writer, n_layers, vocabulary)
    writer.add_vocab_size(n_ids)
    for name, values in tensors_of(n_layers, n_ids):
        writer.add_tensor(name, values if values.dtype == np.float16 else values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def search(n_seeds):
    leaks = []
    for seed in range(n_seeds):
        leaks.append(leak_of(angles_of(seed)))
        if sys.stderr.isatty():
            print(f"\rseed {seed + 1} of {n_seeds}", end="", file=sys.stderr)
    best = int(np.argmin(leaks))
    print(f"seed {best}: the other positions of a chunk weigh {leaks[best]:.2e}; "
          f"median of {n_seeds} seeds {np.median(leaks):.2e}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, choices=(4, 8), default=4)
    parser.add_argument("--vocabulary", type=pathlib.Path, default=VOCABULARY,
                        help="a GGUF file whose tokenizer is taken (default: the fetched model)")
    parser.add_argument("--output", type=pathlib.Path, help="default build/recall-LAYERS.gguf")
    parser.add_argument("--search", type=int, metavar="SEEDS")
    options = parser.parse_args()
    if options.search:
        search(options.search)
        return
    path = options.output or ROOT / "build" / f"recall-{options.layers}.gguf"
    write_model(path, options.layers, options.vocabulary)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
