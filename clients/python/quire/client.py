"""The client: one channel, one method a call of the API."""

from __future__ import annotations

import json
import os
from types import TracebackType
from typing import (TYPE_CHECKING, Any, Iterable, Iterator, List, Mapping, NamedTuple, Optional,
                    Sequence, Tuple, Type, TypedDict, Union)

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quire.documents import Document, Upload
from quire.errors import from_rpc_error
from quire.streams import Completion, ProgressCallback, Summary
from quire.v1 import quire_pb2 as pb
from quire.v1 import quire_pb2_grpc

if TYPE_CHECKING:
    from typing_extensions import Unpack

Schema = Union[str, Mapping[str, Any], bool]  # a JSON schema

DEFAULT_ADDRESS = "127.0.0.1:7070"
_MESSAGE_BYTES = 64 << 20
_LOCAL = ("unix:", "localhost:", "127.", "[::1]:")


class SamplingOptions(TypedDict, total=False):
    """What generate, chat and summarize take beside their own options; quire.proto has the details.

    Where the API draws, absent options are those of the model's plain distribution; a summary is
    greedy.
    """

    temperature: Optional[float]  # 0: always the most likely token
    top_k: Optional[int]
    top_p: Optional[float]
    min_p: Optional[float]
    typical_p: Optional[float]
    repetition_penalty: Optional[float]
    frequency_penalty: Optional[float]
    presence_penalty: Optional[float]
    logit_bias: Optional[Mapping[int, float]]  # by token
    seed: Optional[int]  # the same seed gives the same tokens


class Tokens(NamedTuple):
    """Token ids, and where each stands: (begin, end) in bytes of the UTF-8 text, when asked for."""

    ids: List[int]
    spans: List[Tuple[int, int]]


