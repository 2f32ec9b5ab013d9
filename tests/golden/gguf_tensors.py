"""Reads a GGUF model (one file or all parts of a split one): keys as Python values, tensors as
exact float arrays.

The container is read by the `gguf` package; the values of quantised blocks are computed here, by
the formulas of the format, in float32 as every reader of the format does.
"""

import pathlib
import re

import gguf
import numpy as np

BLOCK = 32


def _halves(raw, begin):
    return raw[:, begin : begin + 2].copy().view(np.float16).astype(np.float32)


def _nibbles(raw, begin):
    """Byte j of 16 holds value j in its low four bits and value j + 16 in its high four."""
    quants = raw[:, begin : begin + 16]
    return np.concatenate([quants & 15, quants >> 4], axis=1).astype(np.float32)


def _q4_0(raw):
    return _halves(raw, 0) * (_nibbles(raw, 2) - 8)


def _q4_1(raw):
    return _halves(raw, 0) * _nibbles(raw, 4) + _halves(raw, 2)


def _q8_0(raw):
    return _halves(raw, 0) * raw[:, 2:].copy().view(np.int8).astype(np.float32)


BLOCK_FORMS = {"Q4_0": (18, _q4_0), "Q4_1": (20, _q4_1), "Q8_0": (34, _q8_0)}


def values_of(tensor):
    """The float32 values of a gguf.ReaderTensor, shaped rows first ([out, in])."""
    shape = [int(n) for n in reversed(tensor.shape)]
    kind = tensor.tensor_type.name
    if kind in ("F32", "F16"):
        return np.asarray(tensor.data).reshape(shape).astype(np.float32)
    if kind not in BLOCK_FORMS:
        raise ValueError(f"{tensor.name} is {kind}; known: F32 F16 {' '.join(BLOCK_FORMS)}")
    block_bytes, form = BLOCK_FORMS[kind]
    raw = np.frombuffer(tensor.data.tobytes(), dtype=np.uint8).reshape(-1, block_bytes)
    return form(raw).reshape(shape)


def parts_of(path):
    """All files of the model that begins with this one."""
    path = pathlib.Path(path)
    split = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
    if not split:
        return [path]
    stem, count = split.group(1), int(split.group(2))
    return [path.with_name(f"{stem}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]


class Weights:
    """Keys and tensors of a model; a tensor is dequantised when it is asked for and not kept."""

    def __init__(self, path):
        readers = [gguf.GGUFReader(part) for part in parts_of(path)]
        self.fields = readers[0].fields
        self.tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}

    def key(self, name, default=None):
        field = self.fields.get(name)
        return default if field is None else field.contents()

    def has(self, name):
        return name in self.tensors

    def tensor(self, name):
        return values_of(self.tensors[name])
