"""Client of a Quire server: stream completions, summarize long documents.

    from quire import Client

    with Client("127.0.0.1:7070") as quire:
        for delta in quire.generate("The capital of France is", max_tokens=16):
            print(delta.text, end="", flush=True)
"""

from quire.client import Client, SamplingOptions, Tokens
from quire.documents import Document
from quire.errors import (Cancelled, DeadlineExceeded, InternalError, InvalidRequest, QuireError,
                          ResourceExhausted, Unavailable, Unsupported)
from quire.streams import Completion, Summary

__all__ = ["Client", "Completion", "Summary", "Tokens", "Document", "SamplingOptions",
           "QuireError", "Cancelled", "DeadlineExceeded", "InternalError", "InvalidRequest",
           "ResourceExhausted", "Unavailable", "Unsupported"]
__version__ = "0.1.0"
