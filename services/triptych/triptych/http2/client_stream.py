"""One stream of a client's connection, which is one call: its answers within limits, and its outcome."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

import grpc
from ngh2 import ErrorCode

from triptych.errors import AnswerTooLarge, Overloaded
from triptych.http2.framing import PREFIX, is_grpc, is_message
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import MAX_BYTES_IN_FLIGHT, MAX_MESSAGE_BYTES, MAX_METADATA_BYTES

# gRPC code of each reset code (gRPC over HTTP2, PROTOCOL-HTTP2.md); any other is INTERNAL.
RESETS: dict[int, grpc.StatusCode] = {
    ErrorCode.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: grpc.StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
CODES: dict[bytes, grpc.StatusCode] = {b"%d" % code.value[0]: code for code in grpc.StatusCode}
# gRPC code of an HTTP status, which a proxy answers without a grpc-status (http-grpc-status-mapping.md).
HTTP_CODES = {
    b"400": grpc.StatusCode.INTERNAL,
    b"401": grpc.StatusCode.UNAUTHENTICATED,
    b"403": grpc.StatusCode.PERMISSION_DENIED,
    b"404": grpc.StatusCode.UNIMPLEMENTED,
    b"429": grpc.StatusCode.UNAVAILABLE,
    b"502": grpc.StatusCode.UNAVAILABLE,
    b"503": grpc.StatusCode.UNAVAILABLE,
    b"504": grpc.StatusCode.UNAVAILABLE,
}


@dataclass(frozen=True)
class ClientLimits:
    """Limits of what servers may answer. All channels of a process share `in_flight_bytes`: answers not yet whole."""

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_metadata_bytes: int = MAX_METADATA_BYTES
    in_flight_bytes: InFlightBytes = field(default_factory=lambda: InFlightBytes(MAX_BYTES_IN_FLIGHT))


class CallFailed(Exception):
    """A call ended with another status than OK.

    is_unsent: the server has certainly not started it.
    refusal: why this side refused the answer.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        details: str,
        trailers: Mapping[str, str] = MappingProxyType({}),
        *,
        is_unsent: bool = False,
        refusal: Overloaded | None = None,
    ) -> None:
        super().__init__(code, details)
        self.code, self.details, self.trailers, self.is_unsent = code, details, trailers, is_unsent
        self.refusal = refusal


@dataclass(slots=True)
class LastingCall:
    """A unary call that goes on when its caller waits no longer: it is abandoned then, and not cancelled.

    limit_s: the longest time of the call, which the server gets as its deadline.
    on_end: called when an abandoned call has ended.
    """

    limit_s: float
    on_end: Callable[[], None]
    is_abandoned: bool = False


def refused(refusal: Overloaded) -> CallFailed:
    """The failure of a call whose answer this side refuses."""
    return CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refusal), refusal=refusal)


