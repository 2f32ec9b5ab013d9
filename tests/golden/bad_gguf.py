#!/usr/bin/env python3
"""Makes a folder of broken GGUF files out of a sound one, each broken in one way and named after
it.

    bad_gguf.py --from MODEL.gguf --into DIR

The container is written here byte by byte, since a proper writer refuses to write what these files
hold. Each case comes with words, one of which the refusal has to hold: a reader that refuses for
another reason has missed the fault.
"""

import argparse
import pathlib
import struct

from gguf_bytes import (
    ARRAY,
    F32,
    File,
    I32,
    STRING,
    Tensor,
    U8,
    U16,
    U32,
    U64,
    array,
    number,
    string,
)

CASES = []


def case(name, *words):
    """Registers a function that breaks a File (or returns the bytes itself)."""

    def register(function):
        CASES.append((name, words, function))
        return function

    return register


def quick(name, words, change):
    CASES.append((name, words, change))


# --- the header ---
quick("magic_is_not_gguf", ("GGUF",), lambda f: setattr(f, "magic", b"GGML"))
quick("version_1", ("version",), lambda f: setattr(f, "version", 1))
quick("version_4", ("version",), lambda f: setattr(f, "version", 4))
quick("version_of_the_other_endianness", ("endian",), lambda f: setattr(f, "version", 3 << 24))
quick("a_billion_keys", ("key",), lambda f: setattr(f, "n_keys", 1 << 30))
quick("more_keys_than_64_bits_of_bytes", ("key",), lambda f: setattr(f, "n_keys", (1 << 64) - 1))
quick("a_billion_tensors", ("tensor",), lambda f: setattr(f, "n_tensors", 1 << 30))
quick(
    "more_tensors_than_64_bits_of_bytes",
    ("tensor",),
    lambda f: setattr(f, "n_tensors", (1 << 64) - 1),
)
# (with its vocabulary, such a file serves Tokenize)
quick(
    "no_tensors",
    ("tensor",),
    lambda f: (f.tensors.clear(), f.drop("tokenizer.ggml.tokens")),
)
quick("no_keys", ("key", "architecture"), lambda f: f.keys.clear())
quick("empty_file", ("GGUF", "bytes", "empty"), lambda f: b"")
quick("text_file", ("GGUF",), lambda f: b"This is not a model.\n" * 40)

# --- keys ---
quick("key_is_empty", ("key",), lambda f: f.keys.append([b"", U8, b"\1"]))
quick(
    "key_stands_twice",
    ("general.architecture", "twice", "duplicate"),
    lambda f: f.keys.append(list(f.keys[0])),
)
quick(
    "key_longer_than_65535",
    ("key", "65535", "65,535"),
    lambda f: f.keys.append([b"k" * 65536, U8, b"\1"]),
)
quick("value_of_unknown_type", ("type",), lambda f: f.keys.append([b"odd", 13, b"\1\2\3\4"]))
quick(
    "array_of_arrays",
    ("array",),
    lambda f: f.keys.append([b"nested", ARRAY, struct.pack("<IQ", ARRAY, 1) + array(U8, [1])]),
)
quick(
    "array_of_unknown_type",
    ("type",),
    lambda f: f.keys.append([b"odd", ARRAY, struct.pack("<IQ", 99, 1) + b"\1"]),
)


@case("key_length_beyond_the_file", "key", "length", "bytes")
def _(f):
    raw = bytearray(f.bytes())
    struct.pack_into("<Q", raw, 24, (1 << 63) + 7)
    return bytes(raw)


quick(
    "string_longer_than_the_file",
    ("odd",),
    lambda f: f.keys.append([b"odd", STRING, struct.pack("<Q", 1 << 40)]),
)
quick(
    "string_of_64_bit_length",
    ("odd",),
    lambda f: f.keys.append([b"odd", STRING, struct.pack("<Q", (1 << 64) - 4)]),
)
quick(
    "array_longer_than_the_file",
    ("odd",),
    lambda f: f.keys.append([b"odd", ARRAY, struct.pack("<IQ", U64, 1 << 40)]),
)
quick(
    "array_whose_bytes_overflow",
    ("odd",),
    lambda f: f.keys.append([b"odd", ARRAY, struct.pack("<IQ", U64, (1 << 61) + 1)]),
)
quick(
    "array_of_strings_longer_than_the_file",
    ("odd",),
    lambda f: f.keys.append([b"odd", ARRAY, struct.pack("<IQ", STRING, 1 << 50)]),
)

