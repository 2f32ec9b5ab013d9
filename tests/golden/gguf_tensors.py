"""Reads a GGUF model (one file or all parts of a split one): keys as Python values, tensors as
exact float arrays.

The container is read by the `gguf` package; the values of quantised blocks are computed here, by
the formulas of the format, in float32 as every reader of the format does.
"""

import pathlib
import re

import gguf
import numpy as np


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


def _fifth_bits(raw, begin):
    """Bit j of four bytes is the fifth of value j."""
    return 16 * np.unpackbits(raw[:, begin : begin + 4], axis=1, bitorder="little")


def _q5_0(raw):
    return _halves(raw, 0) * (_nibbles(raw, 6) + _fifth_bits(raw, 2) - 16).astype(np.float32)


def _q5_1(raw):
    return _halves(raw, 0) * (_nibbles(raw, 8) + _fifth_bits(raw, 4)) + _halves(raw, 2)


IQ4 = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)


def _iq4_nl(raw):
    return _halves(raw, 0) * IQ4[_nibbles(raw, 2).astype(int)]


def _mxfp4(raw):
    scale = np.ldexp(1.0, raw[:, :1].astype(int) - 127)
    return (scale * np.concatenate([FP4, -FP4])[_nibbles(raw, 1).astype(int)]).astype(np.float32)


def _in_halves_of_128(raw, begin, count):
    """[blocks, 2, count / 2] bytes."""
    return raw[:, begin : begin + count].reshape(len(raw), 2, count // 2)


def _twos(raw, begin):
    """Value 128 h + 32 k + l stands in bits 2 k of byte 32 h + l."""
    bytes_ = _in_halves_of_128(raw, begin, 64)[:, :, None, :]
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[None, None, :, None]
    return (bytes_ >> shifts & 3).reshape(len(raw), 256).astype(int)


def _spread(scales):
    """One scale to each of its 16 or 32 values."""
    return np.repeat(scales.astype(np.float32), 256 // scales.shape[1], axis=1)


def _q2_k(raw):
    scales = raw[:, :16]
    low, high = _spread(scales & 15), _spread(scales >> 4)
    return _halves(raw, 80) * low * _twos(raw, 16).astype(np.float32) - _halves(raw, 82) * high


def _q3_k(raw):
    bits = np.unpackbits(raw[:, :32, None], axis=2, bitorder="little")  # [block, l, 4 h + k]
    n = _twos(raw, 32) + 4 * bits.transpose(0, 2, 1).reshape(len(raw), 256).astype(int) - 4
    s = raw[:, 96:108].astype(int)
    low = np.concatenate([s[:, :8] & 15, s[:, :8] >> 4], axis=1)
    high = np.concatenate([s[:, 8:] >> 2 * k & 3 for k in range(4)], axis=1)
    return _halves(raw, 108) * _spread((low | high << 4) - 32) * n.astype(np.float32)


def _scales_k4(raw):
    s = raw[:, 4:16].astype(int)
    scale = np.concatenate([s[:, :4] & 63, s[:, 8:] & 15 | s[:, :4] >> 6 << 4], axis=1)
    minimum = np.concatenate([s[:, 4:8] & 63, s[:, 8:] >> 4 | s[:, 4:8] >> 6 << 4], axis=1)
    return _halves(raw, 0) * _spread(scale), _halves(raw, 2) * _spread(minimum)


def _pairs_of_32(raw, begin):
    """Sub-blocks 2 p and 2 p + 1 are the low and the high nibbles of 32 bytes."""
    bytes_ = raw[:, begin : begin + 128].reshape(len(raw), 4, 1, 32)
    return np.concatenate([bytes_ & 15, bytes_ >> 4], axis=2).reshape(len(raw), 256)


def _q4_k(raw):
    scale, minimum = _scales_k4(raw)
    return scale * _pairs_of_32(raw, 16).astype(np.float32) - minimum


def _q5_k(raw):
    scale, minimum = _scales_k4(raw)
    bits = np.unpackbits(raw[:, 16:48, None], axis=2, bitorder="little").transpose(0, 2, 1)
    codes = _pairs_of_32(raw, 48) + 16 * bits.reshape(len(raw), 256)
    return scale * codes.astype(np.float32) - minimum


def _q6_k(raw):
    low = _in_halves_of_128(raw, 0, 128)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(len(raw), 256)
    n = (low | _twos(raw, 128) << 4) - 32
    scales = raw[:, 192:208].copy().view(np.int8)
    return _halves(raw, 208) * _spread(scales) * n.astype(np.float32)


def _iq4_xs(raw):
    high = raw[:, 2:4].copy().view("<u2").astype(int)
    sub = np.arange(8)
    scales = (raw[:, 4 + sub // 2] >> 4 * (sub % 2) & 15) | (high >> 2 * sub & 3) << 4
    quants = raw[:, 8:].reshape(len(raw), 8, 16)
    codes = np.concatenate([quants & 15, quants >> 4], axis=2).reshape(len(raw), 256)
    return _halves(raw, 0) * _spread(scales - 32) * IQ4[codes]


BLOCK_FORMS = {
    "Q4_0": (18, _q4_0),
    "Q4_1": (20, _q4_1),
    "Q5_0": (22, _q5_0),
    "Q5_1": (24, _q5_1),
    "Q8_0": (34, _q8_0),
    "Q2_K": (84, _q2_k),
    "Q3_K": (110, _q3_k),
    "Q4_K": (144, _q4_k),
    "Q5_K": (176, _q5_k),
    "Q6_K": (210, _q6_k),
    "IQ4_NL": (18, _iq4_nl),
    "IQ4_XS": (136, _iq4_xs),
    "MXFP4": (17, _mxfp4),
}


def values_of(tensor):
    """The float32 values of a gguf.ReaderTensor, shaped rows first ([out, in])."""
    shape = [int(n) for n in reversed(tensor.shape)]
    kind = tensor.tensor_type.name
    if kind in ("F32", "F16"):
        return np.asarray(tensor.data).reshape(shape).astype(np.float32)
    if kind == "BF16":
        bits = np.frombuffer(tensor.data.tobytes(), dtype="<u2").astype("<u4") << 16
        return bits.view(np.float32).reshape(shape)
    if kind not in BLOCK_FORMS:
        raise ValueError(f"{tensor.name} is {kind}; known: F32 F16 BF16 {' '.join(BLOCK_FORMS)}")
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
