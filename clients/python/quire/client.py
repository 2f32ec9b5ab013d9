"""The client: one channel, one method a call of the API."""

import os
import pathlib
from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quire.errors import from_rpc_error
from quire.streams import Completion, Summary
from quire.v1 import quire_pb2 as pb
from quire.v1 import quire_pb2_grpc

_PIECE_BYTES = 64 * 1024
_SAMPLING = ("temperature", "top_p", "min_p", "top_k", "repetition_penalty", "seed")


class Tokens(NamedTuple):
    ids: list
    spans: list  # (begin, end) in bytes of the UTF-8 text, when asked for


class Client:
    """A connection to one server.

    address  "HOST:PORT" or "unix:PATH"; by default QUIRE_SERVER, else 127.0.0.1:7070
    timeout  seconds for each call; None waits. A call that cannot be done in time is refused at once.
    channel  a grpc channel of your own (TLS, interceptors) instead of an address
    """

    def __init__(self, address=None, *, timeout=None, channel=None):
        self._own_channel = channel is None
        self._channel = channel or grpc.insecure_channel(
            address or os.environ.get("QUIRE_SERVER", "127.0.0.1:7070"),
            options=[("grpc.max_receive_message_length", 64 << 20)])
        self._stub = quire_pb2_grpc.QuireStub(self._channel)
        self._timeout = timeout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._own_channel:
            self._channel.close()

    def generate(self, prompt, *, max_tokens=None, stop=(), ignore_eos=False, logprobs=None,
                 add_bos=None, on_progress=None, timeout=None, request_id=None, **sampling):
        """Continues a text (str) or token ids (a list of ints); returns a Completion to iterate over."""
        request = pb.GenerateRequest()
        if isinstance(prompt, str):
            request.text = prompt
        else:
            request.tokens.ids.extend(prompt)
        if add_bos is not None:
            request.add_bos = add_bos
        return self._generate(request, max_tokens, stop, ignore_eos, logprobs, on_progress, timeout,
                              request_id, sampling)

    def chat(self, messages, *, system=None, max_tokens=None, stop=(), ignore_eos=False,
             logprobs=None, on_progress=None, timeout=None, request_id=None, **sampling):
        """Answers a user's text (str), or a list of {"role": ..., "content": ...}; returns a Completion."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        request = pb.GenerateRequest(
            chat=pb.Chat(messages=[pb.Message(role=m["role"], content=m["content"])
                                   for m in messages]))
        return self._generate(request, max_tokens, stop, ignore_eos, logprobs, on_progress, timeout,
                              request_id, sampling)

    def summarize(self, document, *, instruction=None, section_tokens=None, max_tokens=None,
                  section_max_tokens=None, on_progress=None, timeout=None, request_id=None,
                  **sampling):
        """Summarizes a document; returns a Summary to iterate over.

        document  a path (pathlib.Path), text (str), bytes, an open file, or any iterable of bytes
        """
        options = pb.SummarizeOptions(sampling=_sampling_of(sampling))
        for name, value in (("instruction", instruction), ("section_tokens", section_tokens),
                            ("max_tokens", max_tokens),
                            ("section_max_tokens", section_max_tokens)):
            if value is not None:
                setattr(options, name, value)
        pieces, n_bytes = _pieces_of(document)
        if n_bytes is not None:
            options.total_bytes = n_bytes

        def requests():
            yield pb.SummarizeRequest(options=options)
            for piece in pieces:
                yield pb.SummarizeRequest(text=piece)

        call = self._stub.Summarize(requests(), timeout=timeout or self._timeout,
                                    metadata=_metadata_of(request_id))
        return Summary(call, on_progress)

    def tokenize(self, text, *, add_special=False, parse_special=False, spans=False):
        reply = self._unary(self._stub.Tokenize, pb.TokenizeRequest(
            text=text, add_special=add_special, parse_special=parse_special, spans=spans))
        return Tokens(list(reply.ids), [(s.begin, s.end) for s in reply.spans])

    def detokenize(self, ids, *, special=False):
        """The text of token ids; parts of characters become U+FFFD."""
        return self._unary(self._stub.Detokenize,
                           pb.DetokenizeRequest(ids=ids, special=special)).text

    def model(self):
        """quire.v1.Model: what is being served."""
        return self._unary(self._stub.GetModel, pb.GetModelRequest())

    def stats(self, interval=1.0):
        """Yields quire.v1.Stats every `interval` seconds until the caller leaves the loop."""
        call = self._stub.WatchStats(pb.WatchStatsRequest(interval_ms=int(interval * 1000)))
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    def is_serving(self, timeout=5.0):
        """True when the server answers SERVING to the standard health check."""
        try:
            reply = health_pb2_grpc.HealthStub(self._channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError:
            return False
        return reply.status == health_pb2.HealthCheckResponse.SERVING

    def _generate(self, request, max_tokens, stop, ignore_eos, logprobs, on_progress, timeout,
                  request_id, sampling):
        request.sampling.CopyFrom(_sampling_of(sampling))
        if max_tokens is not None:
            request.max_tokens = max_tokens
        request.stop.extend([stop] if isinstance(stop, str) else stop)
        request.ignore_eos = ignore_eos
        if logprobs is not None:
            request.logprobs = logprobs
        call = self._stub.Generate(request, timeout=timeout or self._timeout,
                                   metadata=_metadata_of(request_id))
        return Completion(call, on_progress)

    def _unary(self, method, request):
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


def _metadata_of(request_id):
    return [("x-request-id", request_id)] if request_id else None


def _sampling_of(options):
    sampling = pb.Sampling()
    for name, value in options.items():
        if name not in _SAMPLING:
            raise TypeError(f"unknown option {name!r}; sampling takes {', '.join(_SAMPLING)}")
        if value is not None:
            setattr(sampling, name, value)
    return sampling


def _pieces_of(document):
    """(iterable of bytes pieces, total bytes or None)"""
    if isinstance(document, str):
        document = document.encode()
    if isinstance(document, pathlib.Path):
        return _read_file(document), document.stat().st_size
    if isinstance(document, (bytes, bytearray, memoryview)):
        whole = bytes(document)
        return (whole[i:i + _PIECE_BYTES] for i in range(0, len(whole), _PIECE_BYTES)), len(whole)
    if hasattr(document, "read"):
        return iter(lambda: document.read(_PIECE_BYTES), b""), None
    return document, None


def _read_file(path):
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
