"""Typed errors: one class a kind of failure, the server's sentence, and its numbers."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Type

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class QuireError(Exception):
    """A call that did not end well.

    code     the grpc.StatusCode
    message  the server's sentence: what was asked, what there is, what would change it
    reason   short name from the details, such as "DEADLINE"; "" when there are none
    numbers  the details as a dict of strings, such as {"requested": "20.3", "available": "1.0",
             "unit": "seconds"}: what the call takes, and what there is
    """

    def __init__(self, code: grpc.StatusCode, message: str, reason: str = "",
                 numbers: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.numbers: Dict[str, str] = dict(numbers or {})


class InvalidRequest(QuireError):
    """INVALID_ARGUMENT, OUT_OF_RANGE, FAILED_PRECONDITION, NOT_FOUND: change the request."""


class ResourceExhausted(QuireError):
    """RESOURCE_EXHAUSTED: over a limit, or no room now."""


class DeadlineExceeded(QuireError):
    """DEADLINE_EXCEEDED: refused at admission because it cannot be met, or passed while running."""


class Unavailable(QuireError):
    """UNAVAILABLE: no server there, or it is shutting down. Safe to try again."""


class Unsupported(QuireError):
    """UNIMPLEMENTED: this server or this model cannot do that."""


class Cancelled(QuireError):
    """CANCELLED: by this client."""


class InternalError(QuireError):
    """Any other status."""


_KINDS: Dict[grpc.StatusCode, Type[QuireError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def from_rpc_error(error: grpc.RpcError) -> QuireError:
    """The QuireError of a grpc.RpcError, with the numbers of its ErrorInfo."""
    code, message = error.code(), error.details() or ""
    reason, numbers = "", {}  # type: str, Dict[str, str]
    try:
        status = rpc_status.from_call(error)
    except (ValueError, AttributeError):
        status = None
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reason, numbers = info.reason, dict(info.metadata)
    return _KINDS.get(code, InternalError)(code, message, reason, numbers)
