"""Running calls as Python iterators. Leaving the loop cancels the call and frees its pages on the server."""

import grpc

from quire.errors import from_rpc_error
from quire.v1 import quire_pb2 as pb


class _Stream:
    """One running call. Iterate over it once; leaving the loop, or the `with` block, ends it."""

    def __init__(self, call, on_progress=None):
        self._call = call
        self._on_progress = on_progress
        self._texts = []
        self.accepted = None
        self.finished = None

    @property
    def text(self):
        """All answer text that has arrived."""
        return "".join(self._texts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cancel()

    def cancel(self):
        """Ends the call now; harmless when it is over."""
        self._call.cancel()

    def result(self):
        """Reads to the end and gives the whole text."""
        for _ in self:
            pass
        return self.text

    def __iter__(self):
        # Nothing but the loop holds this generator: leaving the loop closes it, and that cancels the call.
        call, finished = self._call, False
        try:
            for message in call:
                kind = message.WhichOneof("event")
                event = getattr(message, kind) if kind else None
                if kind == "progress" and self._on_progress:
                    self._on_progress(event)
                elif kind in ("accepted", "finished"):
                    setattr(self, kind, event)
                elif kind in ("delta", "section"):
                    if kind == "delta":
                        self._texts.append(event.text)
                    yield event
            finished = True
        except grpc.RpcError as error:
            finished = True
            raise from_rpc_error(error) from None
        finally:
            if not finished:
                call.cancel()


class Completion(_Stream):
    """A running generation: yields quire.v1.Delta (text, tokens, logprobs).

    accepted  seed, prompt tokens, estimates; set before the first delta
    finished  reason, usage, timings; set at the end
    text      what has arrived so far
    """

    @property
    def reason(self):
        """"stop" or "length"; None while it runs."""
        if self.finished is None:
            return None
        return pb.FinishReason.Name(self.finished.reason)[len("FINISH_REASON_"):].lower()


class Summary(_Stream):
    """A running summary: yields quire.v1.SectionDelta for sections and quire.v1.SummaryDelta for the final text.

    finished.covered_bytes equals finished.total_bytes: nothing of the document was dropped.
    """