# --- alignment ---
for _value, _name in ((0, "zero"), (48, "no_power_of_two"), (1 << 21, "two_megabytes")):
    quick(
        f"alignment_{_name}",
        ("alignment",),
        lambda f, value=_value: f.u32("general.alignment", value),
    )
quick(
    "alignment_is_a_string",
    ("alignment",),
    lambda f: f.set("general.alignment", STRING, string("32")),
)
quick(
    "alignment_is_u64", ("alignment",), lambda f: f.set("general.alignment", U64, number(U64, 32))
)

# --- architecture and its numbers ---
quick("architecture_missing", ("general.architecture",), lambda f: f.drop("general.architecture"))
quick(
    "architecture_unknown",
    ("mamba",),
    lambda f: f.set("general.architecture", STRING, string("mamba")),
)
quick(
    "architecture_is_a_number",
    ("general.architecture",),
    lambda f: f.u32("general.architecture", 7),
)
quick(
    "architecture_is_a_vision_encoder",
    ("clip", "mmproj"),
    lambda f: f.set("general.architecture", STRING, string("clip")),
)
quick(
    "general_type_is_mmproj", ("mmproj",), lambda f: f.set("general.type", STRING, string("mmproj"))
)
quick(
    "general_type_is_adapter",
    ("adapter",),
    lambda f: f.set("general.type", STRING, string("adapter")),
)
for _key in (
    "block_count",
    "context_length",
    "embedding_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
):
    quick(f"{_key.replace('.', '_')}_missing", (_key,), lambda f, key=_key: f.drop(f"llama.{key}"))
for _key, _value, _name in (
    ("block_count", 0, "zero"),
    ("block_count", 513, "513"),
    ("block_count", 0xFFFFFFFF, "four_billion"),
    ("embedding_length", 0, "zero"),
    ("embedding_length", 65537, "65537"),
    ("embedding_length", 160, "other"),
    ("attention.head_count", 0, "zero"),
    ("attention.head_count", 1025, "1025"),
    ("attention.head_count_kv", 0, "zero"),
    ("attention.head_count_kv", 2, "no_divisor"),
    ("attention.key_length", 0, "zero"),
    ("attention.key_length", 1025, "1025"),
    ("attention.key_length", 63, "odd"),
    ("attention.head_count_kv", 1025, "1025"),
    ("attention.value_length", 32, "unlike_the_keys"),
    ("context_length", 0, "zero"),
    ("context_length", 0xFFFFFFFF, "four_billion"),
    ("feed_forward_length", 0, "zero"),
    ("rope.dimension_count", 63, "odd"),
    ("rope.dimension_count", 128, "beyond_the_head"),
):
    quick(
        f"{_key.replace('.', '_')}_{_name}",
        (_key, "blk.", "shape", "dimension", "head", "token_embd"),
        lambda f, key=_key, value=_value: f.u32(f"llama.{key}", value),
    )
quick(
    "block_count_is_a_string",
    ("block_count",),
    lambda f: f.set("llama.block_count", STRING, string("2")),
)
quick(
    "block_count_is_negative",
    ("block_count",),
    lambda f: f.set("llama.block_count", I32, number(I32, -2)),
)
quick(
    "heads_of_fewer_layers",
    ("attention.head_count_kv",),
    lambda f: f.set("llama.attention.head_count_kv", ARRAY, array(U32, [1])),
)
quick(
    "heads_that_differ_by_layer",
    ("attention.head_count_kv",),
    lambda f: f.set("llama.attention.head_count_kv", ARRAY, array(U32, [1, 3, 1])),
)
for _key, _value, _name in (
    ("attention.layer_norm_rms_epsilon", float("nan"), "nan"),
    ("attention.layer_norm_rms_epsilon", 0.0, "zero"),
    ("attention.layer_norm_rms_epsilon", 1.0, "one"),
    ("rope.freq_base", float("inf"), "infinite"),
    ("rope.freq_base", 0.5, "below_one"),
    ("rope.scaling.factor", float("nan"), "nan"),
    ("rope.scaling.factor", -2.0, "negative"),
):
    quick(
        f"{_key.replace('.', '_')}_{_name}",
        (_key,),
        lambda f, key=_key, value=_value: f.set(f"llama.{key}", F32, number(F32, value)),
    )
