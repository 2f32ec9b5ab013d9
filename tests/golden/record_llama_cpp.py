#!/usr/bin/env python3
"""Records what llama.cpp makes of the tiny models, each dequantised to F32 first, as
tests/golden/tiny/NAME.npz; and what the reference makes of those that llama.cpp does not know.

Run by hand when make_tiny_models.py changes; the tests read only what it leaves. It needs what
tests/requirements.txt names and llama.cpp itself: as llama-cpp-py-sync 0.11739 from PyPI, whose
wheels want glibc 2.38, or as bench/versus_llama_cpp builds it:

    PYTHONPATH=$(echo build/venv-llama/lib/python3*/site-packages) build/venv/bin/python \
        tests/golden/record_llama_cpp.py [NAME...]

llama.cpp runs with F32 keys and values and without flash attention. An array file holds `tokens`,
`rows` (positions), `logits` [rows, vocabulary] and the SHA-256 of the model that they are of.
"""

import argparse
import pathlib
import tempfile

import gguf
import numpy as np

from gguf_tensors import Weights
from make_tiny_models import LONG_PLANS, N_VOCABULARY, PLANS, make_all, sha256_of
from reference import Reference

# Edges of pages (64), of attention spans (512) and of a chunk, their neighbours, and some between.
ROWS = [0, 1, 2, 31, 62, 63, 64, 65, 127, 128, 191, 255, 256, 300, 447, 511, 512, 513, 576, 599]
LONG_ROWS = [0, 63, 600, 4095, 8000, 8189, 8190, 8191, 8192, 8193, 8255, 8256, 8298, 8299]


def write_f32_copy(plan, source, path):
    """The same model in one file with every tensor as F32, and q, k and v apart."""
    weights = Weights(source)
    writer = gguf.GGUFWriter(path, plan.arch)
    for name, field in weights.fields.items():
        if name.startswith(("GGUF.", "split.")) or name == "general.architecture":
            continue
        kind = field.types[0]
        writer.add_key_value(
            name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None
        )
    q_width, kv_width = plan.heads * plan.head_dim, plan.kv_heads * plan.head_dim
    for name in weights.tensors:
        values = weights.tensor(name)
        if "attn_qkv" not in name:
            writer.add_tensor(name, values)
            continue
        parts = np.split(values, [q_width, q_width + kv_width])
        for letter, part in zip("qkv", parts):
            writer.add_tensor(name.replace("qkv", letter), np.ascontiguousarray(part))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokens_of(plan):
    """Ids that depend on nothing but the model's name."""
    rng = np.random.Generator(np.random.PCG64(sum(plan.name.encode())))
    return rng.integers(0, N_VOCABULARY, size=plan.n_tokens, dtype=np.int64).astype(np.int32)


def llama_logits(path, tokens):
    # what has the reference for its golden needs no llama.cpp
    from llama_cpp_py_sync import Llama

    llama = Llama(
        str(path),
        n_ctx=-(-len(tokens) // 1024) * 1024,
        n_batch=512,
        n_threads=2,
        n_gpu_layers=0,
        flash_attn_type=0,
        type_k="f32",
        type_v="f32",
    )
    logits = np.empty((len(tokens), N_VOCABULARY), dtype=np.float32)
    for begin in range(0, len(tokens), 512):
        part = tokens[begin : begin + 512]
        logits[begin : begin + len(part)] = decode(llama, part, begin)
    llama.close()
    return logits


def decode(llama, tokens, begin):
    """Logits of every one of these tokens, which follow on `begin` others."""
    lib, ffi = llama._lib, llama._ffi
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i] = int(token), begin + i
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
    if lib.llama_decode(llama._ctx, batch) != 0:
        raise RuntimeError(f"llama.cpp refuses the tokens from {begin} on")
    raw = ffi.buffer(lib.llama_get_logits(llama._ctx), len(tokens) * N_VOCABULARY * 4)
    logits = np.frombuffer(raw, dtype=np.float32).reshape(len(tokens), N_VOCABULARY).copy()
    lib.llama_batch_free(batch)
    return logits


def record(plan, path, out):
    tokens, rows = tokens_of(plan), LONG_ROWS if plan in LONG_PLANS else ROWS
    if plan.golden == "reference":
        logits = Reference(path).logits(tokens, rows).astype(np.float32)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            copy = pathlib.Path(scratch) / "f32.gguf"
            write_f32_copy(plan, path, copy)
            logits = llama_logits(copy, tokens)[rows]
    np.savez(
        out,
        tokens=tokens,
        rows=np.array(rows, dtype=np.int32),
        logits=logits,
        sha256=np.array(sha256_of(path)),
    )
    print(f"{plan.name:12} {len(rows)} rows of {plan.n_tokens} tokens by {plan.golden}")


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument(
        "--models", type=pathlib.Path, default=here.parents[1] / "build" / "tiny", metavar="DIR"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of them if none is given")
    arguments = parser.parse_args()
    paths = make_all(arguments.models)
    (here / "tiny").mkdir(exist_ok=True)
    for plan in PLANS + LONG_PLANS:
        if not arguments.names or plan.name in arguments.names:
            record(plan, paths[plan.name], here / "tiny" / f"{plan.name}.npz")


if __name__ == "__main__":
    main()