class Client:
    """A connection to one server; threads may share it.

    address  "HOST:PORT" or "unix:PATH"; by default QUIRE_SERVER, else 127.0.0.1:7070
    timeout  seconds for each call; None waits. The server refuses at once what it cannot do in time
    channel  a grpc channel of your own (TLS, interceptors) instead of an address
    """

    def __init__(self, address: Optional[str] = None, *, timeout: Optional[float] = None,
                 channel: Optional[grpc.Channel] = None) -> None:
        self._own_channel = channel is None
        self._channel = channel or _channel_to(
            address or os.environ.get("QUIRE_SERVER") or DEFAULT_ADDRESS)
        self._stub: Any = quire_pb2_grpc.QuireStub(self._channel)  # type: ignore[no-untyped-call]
        self._timeout = timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and every call that still runs on it; a channel given stays open."""
        if self._own_channel:
            self._channel.close()

    def generate(self, prompt: Union[str, Iterable[int]], *, max_tokens: Optional[int] = None,
                 stop: Union[str, Sequence[str]] = (), ignore_eos: bool = False,
                 logprobs: Optional[int] = None, add_bos: Optional[bool] = None,
                 json_schema: Optional[Schema] = None, grammar: Optional[str] = None,
                 min_tokens: int = 0, stop_tokens: Sequence[int] = (), n: int = 1,
                 best_of: Optional[int] = None,
                 on_progress: Optional[ProgressCallback] = None, timeout: Optional[float] = None,
                 request_id: Optional[str] = None,
                 **sampling: Unpack[SamplingOptions]) -> Completion:
        """Continues a text or token ids; returns a Completion to iterate over.

        max_tokens   tokens to generate at most; None: as many as fit
        stop         a string, or up to 16, that ends the answer and is not part of it
        logprobs     log-probabilities of each token and of this many best alternatives (0 to 20)
        add_bos      whether a text gets the beginning-of-text token; None: as the model's file says
        json_schema  the answer is JSON under this schema (a text, or what json.dumps takes)
        grammar      the answer is a text of this grammar in GBNF
        min_tokens   before so many the model does not end its answer
        stop_tokens  tokens that end the answer as the model's own ends do
        n            so many answers, 1 to 16; delta.choice tells whose a delta is, texts has all
        best_of      draws so many and gives the n that are likeliest by the mean of their tokens'
                     log-probabilities; needs max_tokens
        on_progress  is called with each quire.v1.Progress while the prompt is read
        request_id   of this call, for the server's log and `accepted.id`
        """
        request = pb.GenerateRequest()
        if isinstance(prompt, str):
            request.text = prompt
        else:
            request.tokens.ids.extend(prompt)
        if add_bos is not None:
            request.add_bos = add_bos
        _add_form(request, json_schema, grammar, min_tokens, stop_tokens)
        _add_choices(request, n, best_of)
        return self._generate(request, max_tokens, stop, ignore_eos, logprobs, on_progress, timeout,
                              request_id, sampling)

    def chat(self, messages: Union[str, Sequence[Mapping[str, Any]]], *,
             system: Optional[str] = None, tools: Sequence[Mapping[str, str]] = (),
             thinking: Optional[bool] = None, truncate_oldest: bool = False,
             max_tokens: Optional[int] = None,
             stop: Union[str, Sequence[str]] = (), ignore_eos: bool = False,
             logprobs: Optional[int] = None, json_schema: Optional[Schema] = None,
             grammar: Optional[str] = None, min_tokens: int = 0, stop_tokens: Sequence[int] = (),
             n: int = 1, best_of: Optional[int] = None,
             on_progress: Optional[ProgressCallback] = None,
             timeout: Optional[float] = None, request_id: Optional[str] = None,
             **sampling: Unpack[SamplingOptions]) -> Completion:
        """Answers a user's text, or messages {"role": ..., "content": ...}; returns a Completion.

        system           the system message, put before the others
        tools            {"name": ..., "description": ..., "parameters": a JSON schema}; calls are
                         in the completion's finished.tool_calls
        thinking         of models that can think before they answer; None: as they do
        truncate_oldest  leaves the oldest messages out where all do not fit; the completion's
                         accepted tells how many tokens that were
        The rest is as for generate.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        request = pb.GenerateRequest(
            chat=pb.Chat(messages=[pb.Message(**message) for message in messages],
                         tools=[pb.Tool(**tool) for tool in tools], thinking=thinking,
                         truncate=pb.TRUNCATE_OLDEST if truncate_oldest else pb.TRUNCATE_NEVER))
        _add_form(request, json_schema, grammar, min_tokens, stop_tokens)
        _add_choices(request, n, best_of)
        return self._generate(request, max_tokens, stop, ignore_eos, logprobs, on_progress, timeout,
                              request_id, sampling)

    def summarize(self, document: Document, *, instruction: Optional[str] = None,
                  section_tokens: Optional[int] = None, max_tokens: Optional[int] = None,
                  section_max_tokens: Optional[int] = None, replace_invalid: bool = False,
                  on_progress: Optional[ProgressCallback] = None,
                  timeout: Optional[float] = None, request_id: Optional[str] = None,
                  **sampling: Unpack[SamplingOptions]) -> Summary:
        """Summarizes a document of any size; returns a Summary to iterate over.

        document            a path (pathlib.Path; a str is the text itself), text, bytes, an open
                            file, or an iterable of bytes
        instruction         what the reader wants from the summary
        section_tokens      reads sections of about this many tokens; None: whole where it fits
        max_tokens          tokens of the final summary at most; section_max_tokens of a section's
        replace_invalid     bytes that are not UTF-8 become U+FFFD; else they are refused
        on_progress         is called with each quire.v1.Progress
        """
        options = pb.SummarizeOptions(sampling=_sampling_of(sampling), instruction=instruction,
                                      section_tokens=section_tokens, max_tokens=max_tokens,
                                      section_max_tokens=section_max_tokens,
                                      replace_invalid=replace_invalid)
        upload = Upload(options, document)
        call = self._stub.Summarize(upload.requests(), timeout=self._seconds(timeout),
                                    metadata=_metadata_of(request_id))
        upload.begin(call)
        return Summary(call, upload, on_progress)

    def estimate(self, prompt: Union[str, int], *,
                 max_tokens: Optional[int] = None) -> pb.EstimateResponse:
        """What a prompt (or one of so many tokens) would take, and whether it would be admitted."""
        if isinstance(prompt, int):
            request = pb.EstimateRequest(prompt_tokens=prompt, max_tokens=max_tokens)
        else:
            request = pb.EstimateRequest(
                request=pb.GenerateRequest(text=prompt, max_tokens=max_tokens))
        reply: pb.EstimateResponse = self._unary(self._stub.Estimate, request)
        return reply

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False,
                 spans: bool = False) -> Tokens:
        """The token ids of a text.

        add_special    beginning and end tokens as the model's file says
        parse_special  "<|im_end|>" is one token, not text
        spans          also where each token stands
        """
        reply = self._unary(self._stub.Tokenize, pb.TokenizeRequest(
            text=text, add_special=add_special, parse_special=parse_special, spans=spans))
        return Tokens(list(reply.ids), [(span.begin, span.end) for span in reply.spans])

    def detokenize(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of token ids; parts of characters become U+FFFD.

        special  control tokens as their text, not as nothing
        """
        reply = self._unary(self._stub.Detokenize, pb.DetokenizeRequest(ids=ids, special=special))
        return str(reply.text)

    def model(self) -> pb.Model:
        """What is being served: names, limits, the weights' SHA-256, the geometry of the cache."""
        reply: pb.Model = self._unary(self._stub.GetModel, pb.GetModelRequest())
        return reply

    def stats(self, interval: float = 1.0, *, sequence: Optional[int] = None) -> Iterator[pb.Stats]:
        """Occupancy and rates, now and every `interval` seconds, until the caller leaves.

        sequence  an id out of `sequences`: its tables are told too, as long as it holds pages
        """
        call = self._stub.WatchStats(
            pb.WatchStatsRequest(interval_ms=round(interval * 1000), sequence=sequence))
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    def is_serving(self, timeout: float = 5.0) -> bool:
        """Whether the server answers SERVING to the standard health check within `timeout`."""
        try:
            stub: Any = health_pb2_grpc.HealthStub(self._channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def _generate(self, request: pb.GenerateRequest, max_tokens: Optional[int],
                  stop: Union[str, Sequence[str]], ignore_eos: bool, logprobs: Optional[int],
                  on_progress: Optional[ProgressCallback], timeout: Optional[float],
                  request_id: Optional[str], sampling: Mapping[str, Any]) -> Completion:
        request.sampling.CopyFrom(_sampling_of(sampling))
        if max_tokens is not None:
            request.max_tokens = max_tokens
        request.stop.extend([stop] if isinstance(stop, str) else stop)
        request.ignore_eos = ignore_eos
        if logprobs is not None:
            request.logprobs = logprobs
        call = self._stub.Generate(request, timeout=self._seconds(timeout),
                                   metadata=_metadata_of(request_id))
        return Completion(call, on_progress)

    def _unary(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def _seconds(self, timeout: Optional[float]) -> Optional[float]:
        return self._timeout if timeout is None else timeout


def _channel_to(address: str) -> grpc.Channel:
    options = [("grpc.max_receive_message_length", _MESSAGE_BYTES)]
    if address.startswith(_LOCAL):
        options.append(("grpc.enable_http_proxy", 0))  # a proxy is for what is not on this machine
    return grpc.insecure_channel(address, options=options)


def _metadata_of(request_id: Optional[str]) -> Optional[List[Tuple[str, str]]]:
    return [("x-request-id", request_id)] if request_id else None


def _sampling_of(options: Mapping[str, Any]) -> pb.Sampling:
    known = SamplingOptions.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}; sampling takes {', '.join(known)}")
    plain = {name: value for name, value in options.items() if name != "logit_bias"}
    biases = options.get("logit_bias") or {}
    return pb.Sampling(logit_bias=[pb.LogitBias(token=token, bias=bias)
                                   for token, bias in biases.items()], **plain)


def _add_form(request: pb.GenerateRequest, json_schema: Optional[Schema], grammar: Optional[str],
              min_tokens: int, stop_tokens: Sequence[int]) -> None:
    if json_schema is not None and grammar is not None:
        raise TypeError("json_schema and grammar: give one of them")
    if json_schema is not None:
        request.json_schema = (json_schema if isinstance(json_schema, str)
                               else json.dumps(json_schema))
    if grammar is not None:
        request.grammar = grammar
    request.min_tokens = min_tokens
    request.stop_tokens.extend(stop_tokens)


def _add_choices(request: pb.GenerateRequest, n: int, best_of: Optional[int]) -> None:
    if n != 1:
        request.n = n
    if best_of is not None:
        request.best_of = best_of