quick(
    "rope_scaling_type_unknown",
    ("rope.scaling.type", "spiral"),
    lambda f: f.set("llama.rope.scaling.type", STRING, string("spiral")),
)
quick("experts_in_a_dense_file", ("expert",), lambda f: f.u32("llama.expert_count", 4096))

# --- tensors ---
quick(
    "tensor_missing",
    ("blk.1.ffn_down.weight",),
    lambda f: f.tensors.remove(f.tensor("blk.1.ffn_down.weight")),
)
quick(
    "embedding_missing", ("token_embd",), lambda f: f.tensors.remove(f.tensor("token_embd.weight"))
)
quick("norm_missing", ("output_norm",), lambda f: f.tensors.remove(f.tensor("output_norm.weight")))
quick(
    "tensor_stands_twice",
    ("blk.0.attn_norm.weight",),
    lambda f: f.tensors.append(
        Tensor(
            b"blk.0.attn_norm.weight",
            f.tensor("blk.0.attn_norm.weight").dims,
            0,
            f.tensor("blk.0.attn_norm.weight").data,
        )
    ),
)
quick(
    "tensor_name_of_64_bytes",
    ("name",),
    lambda f: f.tensors.append(Tensor(b"n" * 64, [8], 0, bytes(32))),
)
quick(
    "tensor_name_with_nul",
    ("name", "NUL"),
    lambda f: f.tensors.append(Tensor(b"a\0b", [8], 0, bytes(32))),
)
quick(
    "tensor_without_dimensions",
    ("dimension", "dims"),
    lambda f: f.tensors.append(Tensor(b"odd", [], 0, bytes(4))),
)
quick(
    "tensor_of_five_dimensions",
    ("dimension", "dims"),
    lambda f: f.tensors.append(Tensor(b"odd", [2, 2, 2, 2, 2], 0, bytes(128))),
)
quick(
    "tensor_of_a_zero_dimension",
    ("odd",),
    lambda f: f.tensors.append(Tensor(b"odd", [8, 0], 0, b"")),
)
quick(
    "tensor_whose_values_overflow",
    ("odd",),
    lambda f: f.tensors.append(Tensor(b"odd", [1 << 32, 1 << 32], 0, bytes(32))),
)
quick(
    "tensor_whose_bytes_overflow",
    ("odd",),
    lambda f: f.tensors.append(Tensor(b"odd", [1 << 62], 0, bytes(32))),
)
quick(
    "tensor_longer_than_the_file",
    ("odd",),
    lambda f: f.tensors.append(Tensor(b"odd", [1 << 34], 0, bytes(32))),
)
quick(
    "row_is_not_whole_blocks",
    ("odd", "32"),
    lambda f: f.tensors.append(Tensor(b"odd", [40, 4], 8, bytes(170))),
)
for _kind in (4, 5, 31, 32, 33, 36, 37, 38, 43, 0xFFFFFFFF):
    quick(
        f"tensor_of_unknown_type_{_kind}",
        ("type",),
        lambda f, kind=_kind: setattr(f.tensor("blk.0.attn_q.weight"), "kind", kind),
    )
quick(
    "tensor_of_a_type_without_kernels",  # of blocks of 64, smaller than those it replaces
    ("blk.0.attn_q.weight is Q2_0",),
    lambda f: setattr(f.tensor("blk.0.attn_q.weight"), "kind", 42),
)
quick(
    "row_is_not_whole_blocks_of_256",
    ("not whole IQ1_S blocks of 256",),
    lambda f: setattr(f.tensor("blk.0.attn_q.weight"), "kind", 19),
)
quick(
    "norm_of_a_block_type",
    ("blk.0.attn_norm.weight",),
    lambda f: setattr(f.tensor("blk.0.attn_norm.weight"), "kind", 8),
)
quick(
    "offset_not_aligned",
    ("blk.0.attn_q.weight", "offset", "align"),
    lambda f: setattr(f.tensor("blk.0.attn_q.weight"), "offset", 33),
)
quick(
    "offset_beyond_the_file",
    ("blk.0.attn_q.weight",),
    lambda f: setattr(f.tensor("blk.0.attn_q.weight"), "offset", 1 << 40),
)
quick(
    "offset_overflows",
    ("blk.0.attn_q.weight",),
    lambda f: setattr(f.tensor("blk.0.attn_q.weight"), "offset", (1 << 64) - 32),
)
quick(
    "tensors_overlap",
    ("overlap", "offset"),
    lambda f: setattr(f.tensor("blk.0.attn_k.weight"), "offset", 0),
)


