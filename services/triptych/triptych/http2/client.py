"""Client side of HTTP/2: one connection, and the calls on it that wait for their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import cast
from urllib.parse import unquote_to_bytes

import grpc
from ngh2 import (
    DataReceived,
    ErrorCode,
    Event,
    GoAwayReceived,
    NeverIndexedHeader,
    NGH2Error,
    ResponseReceived,
    Role,
    Setting,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
)

from triptych.http2.connection import Connection
from triptych.http2.framing import PREFIX, Headers, framed

KEEPALIVE_S = 30.0  # silence of a server with calls in flight, until it gets a PING
KEEPALIVE_TIMEOUT_S = 5.0  # limit for the answer to the PING
MAX_HEADERS_BYTES = 1 << 20
MAX_TIMEOUT_MS = 99_999_999  # eight digits

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


class CallFailed(Exception):
    """A call ended with another status than OK. `is_unsent`: the server has certainly not started it."""

    def __init__(
        self,
        code: grpc.StatusCode,
        details: str,
        trailers: Mapping[str, str] = MappingProxyType({}),
        *,
        is_unsent: bool = False,
    ) -> None:
        super().__init__(code, details)
        self.code, self.details, self.trailers, self.is_unsent = code, details, trailers, is_unsent


class ClientStream:
    """One call in flight. `wakeup` is done when a message or the end has come."""

    __slots__ = ("_partial", "error", "fields", "is_over", "is_stream", "stream_id", "wakeup")

    def __init__(self, wakeup: asyncio.Future[None], *, is_stream: bool) -> None:
        self.wakeup, self.is_stream = wakeup, is_stream
        self.stream_id = 0
        self.is_over = False
        self.error: CallFailed | None = None
        self.fields: dict[bytes, bytes] = {}  # headers, overwritten by trailers
        self._partial: bytes | bytearray = b""

    def add(self, data: bytes) -> None:
        """Add a piece of the answer."""
        if not self._partial:
            self._partial = data
            return
        if isinstance(self._partial, bytes):
            self._partial = bytearray(self._partial)
        self._partial += data

    @property
    def unread_bytes(self) -> int:
        """Bytes received and not yet read as a message."""
        return len(self._partial)

    def message(self) -> bytes | None:
        """The next message, None until it is whole. Raises `CallFailed` for a compressed one."""
        partial = self._partial
        if len(partial) < PREFIX or len(partial) < (end := PREFIX + int.from_bytes(partial[1:PREFIX], "big")):
            return None
        if partial[0]:
            raise CallFailed(grpc.StatusCode.INTERNAL, "want a message without compression, got a compressed one")
        message = bytes(memoryview(partial)[PREFIX:end])
        if isinstance(partial, bytearray):
            del partial[:end]
        else:
            self._partial = partial[end:]
        return message

    def end(self, error: CallFailed | None) -> None:
        """End the call."""
        if not self.is_over:
            self.is_over, self.error = True, error
            self.wake_up()

    def wake_up(self) -> None:
        """Wake the task that waits for the call."""
        if not self.wakeup.done():
            self.wakeup.set_result(None)

    def status(self) -> CallFailed | None:
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


class ClientConnection(Connection):
    """A connection to one address. `changed` is called when it accepts no more calls."""

    def __init__(self, buffer: bytearray, changed: Callable[[ClientConnection], None]) -> None:
        super().__init__(Role.CLIENT, buffer, {Setting.ENABLE_PUSH: 0}, MAX_HEADERS_BYTES)
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._calls: dict[int, ClientStream] = {}
        self.ready: asyncio.Future[None] = self._loop.create_future()  # done with the SETTINGS of the server
        self.is_usable = True
        self.fault = "the connection was lost"
        self._received_s = time.monotonic()
        self._keepalive: asyncio.TimerHandle | None = None

    def lost(self) -> None:
        for call in tuple(self._calls.values()):
            call.end(CallFailed(grpc.StatusCode.UNAVAILABLE, self.fault))
        self._calls.clear()
        if self._keepalive is not None:
            self._keepalive.cancel()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the connection was closed before the server sent its settings"))
            self.ready.exception()  # marks it as retrieved: perhaps nobody awaits it
        self.is_usable = False
        self._changed(self)

    def retire(self) -> None:
        """Accept no more calls, and close after the last one."""
        self._stop_accepting()
        if not self._calls:
            self.close()

    def handle(self, events: list[Event]) -> None:
        self._received_s = time.monotonic()
        calls = self._calls
        for event in events:
            kind = type(event)
            if kind is DataReceived:
                data = cast("DataReceived", event)
                self.acknowledge(data.stream_id, len(data.data))
                if call := calls.get(data.stream_id):
                    call.add(data.data)
                    if call.is_stream:
                        call.wake_up()
            elif kind is ResponseReceived:
                response = cast("ResponseReceived", event)
                if call := calls.get(response.stream_id):
                    call.fields = dict(response.headers)
                    if response.end_stream:
                        self._stop_sending(response.stream_id)
            elif kind is TrailersReceived:
                trailers = cast("TrailersReceived", event)
                if call := calls.get(trailers.stream_id):
                    call.fields.update(trailers.headers)
                    self._stop_sending(trailers.stream_id)
            elif kind is StreamClosed:
                closed = cast("StreamClosed", event)
                if call := calls.pop(closed.stream_id, None):
                    call.end(_ending(call, closed.error_code))
            elif kind is GoAwayReceived:
                self._stop_accepting()
            elif kind is SettingsReceived and not self.ready.done():
                self.ready.set_result(None)
        if not self.is_usable and not calls:
            self.close()

    def flush(self) -> None:
        super().flush()
        if events := self.protocol.events():  # for calls that could not be sent
            self.handle(events)

    async def unary(self, headers: Headers, data: bytes, timeout_s: float) -> bytes:
        """Answer of a unary call within `timeout_s`. Raises `CallFailed`."""
        call = self._begin((*headers, _timeout(timeout_s)), data, is_stream=False)
        timer = self._loop.call_later(timeout_s, self._expire, call, timeout_s)
        try:
            await call.wakeup
        finally:
            timer.cancel()
            self._forget(call)
        if call.error is not None:
            raise call.error
        message = call.message()
        if message is None or call.unread_bytes:
            got = "none that is whole" if message is None else f"{call.unread_bytes} bytes more"
            raise CallFailed(grpc.StatusCode.INTERNAL, f"want one message, got {got}")
        return message

    async def stream(self, headers: Headers, data: bytes) -> AsyncGenerator[bytes]:
        """Answers of a server-streaming call, until either side ends it. Raises `CallFailed`."""
        call = self._begin(headers, data, is_stream=True)
        try:
            while True:
                while (message := call.message()) is not None:
                    yield message
                if call.is_over:
                    if call.error is not None:
                        raise call.error
                    if call.unread_bytes:
                        raise CallFailed(grpc.StatusCode.INTERNAL, "the answers ended within a message")
                    return
                await call.wakeup
                if not call.is_over:
                    call.wakeup = self._loop.create_future()
        finally:
            self._forget(call)

    def _begin(self, headers: Headers, data: bytes, *, is_stream: bool) -> ClientStream:
        if not self.is_usable or self.transport is None or self.transport.is_closing():
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "the connection was closed", is_unsent=True)
        call = ClientStream(self._loop.create_future(), is_stream=is_stream)
        try:
            call.stream_id = self.protocol.send_request(headers)
            self.protocol.send_data(call.stream_id, framed(data), end_stream=True)
        except NGH2Error as error:  # such as: all stream numbers are used
            self.retire()
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, str(error), is_unsent=True) from error
        self._calls[call.stream_id] = call
        self.flush()
        if self._keepalive is None:
            self._received_s = time.monotonic()
            self._keepalive = self._loop.call_later(KEEPALIVE_S, self._keep_alive)
        return call

    def _forget(self, call: ClientStream) -> None:
        """Reset a call that nobody awaits any more."""
        if self._calls.pop(call.stream_id, None) is None:
            return
        self.reset(call.stream_id, ErrorCode.CANCEL)
        if not self.is_usable and not self._calls:
            self.close()

    def _stop_sending(self, stream_id: int) -> None:
        """Send no more of a request that is answered already."""
        if self.protocol.queued_body_size(stream_id):
            self.submit(self.protocol.reset_stream, stream_id, ErrorCode.CANCEL)

    def _expire(self, call: ClientStream, timeout_s: float) -> None:
        text = f"no answer came within {timeout_s:.3f} s"
        call.end(CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, text))

    def _stop_accepting(self) -> None:
        if self.is_usable:
            self.is_usable = False
            self._changed(self)

    def _keep_alive(self) -> None:
        """Send a PING to a silent server with calls in flight. Close the connection if it does not answer."""
        self._keepalive = None
        if self.is_closed or not self._calls:
            return
        silent_s = time.monotonic() - self._received_s
        if silent_s >= KEEPALIVE_S + KEEPALIVE_TIMEOUT_S:
            self.abort()
        elif silent_s >= KEEPALIVE_S:
            self.submit(self.protocol.ping)
            self.flush()
            self._keepalive = self._loop.call_later(KEEPALIVE_TIMEOUT_S, self._keep_alive)
        else:
            self._keepalive = self._loop.call_later(KEEPALIVE_S - silent_s, self._keep_alive)


def _timeout(seconds: float) -> tuple[bytes, bytes]:
    """The field `grpc-timeout`, never indexed because it differs for each call."""
    if seconds < MAX_TIMEOUT_MS / 1000:
        return NeverIndexedHeader(b"grpc-timeout", b"%dm" % max(1, seconds * 1000))
    return NeverIndexedHeader(b"grpc-timeout", b"%dS" % min(seconds, MAX_TIMEOUT_MS))


def _ending(call: ClientStream, reset: int) -> CallFailed | None:
    """Outcome of a call whose stream is closed: its status if that came, else the code of the reset."""
    if b"grpc-status" in call.fields or not reset:
        return call.status()
    code = RESETS.get(reset, grpc.StatusCode.INTERNAL)
    return CallFailed(code, f"the stream was reset with code {reset}", is_unsent=reset == ErrorCode.REFUSED_STREAM)
