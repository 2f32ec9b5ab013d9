#!/usr/bin/env python3
"""Records what llama.cpp makes of the tiny models, each dequantised to F32 first, as
tests/golden/tiny/NAME.npz.

Run by hand when make_tiny_models.py changes; the tests read only what it leaves. It needs what
tests/requirements.txt names and `llama-cpp-python` built from source:

    pip install llama-cpp-python==0.3.36
    tests/golden/record_llama_cpp.py

llama.cpp runs with F32 keys and values and without flash attention. An array file holds `tokens`,
`rows` (positions), `logits` [rows, vocabulary] and the SHA-256 of the model that they are of.
"""

import argparse
import pathlib
import tempfile

import gguf
import llama_cpp
import numpy as np

from gguf_tensors import Weights
from make_tiny_models import N_VOCABULARY, PLANS, make_all, sha256_of

N_TOKENS = 600
# Edges of pages (64) and of attention spans (512), their neighbours, and some between.
ROWS = [0, 1, 2, 31, 62, 63, 64, 65, 127, 128, 191, 255, 256, 300, 447, 511, 512, 513, 576, 599]


def write_f32_copy(source, path):
    """The same model in one file with every tensor as F32."""
    weights = Weights(source)
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in weights.fields.items():
        if name.startswith(("GGUF.", "split.")) or name == "general.architecture":
            continue
        kind = field.types[0]
        writer.add_key_value(
            name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None
        )
    for name in weights.tensors:
        writer.add_tensor(name, weights.tensor(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokens_of(plan):
    """Ids that depend on nothing but the model's name."""
    rng = np.random.Generator(np.random.PCG64(sum(plan.name.encode())))
    return rng.integers(0, N_VOCABULARY, size=N_TOKENS, dtype=np.int64).astype(np.int32)


def llama_logits(path, tokens):
    llama = llama_cpp.Llama(
        str(path),
        n_ctx=1024,
        n_batch=512,
        n_ubatch=512,
        n_threads=2,
        logits_all=True,
        flash_attn=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )
    llama.eval([int(token) for token in tokens])
    return np.array(llama.scores[: len(tokens)], dtype=np.float32)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument(
        "--models", type=pathlib.Path, default=here.parents[1] / "build" / "tiny", metavar="DIR"
    )
    paths = make_all(parser.parse_args().models)
    (here / "tiny").mkdir(exist_ok=True)
    for plan in PLANS:
        tokens = tokens_of(plan)
        with tempfile.TemporaryDirectory() as scratch:
            copy = pathlib.Path(scratch) / "f32.gguf"
            write_f32_copy(paths[plan.name], copy)
            logits = llama_logits(copy, tokens)
        np.savez(
            here / "tiny" / f"{plan.name}.npz",
            tokens=tokens,
            rows=np.array(ROWS, dtype=np.int32),
            logits=logits[ROWS],
            sha256=np.array(sha256_of(paths[plan.name])),
        )
        print(
            f"{plan.name:12} {len(ROWS)} rows of {N_TOKENS} tokens, "
            f"llama-cpp-python {llama_cpp.__version__}"
        )


if __name__ == "__main__":
    main()