@case("matrix_is_transposed", "blk.0.ffn_gate.weight")
def _(f):
    f.tensor("blk.0.ffn_gate.weight").dims.reverse()


@case("norm_is_short", "blk.0.attn_norm.weight")
def _(f):
    norm = f.tensor("blk.0.attn_norm.weight")
    norm.dims, norm.data = [norm.dims[0] - 32], norm.data[:-128]


@case("bias_is_misshapen", "blk.0.attn_q.bias")
def _(f):
    f.tensors.append(Tensor(b"blk.0.attn_q.bias", [8], 0, bytes(32)))


@case("rope_factors_are_misshapen", "rope_freqs")
def _(f):
    f.tensors.append(Tensor(b"rope_freqs.weight", [8], 0, bytes(32)))


@case("rope_factor_is_zero", "rope_freqs")
def _(f):
    f.tensors.append(Tensor(b"rope_freqs.weight", [32], 0, bytes(128)))


@case("rope_factor_is_nan", "rope_freqs")
def _(f):
    factors = struct.pack("<32f", *[1.0] * 31, float("nan"))
    f.tensors.append(Tensor(b"rope_freqs.weight", [32], 0, factors))


# --- the vocabulary ---
quick("tokenizer_missing", ("tokenizer.ggml.model",), lambda f: f.drop("tokenizer.ggml.model"))
quick(
    "tokenizer_unknown",
    ("tokenizer", "riddles"),
    lambda f: f.set("tokenizer.ggml.model", STRING, string("riddles")),
)
quick(
    "pre_tokenizer_unknown",
    ("tokenizer.ggml.pre", "riddles"),
    lambda f: f.set("tokenizer.ggml.pre", STRING, string("riddles")),
)
quick("tokens_missing", ("tokenizer.ggml.tokens",), lambda f: f.drop("tokenizer.ggml.tokens"))
quick(
    "tokens_are_numbers",
    ("tokenizer.ggml.tokens",),
    lambda f: f.set("tokenizer.ggml.tokens", ARRAY, array(U32, range(300))),
)
quick(
    "tokens_are_no_array",
    ("tokenizer.ggml.tokens",),
    lambda f: f.set("tokenizer.ggml.tokens", STRING, string("all")),
)
quick(
    "tokens_are_fewer_than_embeddings",
    ("token",),
    lambda f: f.set("tokenizer.ggml.tokens", ARRAY, array(STRING, [f"t{i}" for i in range(290)])),
)
quick(
    "token_text_over_64_kib",
    ("token",),
    lambda f: f.set(
        "tokenizer.ggml.tokens", ARRAY, array(STRING, [f"t{i}" for i in range(299)] + ["x" * 65537])
    ),
)
quick(
    "token_types_are_short",
    ("token_type",),
    lambda f: f.set("tokenizer.ggml.token_type", ARRAY, array(I32, [1] * 7)),
)
quick(
    "scores_are_short",
    ("scores",),
    lambda f: f.set("tokenizer.ggml.scores", ARRAY, array(F32, [0.0] * 7)),
)
quick(
    "merge_without_a_space",
    ("merge",),
    lambda f: f.set("tokenizer.ggml.merges", ARRAY, array(STRING, ["he", "in"])),
)
quick(
    "merge_that_begins_with_its_only_space",
    ("merge",),
    lambda f: f.set("tokenizer.ggml.merges", ARRAY, array(STRING, [" he"])),
)
quick(
    "merges_are_numbers",
    ("merge",),
    lambda f: f.set("tokenizer.ggml.merges", ARRAY, array(U32, [1, 2])),
)

