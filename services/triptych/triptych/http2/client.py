"""The client's side of one connection: calls that wait for their answers."""

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

KEEPALIVE_S = 30.0  # without a word from a server that has calls, until it is asked whether it is there
KEEPALIVE_TIMEOUT_S = 5.0  # for its answer
MAX_HEADERS_BYTES = 1 << 20
MAX_TIMEOUT_MS = 99_999_999  # eight digits

# What a reset means (gRPC over HTTP2, PROTOCOL-HTTP2.md); any other is INTERNAL.
RESETS: dict[int, grpc.StatusCode] = {
    ErrorCode.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: grpc.StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
CODES: dict[bytes, grpc.StatusCode] = {b"%d" % code.value[0]: code for code in grpc.StatusCode}
# What a proxy means that answers with a status of HTTP only (gRPC over HTTP2, http-grpc-status-mapping.md).
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
    """A call ended with another status than OK; `is_unsent`: the server has certainly not begun it."""

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


class Outgoing:
    """One call in flight. `wake` is set when a message or the end has come."""

    __slots__ = ("_held", "error", "fields", "is_over", "is_stream", "stream_id", "wake")

    def __init__(self, wake: asyncio.Future[None], *, is_stream: bool) -> None:
        self.wake, self.is_stream = wake, is_stream
        self.stream_id = 0
        self.is_over = False
        self.error: CallFailed | None = None
        self.fields: dict[bytes, bytes] = {}  # headers, and trailers over them
        self._held: bytes | bytearray = b""

    def add(self, data: bytes) -> None:
        """A piece of the answer has come."""
        if not self._held:
            self._held = data
            return
        if isinstance(self._held, bytes):
            self._held = bytearray(self._held)
        self._held += data

    @property
    def left_bytes(self) -> int:
        """Bytes that have come and that nobody has taken as a message."""
        return len(self._held)

    def message(self) -> bytes | None:
        """The next message if it is whole. Raises `CallFailed` for one that is compressed, which nobody asked for."""
        held = self._held
        if len(held) < PREFIX or len(held) < (end := PREFIX + int.from_bytes(held[1:PREFIX], "big")):
            return None
        if held[0]:
            raise CallFailed(grpc.StatusCode.INTERNAL, "want a message without compression, got a compressed one")
        message = bytes(memoryview(held)[PREFIX:end])
        if isinstance(held, bytearray):
            del held[:end]
        else:
            self._held = held[end:]
        return message

    def end(self, error: CallFailed | None) -> None:
        """Nothing more comes."""
        if not self.is_over:
            self.is_over, self.error = True, error
            self.rouse()

    def rouse(self) -> None:
        """Wakes who waits."""
        if not self.wake.done():
            self.wake.set_result(None)

    def status(self) -> CallFailed | None:
        """The failure that the fields tell; None for OK."""
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
    """A connection to one address. `changed` is called when it takes no more calls."""

    def __init__(self, buffer: bytearray, changed: Callable[[ClientConnection], None]) -> None:
        super().__init__(Role.CLIENT, buffer, {Setting.ENABLE_PUSH: 0}, MAX_HEADERS_BYTES)
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._calls: dict[int, Outgoing] = {}
        self.ready: asyncio.Future[None] = self._loop.create_future()  # the server has spoken
        self.is_usable = True
        self.fault = "the connection was lost"
        self._heard_s = time.monotonic()
        self._keepalive: asyncio.TimerHandle | None = None

    def lost(self) -> None:
        for call in tuple(self._calls.values()):
            call.end(CallFailed(grpc.StatusCode.UNAVAILABLE, self.fault))
        self._calls.clear()
        if self._keepalive is not None:
            self._keepalive.cancel()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the connection was closed before the server spoke"))
            self.ready.exception()  # perhaps nobody waits for it
        self.is_usable = False
        self._changed(self)

    def retire(self) -> None:
        """Takes no more calls, and closes behind the last one."""
        self._leave()
        if not self._calls:
            self.close()

    def handle(self, events: list[Event]) -> None:
        self._heard_s = time.monotonic()
        calls = self._calls
        for event in events:
            kind = type(event)
            if kind is DataReceived:
                data = cast("DataReceived", event)
                self.acknowledge(data.stream_id, len(data.data))
                if call := calls.get(data.stream_id):
                    call.add(data.data)
                    if call.is_stream:
                        call.rouse()
            elif kind is ResponseReceived:
                response = cast("ResponseReceived", event)
                if call := calls.get(response.stream_id):
                    call.fields = dict(response.headers)
                    if response.end_stream:
                        self._stop(response.stream_id)
            elif kind is TrailersReceived:
                trailers = cast("TrailersReceived", event)
                if call := calls.get(trailers.stream_id):
                    call.fields.update(trailers.headers)
                    self._stop(trailers.stream_id)
            elif kind is StreamClosed:
                closed = cast("StreamClosed", event)
                if call := calls.pop(closed.stream_id, None):
                    call.end(_ending(call, closed.error_code))
            elif kind is GoAwayReceived:
                self._leave()
            elif kind is SettingsReceived and not self.ready.done():
                self.ready.set_result(None)
        if not self.is_usable and not calls:
            self.close()

    def flush(self) -> None:
        super().flush()
        if events := self.protocol.events():  # of calls that could not be sent
            self.handle(events)

    async def unary(self, headers: Headers, data: bytes, timeout_s: float) -> bytes:
        """The answer to a message, within `timeout_s`. Raises `CallFailed`."""
        call = self._begin((*headers, _timeout(timeout_s)), data, is_stream=False)
        timer = self._loop.call_later(timeout_s, self._expire, call, timeout_s)
        try:
            await call.wake
        finally:
            timer.cancel()
            self._forget(call)
        if call.error is not None:
            raise call.error
        message = call.message()
        if message is None or call.left_bytes:
            got = "none that is whole" if message is None else f"{call.left_bytes} bytes more"
            raise CallFailed(grpc.StatusCode.INTERNAL, f"want one message, got {got}")
        return message

    async def stream(self, headers: Headers, data: bytes) -> AsyncGenerator[bytes]:
        """The answers to a message until one side ends them. Raises `CallFailed`."""
        call = self._begin(headers, data, is_stream=True)
        try:
            while True:
                while (message := call.message()) is not None:
                    yield message
                if call.is_over:
                    if call.error is not None:
                        raise call.error
                    if call.left_bytes:
                        raise CallFailed(grpc.StatusCode.INTERNAL, "the answers ended within a message")
                    return
                await call.wake
                if not call.is_over:
                    call.wake = self._loop.create_future()
        finally:
            self._forget(call)

    def _begin(self, headers: Headers, data: bytes, *, is_stream: bool) -> Outgoing:
        if not self.is_usable or self.transport is None or self.transport.is_closing():
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "the connection was closed", is_unsent=True)
        call = Outgoing(self._loop.create_future(), is_stream=is_stream)
        try:
            call.stream_id = self.protocol.send_request(headers)
            self.protocol.send_data(call.stream_id, framed(data), end_stream=True)
        except NGH2Error as error:  # as when its last stream was used
            self.retire()
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, str(error), is_unsent=True) from error
        self._calls[call.stream_id] = call
        self.flush()
        if self._keepalive is None:
            self._heard_s = time.monotonic()
            self._keepalive = self._loop.call_later(KEEPALIVE_S, self._keep_alive)
        return call

    def _forget(self, call: Outgoing) -> None:
        """Resets a call that nobody waits for any more."""
        if self._calls.pop(call.stream_id, None) is None:
            return
        self.reset(call.stream_id, ErrorCode.CANCEL)
        if not self.is_usable and not self._calls:
            self.close()

    def _stop(self, stream_id: int) -> None:
        """Sends no more of a message that is answered already."""
        if self.protocol.queued_body_size(stream_id):
            self.say(self.protocol.reset_stream, stream_id, ErrorCode.CANCEL)

    def _expire(self, call: Outgoing, timeout_s: float) -> None:
        text = f"no answer came within {timeout_s:.3f} s"
        call.end(CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, text))

    def _leave(self) -> None:
        if self.is_usable:
            self.is_usable = False
            self._changed(self)

    def _keep_alive(self) -> None:
        """Asks a server that has calls and is silent whether it is there."""
        self._keepalive = None
        if self.is_closed or not self._calls:
            return
        silent_s = time.monotonic() - self._heard_s
        if silent_s >= KEEPALIVE_S + KEEPALIVE_TIMEOUT_S:
            self.abort()
        elif silent_s >= KEEPALIVE_S:
            self.say(self.protocol.ping)
            self.flush()
            self._keepalive = self._loop.call_later(KEEPALIVE_TIMEOUT_S, self._keep_alive)
        else:
            self._keepalive = self._loop.call_later(KEEPALIVE_S - silent_s, self._keep_alive)


def _timeout(seconds: float) -> tuple[bytes, bytes]:
    """`grpc-timeout`, which differs from call to call and so is not indexed."""
    if seconds < MAX_TIMEOUT_MS / 1000:
        return NeverIndexedHeader(b"grpc-timeout", b"%dm" % max(1, seconds * 1000))
    return NeverIndexedHeader(b"grpc-timeout", b"%dS" % min(seconds, MAX_TIMEOUT_MS))


def _ending(call: Outgoing, reset: int) -> CallFailed | None:
    """The end of a call whose stream is closed: by its status if that came, else by the code of the reset."""
    if b"grpc-status" in call.fields or not reset:
        return call.status()
    code = RESETS.get(reset, grpc.StatusCode.INTERNAL)
    return CallFailed(code, f"the stream was reset with code {reset}", is_unsent=reset == ErrorCode.REFUSED_STREAM)
