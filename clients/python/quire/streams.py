"""Running calls as Python iterators: leaving the loop cancels the call on the server."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Callable, Dict, Generic, Iterator, List, Optional, Type, TypeVar, Union

import grpc

from quire.documents import Upload
from quire.errors import from_rpc_error
from quire.v1 import quire_pb2 as pb

ProgressCallback = Callable[[pb.Progress], Any]

_Self = TypeVar("_Self", bound="Stream[Any]")
_Event = TypeVar("_Event")


class Stream(Generic[_Event]):
    """One running call. Iterate over it once.

    Leaving the loop (break, an exception, dropping the iterator) or the `with` block cancels the
    call, and the server frees its pages on its next step. A call that did not end well raises a
    QuireError from the loop.
    """

    def __init__(self, call: Any, on_progress: Optional[ProgressCallback] = None) -> None:
        self._call = call
        self._on_progress = on_progress
        self._texts: List[str] = []

    @property
    def text(self) -> str:
        """All answer text that has arrived."""
        return "".join(self._texts)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Ends the call now, from any thread; harmless when it is over."""
        self._call.cancel()

    def result(self) -> str:
        """Reads to the end and gives the whole text."""
        for _ in self:
            pass
        return self.text

    def __iter__(self) -> Iterator[_Event]:
        # Nothing but the loop holds this generator: leaving the loop closes it, which cancels.
        try:
            for message in self._call:
                kind = message.WhichOneof("event")
                event: Any = getattr(message, kind) if kind else None
                self._take(kind, event)
                if kind == "progress" and self._on_progress:
                    self._on_progress(event)
                elif kind in ("accepted", "finished"):
                    setattr(self, kind, event)
                elif kind in ("delta", "section"):
                    yield event
        except grpc.RpcError as error:
            raise self._error_of(error) from None
        finally:
            self._call.cancel()

    def _take(self, kind: str, event: Any) -> None:
        if kind == "delta":
            self._texts.append(event.text)

    def _error_of(self, error: grpc.RpcError) -> Exception:
        return from_rpc_error(error)


class Completion(Stream[pb.Delta]):
    """A running generation: yields quire.v1.Delta (text, tokens, logprobs).

    accepted  quire.v1.Accepted: seed, prompt tokens, estimates; set before the first delta
    finished  quire.v1.Finished: reason, usage, timings; set at the end, of several the last to end
    text      what has arrived so far, of several answers the first
    texts     of each answer
    ends      quire.v1.Finished of each answer that has ended, by its number
    """

    accepted: Optional[pb.Accepted] = None
    finished: Optional[pb.Finished] = None

    def __init__(self, call: Any, on_progress: Optional[ProgressCallback] = None) -> None:
        super().__init__(call, on_progress)
        self._choices: Dict[int, List[str]] = {}
        self.ends: Dict[int, pb.Finished] = {}

    @property
    def text(self) -> str:
        return "".join(self._choices.get(0, []))

    @property
    def texts(self) -> List[str]:
        """The text of each answer as far as it has arrived, by its number."""
        n = 1 + max([*self._choices, *self.ends], default=-1)
        return ["".join(self._choices.get(choice, [])) for choice in range(n)]

    def _take(self, kind: str, event: Any) -> None:
        if kind == "delta":
            self._choices.setdefault(event.choice, []).append(event.text)
        elif kind == "finished":
            self.ends[event.choice] = event

    @property
    def reason(self) -> Optional[str]:
        """"stop" or "length"; None while it runs."""
        if self.finished is None:
            return None
        return pb.FinishReason.Name(self.finished.reason)[len("FINISH_REASON_"):].lower()


class Summary(Stream[Union[pb.SectionDelta, pb.SummaryDelta]]):
    """A running summary: yields quire.v1.SectionDelta for sections, then quire.v1.SummaryDelta.

    accepted  quire.v1.SummarizeAccepted: id, seed
    finished  quire.v1.SummarizeFinished: covered_bytes equals total_bytes, nothing was dropped
    text      the final summary (not the sections') as far as it has arrived
    """

    accepted: Optional[pb.SummarizeAccepted] = None
    finished: Optional[pb.SummarizeFinished] = None

    def __init__(self, call: Any, upload: Upload,
                 on_progress: Optional[ProgressCallback] = None) -> None:
        super().__init__(call, on_progress)
        self._upload = upload

    def _error_of(self, error: grpc.RpcError) -> Exception:
        """What broke the reading of the document, if that is what ended the call."""
        return self._upload.error or from_rpc_error(error)
