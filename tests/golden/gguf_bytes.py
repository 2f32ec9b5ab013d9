"""A GGUF file taken apart into lists and written back byte by byte, with whatever one changes in it.

A proper writer refuses to write what the corpus of broken files holds.
"""

import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FIXED = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "B",
    U64: "Q",
    I64: "q",
    F64: "d",
}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34)}


def string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def number(kind, value):
    return struct.pack("<" + FIXED[kind], value)


def array(kind, values):
    encode = string if kind == STRING else (lambda value: number(kind, value))
    return struct.pack("<IQ", kind, len(values)) + b"".join(encode(value) for value in values)


class Tensor:
    def __init__(self, name, dims, kind, data, offset=None):
        self.name, self.dims, self.kind, self.data, self.offset = name, dims, kind, data, offset


class File:
    """A GGUF file as lists that a case may change; bytes() lays it out, with `borders` at every
    structural edge."""

    def __init__(self, raw):
        self.version, self.magic = 3, b"GGUF"
        self.n_tensors = self.n_keys = None  # what the header says, where it is not the truth
        self.alignment = 32
        self.borders = []
        self._at = 8
        self._raw = raw
        n_tensors, n_keys = self._take("<QQ")
        self.keys = [self._key() for _ in range(n_keys)]
        infos = [self._info() for _ in range(n_tensors)]
        start = -(-self._at // 32) * 32
        self.tensors = []
        for name, dims, kind, offset in infos:
            values, size = BLOCKS[kind]
            count = 1
            for dim in dims:
                count *= dim
            begin = start + offset
            self.tensors.append(
                Tensor(name, dims, kind, raw[begin : begin + count // values * size])
            )

    def _take(self, form):
        values = struct.unpack_from(form, self._raw, self._at)
        self._at += struct.calcsize(form)
        return values

    def _text(self):
        (length,) = self._take("<Q")
        text = self._raw[self._at : self._at + length]
        self._at += length
        return text

    def _skip_value(self, kind):
        if kind == STRING:
            self._text()
        elif kind == ARRAY:
            element, count = self._take("<IQ")
            for _ in range(count):
                self._skip_value(element)
        else:
            self._take("<" + FIXED[kind])

    def _key(self):
        name = self._text()
        (kind,) = self._take("<I")
        begin = self._at
        self._skip_value(kind)
        return [name, kind, self._raw[begin : self._at]]

    def _info(self):
        name = self._text()
        (n_dims,) = self._take("<I")
        dims = list(self._take(f"<{n_dims}Q"))
        kind, offset = self._take("<IQ")
        return name, dims, kind, offset

    def set(self, name, kind, raw):
        """Changes a key's value, or adds the key."""
        for key in self.keys:
            if key[0] == name.encode():
                key[1:] = [kind, raw]
                return
        self.keys.append([name.encode(), kind, raw])

    def u32(self, name, value):
        self.set(name, U32, number(U32, value))

    def drop(self, name):
        before = len(self.keys)
        self.keys = [key for key in self.keys if key[0] != name.encode()]
        assert len(self.keys) == before - 1, name

    def tensor(self, name):
        return next(tensor for tensor in self.tensors if tensor.name == name.encode())

    def bytes(self):
        pad = self.alignment
        out = bytearray(self.magic + struct.pack("<I", self.version))
        edges = [0, 1, 4, 8, 16]
        out += struct.pack(
            "<QQ",
            len(self.tensors) if self.n_tensors is None else self.n_tensors,
            len(self.keys) if self.n_keys is None else self.n_keys,
        )
        for name, kind, raw in self.keys:
            edges += [len(out), len(out) + 8]
            out += string(name) + struct.pack("<I", kind)
            edges += [len(out), len(out) + len(raw) // 2]
            out += raw
        offset, placed = 0, []
        for tensor in self.tensors:
            edges += [len(out), len(out) + 8]
            placed.append(offset if tensor.offset is None else tensor.offset)
            out += string(tensor.name) + struct.pack("<I", len(tensor.dims))
            out += struct.pack(f"<{len(tensor.dims)}Q", *tensor.dims) + struct.pack(
                "<IQ", tensor.kind, placed[-1]
            )
            offset += -(-len(tensor.data) // pad) * pad
        edges += [len(out), len(out) + 1]
        out += bytes(-len(out) % pad)
        for tensor in self.tensors:
            edges += [len(out), len(out) + len(tensor.data) - 1]
            out += tensor.data + bytes(-len(tensor.data) % pad)
        self.borders = sorted(set(edges))
        return bytes(out)
