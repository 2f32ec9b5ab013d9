#!/usr/bin/env python3
"""Writes tests/golden/tensor_blocks.bin: random blocks of every quantised type that is read, and
what the `gguf` package dequantises them to.

Run by hand when a type is added; the test of kernels/tensor_block reads only what it leaves. Per
type: its id, the bytes of the blocks and the number of values as u32, then the blocks and the
values as f32. Some blocks hold the extremes: scales of zero, the largest f16, denormals, and every
exponent class of MXFP4.
"""

import pathlib
import struct

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

TYPES = [T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K]
TYPES += [T.IQ4_NL, T.IQ4_XS, T.MXFP4]
HALVES = {T.Q4_1: (0, 2), T.Q5_1: (0, 2), T.Q2_K: (80, 82), T.Q3_K: (108,), T.Q4_K: (0, 2)}
HALVES |= {T.Q5_K: (0, 2), T.Q6_K: (208,), T.MXFP4: (), T.BF16: ()}
EXTREMES = [0x3C00, 0x0000, 0x7BFF, 0x8001, 0x0400]
EXPONENTS = [127, 0, 1, 2, 254, 255, 120]


def blocks_of(kind, rng):
    values, size = GGML_QUANT_SIZES[kind]
    n = 7 if kind == T.MXFP4 else 64 if values == 1 else 4 if values == 256 else 6
    raw = rng.integers(0, 256, size=(n, size), dtype=np.uint8)
    for i in range(n):
        for at in HALVES.get(kind, (0,)):
            half = EXTREMES[i] if i < len(EXTREMES) else 0x2C37
            raw[i, at : at + 2] = np.frombuffer(struct.pack("<H", half), dtype=np.uint8)
        if kind == T.MXFP4:
            raw[i, 0] = EXPONENTS[i]
    return raw


def main():
    rng = np.random.Generator(np.random.PCG64(6))
    out = b""
    for kind in TYPES:
        raw = blocks_of(kind, rng)
        if kind == T.BF16:
            raw[:, 1] &= 0xBF  # no NaN and no infinity: bits of NaN may change on the way
        values = gguf.quants.dequantize(raw.reshape(1, -1), kind).astype(np.float32).reshape(-1)
        out += struct.pack("<III", kind, raw.size, values.size) + raw.tobytes() + values.tobytes()
    (pathlib.Path(__file__).parent / "tensor_blocks.bin").write_bytes(out)
    print(f"{len(TYPES)} types, {len(out)} bytes")


if __name__ == "__main__":
    main()