# --- split files ---
quick(
    "second_part_of_a_split_model",
    ("split",),
    lambda f: (
        f.set("split.no", U16, number(U16, 1)),
        f.set("split.count", U16, number(U16, 2)),
        f.set("split.tensors.count", I32, number(I32, len(f.tensors))),
    )
    and None,
)
quick(
    "split_whose_name_says_nothing",
    ("split", "part"),
    lambda f: (
        f.set("split.no", U16, number(U16, 0)),
        f.set("split.count", U16, number(U16, 2)),
        f.set("split.tensors.count", I32, number(I32, len(f.tensors))),
    )
    and None,
)


quick(
    "split_tensors_are_miscounted",
    ("split.tensors.count",),
    lambda f: f.set("split.tensors.count", I32, number(I32, len(f.tensors) + 1)),
)
quick(
    "split_number_without_a_count",
    ("split.no",),
    lambda f: f.set("split.no", U16, number(U16, 2)),
)

# --- sets of two parts: each case breaks the first and the second, or returns the second's bytes ---
SETS = {
    "second_is_missing": (("00002-of-00002",), lambda first, second: b""),
    "second_is_empty": (("00002-of-00002",), lambda first, second: b"GGUF"),
    "second_is_cut": (("00002-of-00002",), lambda first, second: second.bytes()[:-4000]),
    "second_is_text": (("GGUF",), lambda first, second: b"This is not a model.\n" * 40),
    "second_is_the_first": (("split.no",), lambda first, second: first.bytes()),
    "second_is_of_three": (
        ("split.count",),
        lambda first, second: second.set("split.count", U16, number(U16, 3)),
    ),
    "first_is_of_three": (
        ("00001-of-00003", "split.count", "part of a split set of 3"),
        lambda first, second: first.set("split.count", U16, number(U16, 3)),
    ),
    "count_is_the_most": (
        ("split.count",),
        lambda first, second: first.set("split.count", U16, number(U16, 65535)),
    ),
    "tensor_in_both": (
        ("blk.0.attn_norm.weight", "twice"),
        lambda first, second: (
            second.tensors.append(first.tensor("blk.0.attn_norm.weight")),
            first.set(
                "split.tensors.count", I32, number(I32, len(first.tensors + second.tensors))
            ),
        )
        and None,
    ),
    "tensors_are_miscounted": (
        ("split.tensors.count",),
        lambda first, second: first.set("split.tensors.count", I32, number(I32, 7)),
    ),
}


def second_of(first):
    return first.with_name(first.name.replace("-00001-", "-00002-"))


def make_sets(source, folder):
    """Broken sets out of a sound one of two parts; returns [(path of the first, words)]."""
    folder, corpus = pathlib.Path(folder), []
    parts = [pathlib.Path(path).read_bytes() for path in (source, second_of(source))]
    for name, (words, change) in SETS.items():
        first, second = File(parts[0]), File(parts[1])
        made = change(first, second)
        path = folder / f"set_{name}-00001-of-00002.gguf"
        path.write_bytes(first.bytes())
        if made != b"":
            second_of(path).write_bytes(made if isinstance(made, bytes) else second.bytes())
        corpus.append((path, words))
    return corpus


def truncations(raw, borders):
    """One file for each structural edge; the data section's edges are few enough to take all."""
    for border in borders:
        if border < len(raw):
            yield f"truncated_at_{border:07d}", raw[:border]


def make_all(source, folder):
    """Writes the corpus and returns [(path, words of which the refusal holds one)]."""
    source, folder = pathlib.Path(source), pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.gguf"):
        old.unlink()
    raw = source.read_bytes()
    sound = File(raw)
    again = sound.bytes()
    if File(again).bytes() != again or len(again) != len(raw):
        raise ValueError(f"{source}: what this script writes is not what it read")
    corpus = []
    for name, words, change in CASES:
        broken = File(raw)
        made = change(broken)
        path = folder / f"{name}.gguf"
        path.write_bytes(made if isinstance(made, bytes) else broken.bytes())
        corpus.append((path, words))
    for name, made in truncations(again, sound.borders):
        path = folder / f"{name}.gguf"
        path.write_bytes(made)
        corpus.append((path, ()))
    return corpus


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument(
        "--from", dest="source", required=True, help="a sound model, best a tiny one"
    )
    parser.add_argument("--into", required=True, metavar="DIR")
    arguments = parser.parse_args()
    corpus = make_all(arguments.source, arguments.into)
    print(f"{len(corpus)} broken files in {arguments.into}")


if __name__ == "__main__":
    main()