class ClientStream:
    """One call in flight. `wakeup` is done when a message or the end has come."""

    __slots__ = (
        "_counted_bytes",
        "_is_whole",
        "_limits",
        "_partial",
        "end_s",
        "error",
        "fields",
        "is_over",
        "is_stream",
        "on_end",
        "stream_id",
        "timeout_s",
        "unacknowledged_bytes",
        "wakeup",
    )

    def __init__(self, wakeup: asyncio.Future[None], limits: ClientLimits, *, is_stream: bool) -> None:
        self.wakeup, self.is_stream, self._limits = wakeup, is_stream, limits
        self.stream_id = 0
        self.timeout_s = self.end_s = math.inf  # the deadline by the clock of the loop; a stream has none
        self.is_over = False
        self.error: CallFailed | None = None
        self.on_end: Callable[[], None] | None = None  # of an abandoned call
        self.fields: dict[bytes, bytes] = {}  # headers, overwritten by trailers
        self.unacknowledged_bytes = 0  # of a stream whose next message nobody has taken yet
        self._counted_bytes = 0  # in flight
        self._partial: bytes | bytearray = b""
        self._is_whole = False  # `_partial` is the one message of the answer, which came in one piece

    def add(self, data: bytes) -> None:
        """Add a piece of the answer, unless it is a page of HTTP. Raises `CallFailed` over a limit."""
        if not is_grpc(self.fields.get(b"content-type", b"")):
            return
        if not self._partial and not self.is_stream and is_message(data, self._limits.max_message_bytes):
            self._partial, self._is_whole = data, True
            return
        self._is_whole = False
        if self._partial:
            if isinstance(self._partial, bytes):
                self._partial = bytearray(self._partial)
            self._partial += data
        else:
            self._partial = data
        is_whole = self._has_message()
        try:
            if self._counted_bytes or not is_whole:
                self._check_size()
                self._count(len(data))
        except Overloaded as error:
            raise refused(error) from error
        if is_whole and not self.is_stream and (more := len(self._partial) - self._end()):
            raise CallFailed(grpc.StatusCode.INTERNAL, f"want one message, got {more} bytes more")

    @property
    def unread_bytes(self) -> int:
        """Bytes received and not yet read as a message."""
        return len(self._partial)

    @property
    def is_ahead(self) -> bool:
        """Whether a whole message of a stream waits to be read, so that the server has to wait as well."""
        return self.is_stream and self._has_message()

    def message(self) -> bytes | None:
        """The next message, None until it is whole. Raises `CallFailed` for a compressed one, or one over the limit."""
        if self._is_whole:
            message, self._partial, self._is_whole = bytes(self._partial[PREFIX:]), b"", False
            return message
        try:
            self._check_size()
        except AnswerTooLarge as error:
            raise refused(error) from error
        if not self._has_message():
            return None
        partial = self._partial
        if partial[0]:
            raise CallFailed(grpc.StatusCode.INTERNAL, "want a message without compression, got a compressed one")
        end = self._end()
        message = bytes(memoryview(partial)[PREFIX:end])
        if isinstance(partial, bytearray):
            del partial[:end]
        else:
            self._partial = partial[end:]
        self._release(end)
        return message

    def end(self, error: CallFailed | None) -> None:
        """End the call, or one that was abandoned before."""
        if not self.is_over:
            self.is_over, self.error = True, error
            self.wake_up()
        elif self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            on_end()

    def abandon(self, on_end: Callable[[], None]) -> None:
        """Drop the rest of the answer. `on_end` is called when the call ends."""
        self.is_over, self.on_end = True, on_end
        self.close()

    def close(self) -> None:
        """Drop what nobody reads any more."""
        if self._counted_bytes:
            self._release(self._counted_bytes)
        self._partial, self._is_whole = b"", False

    def wake_up(self) -> None:
        """Wake the task that waits for the call."""
        if not self.wakeup.done():
            self.wakeup.set_result(None)

    def ending(self, reset: int) -> CallFailed | None:
        """Outcome of a closed stream: the call's status if that came, else the code of the reset."""
        if b"grpc-status" in self.fields or not reset:
            return self._status()
        code = RESETS.get(reset, grpc.StatusCode.INTERNAL)
        return CallFailed(code, f"the stream was reset with code {reset}", is_unsent=reset == ErrorCode.REFUSED_STREAM)

    def _status(self) -> CallFailed | None:
        """The failure that headers and trailers state; None for OK."""
        fields = self.fields
        status = fields.get(b"grpc-status")
        if status == b"0":
            return None
        if status is None:
            http = fields.get(b":status", b"none")
            code = HTTP_CODES.get(http, grpc.StatusCode.UNKNOWN)
            if http == b"200":
                code = grpc.StatusCode.INTERNAL
            return CallFailed(code, f"the answer has no grpc-status, and HTTP status {http.decode('latin-1')}")
        details = unquote_to_bytes(fields.get(b"grpc-message", b"")).decode(errors="replace")
        trailers = {key.decode("latin-1"): value.decode("latin-1") for key, value in fields.items()}
        return CallFailed(CODES.get(status, grpc.StatusCode.UNKNOWN), details, trailers)

    def _has_message(self) -> bool:
        """Whether a whole message waits."""
        return len(self._partial) >= PREFIX and len(self._partial) >= self._end()

    def _end(self) -> int:
        """End of the next message, from its prefix."""
        return PREFIX + int.from_bytes(self._partial[1:PREFIX], "big")

    def _check_size(self) -> None:
        """Raises `AnswerTooLarge` for the prefix of a message over the limit."""
        size_bytes, most_bytes = self._end() - PREFIX, self._limits.max_message_bytes
        if size_bytes > most_bytes and len(self._partial) >= PREFIX:
            raise AnswerTooLarge(f"received message larger than max ({size_bytes} vs. {most_bytes})")

    def _count(self, size_bytes: int) -> None:
        self._limits.in_flight_bytes.acquire(size_bytes, self._counted_bytes)
        self._counted_bytes += size_bytes

    def _release(self, size_bytes: int) -> None:
        size_bytes = min(size_bytes, self._counted_bytes)
        self._limits.in_flight_bytes.release(size_bytes)
        self._counted_bytes -= size_bytes
