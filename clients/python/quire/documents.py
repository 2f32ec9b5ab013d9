"""A document on its way up: whatever a caller holds, in pieces that a message can carry."""

from __future__ import annotations

import os
import stat
import threading
from typing import IO, Any, Callable, Iterable, Iterator, Optional, Tuple, Union, cast

import grpc

from quire.v1 import quire_pb2 as pb

PIECE_BYTES = 64 * 1024

# A path, a text, bytes, an open file (binary or text), or pieces of any size.
Document = Union["os.PathLike[str]", str, bytes, bytearray, memoryview, "IO[Any]",
                 Iterable[Union[bytes, str]]]


class Upload:
    """The requests of one Summarize call.

    grpc reads them on a thread of its own, where an exception of the document's source would be
    lost: it is kept in `error`, the call is cancelled, and the reader of the summary raises it.
    """

    def __init__(self, options: pb.SummarizeOptions, document: Document) -> None:
        self.error: Optional[Exception] = None
        self._call: Optional[grpc.Call] = None
        self._begun = threading.Event()
        self._pieces, total_bytes = _pieces_of(document)
        self._options = options
        if total_bytes is not None:
            options.total_bytes = total_bytes

    def begin(self, call: grpc.Call) -> None:
        """Tells which call the requests are of."""
        self._call = call
        self._begun.set()

    def requests(self) -> Iterator[pb.SummarizeRequest]:
        yield pb.SummarizeRequest(options=self._options)
        try:
            for piece in self._pieces:
                raw = piece.encode() if isinstance(piece, str) else bytes(memoryview(piece))
                for at in range(0, len(raw), PIECE_BYTES):
                    yield pb.SummarizeRequest(text=raw[at:at + PIECE_BYTES])
        except Exception as error:
            self.error = error
            self._begun.wait()
            assert self._call is not None
            self._call.cancel()


def _pieces_of(document: Document) -> Tuple[Iterable[Union[bytes, str]], Optional[int]]:
    """The pieces, and how many bytes they are in all when that is known."""
    if isinstance(document, str):
        document = document.encode()
    if isinstance(document, (bytes, bytearray, memoryview)):
        raw = bytes(document)
        return [raw], len(raw)
    if isinstance(document, os.PathLike):
        file = open(document, "rb")  # here, so that the caller hears at once of one that is missing
        facts = os.fstat(file.fileno())
        return _read_and_close(file), facts.st_size if stat.S_ISREG(facts.st_mode) else None
    read = getattr(document, "read", None)
    if read is not None:
        return _read(read), None
    return cast("Iterable[Union[bytes, str]]", document), None


def _read(read: Callable[[int], Any]) -> Iterator[Any]:
    while piece := read(PIECE_BYTES):
        yield piece


def _read_and_close(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from _read(file.read)
