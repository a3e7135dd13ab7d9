"""Client side of HTTP/2: one connection, and the calls on it that wait for their answers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable

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

from triptych.http2.client_stream import CallFailed, ClientLimits, ClientStream, LastingCall
from triptych.http2.connection import Connection
from triptych.http2.framing import Headers, framed
from triptych.runtime.settings import METADATA_FACTOR

KEEPALIVE_S = 30.0  # silence of a server with calls in flight, until it gets a PING
KEEPALIVE_TIMEOUT_S = 5.0  # limit for the answer to the PING
MAX_TIMEOUT_MS = 99_999_999  # eight digits
TICK_S = 0.001  # the resolution of timers


class ClientConnection(Connection):
    """A connection to one address. `changed` is called when it accepts no more calls."""

    def __init__(
        self, buffer: bytearray, changed: Callable[[ClientConnection], None], limits: ClientLimits | None = None
    ) -> None:
        self._limits = limits or ClientLimits()
        settings = {Setting.ENABLE_PUSH: 0, Setting.MAX_HEADER_LIST_SIZE: self._limits.max_metadata_bytes}
        super().__init__(Role.CLIENT, buffer, settings, METADATA_FACTOR * self._limits.max_metadata_bytes)
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._calls: dict[int, ClientStream] = {}
        self.ready: asyncio.Future[None] = self._loop.create_future()  # done with the SETTINGS of the server
        self.is_usable = True
        self.fault = "the connection was lost"
        self._received_s = time.monotonic()
        self._keepalive: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_s = math.inf  # when it looks for late calls; at most the earliest deadline, by the loop's clock
        self._timeout = (b"grpc-timeout", b"")  # of the call before

    def closed(self) -> None:
        for call in tuple(self._calls.values()):
            call.end(CallFailed(grpc.StatusCode.UNAVAILABLE, self.fault))
        self._calls.clear()
        for timer in (self._keepalive, self._expiry):
            if timer is not None:
                timer.cancel()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the connection was closed before the server sent its settings"))
            self.ready.exception()  # marks it as retrieved: perhaps nobody awaits it
        self._stop_accepting()

    def lost(self) -> None:
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
            if type(event) is DataReceived:
                self._receive(event)
            elif type(event) is ResponseReceived:
                if call := calls.get(event.stream_id):
                    call.fields = dict(event.headers)
                    if event.end_stream:
                        self._stop_sending(event.stream_id)
            elif type(event) is TrailersReceived:
                if call := calls.get(event.stream_id):
                    call.fields.update(event.headers)
                    self._stop_sending(event.stream_id)
            elif type(event) is StreamClosed:
                if call := calls.pop(event.stream_id, None):
                    call.end(call.ending(event.error_code))
            elif type(event) is GoAwayReceived:
                self._stop_accepting()
            elif type(event) is SettingsReceived and not self.ready.done():
                self.ready.set_result(None)
        if not self.is_usable and not calls:
            self.close()

    def flush(self) -> None:
        super().flush()
        if events := self.protocol.events():  # for calls that could not be sent
            self.handle(events)

    async def unary(self, headers: Headers, data: bytes, timeout_s: float, lasting: LastingCall | None = None) -> bytes:
        """Answer of a unary call within `timeout_s`. Raises `CallFailed`."""
        limit_s = timeout_s if lasting is None else lasting.limit_s
        call = self._begin((*headers, self._timeout_field(limit_s)), data, is_stream=False)
        begun_s = self._loop.time()
        call.timeout_s, call.end_s = timeout_s, begun_s + timeout_s
        if call.end_s < self._expiry_s:
            self._schedule_expiry(call.end_s)
        try:
            await call.wakeup
            if call.error is not None:
                raise call.error
            message = call.message()
        finally:
            if lasting is not None and self._may_last(call):
                self._abandon(call, lasting, begun_s + lasting.limit_s)
            else:
                self._forget(call)
        if message is None:
            raise CallFailed(grpc.StatusCode.INTERNAL, "want one message, got none that is whole")
        return message

    async def stream(self, headers: Headers, data: bytes) -> AsyncGenerator[bytes]:
        """Answers of a server-streaming call, until either side ends it. Raises `CallFailed`."""
        call = self._begin(headers, data, is_stream=True)
        try:
            while True:
                while (message := call.message()) is not None:
                    self._acknowledge(call)
                    self.flush()
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
        if not self.is_usable or self.is_closed or self.transport is None or self.transport.is_closing():
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "the connection was closed", is_unsent=True)
        call = ClientStream(self._loop.create_future(), self._limits, is_stream=is_stream)
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

    def _receive(self, event: DataReceived) -> None:
        """Take a piece of an answer. Messages of a stream that nobody has taken keep its window closed."""
        stream_id, data = event.stream_id, event.data
        call = self._calls.get(stream_id)
        if call is None or call.is_over:
            self.acknowledge(stream_id, len(data))
            return
        if call.is_stream:
            call.unacknowledged_bytes += len(data)
        else:
            self.acknowledge(stream_id, len(data))
        try:
            call.add(data)
        except CallFailed as error:
            call.end(error)
        else:
            if call.is_stream:
                call.wake_up()
                self._acknowledge(call)

    def _acknowledge(self, call: ClientStream) -> None:
        """Give the bytes of a call back to the windows, unless a whole message waits."""
        if call.unacknowledged_bytes and not call.is_ahead:
            self.acknowledge(call.stream_id, call.unacknowledged_bytes)
            call.unacknowledged_bytes = 0

    def _forget(self, call: ClientStream) -> None:
        """Reset a call that nobody awaits any more."""
        call.close()
        unacknowledged_bytes = call.unacknowledged_bytes
        self._acknowledge(call)
        if self._calls.pop(call.stream_id, None) is None:
            if unacknowledged_bytes:
                self.flush()
            return
        self.reset(call.stream_id, ErrorCode.CANCEL)
        call.end(None)
        if not self.is_usable and not self._calls:
            self.close()

    def _may_last(self, call: ClientStream) -> bool:
        """Whether the server has not ended the call, and this side has refused nothing of its answer."""
        is_refused = call.error is not None and call.error.code is not grpc.StatusCode.DEADLINE_EXCEEDED
        return call.stream_id in self._calls and not is_refused

    def _abandon(self, call: ClientStream, lasting: LastingCall, end_s: float) -> None:
        """Let a call go on that nobody awaits any more. It is reset at `end_s` by the clock of the loop."""
        timer = self._loop.call_at(end_s, self._forget, call)

        def on_end() -> None:
            timer.cancel()
            lasting.on_end()

        lasting.is_abandoned = True
        call.abandon(on_end)
        self._acknowledge(call)

    def _stop_sending(self, stream_id: int) -> None:
        """Send no more of a request that is answered already."""
        if self.protocol.queued_body_size(stream_id):
            self.submit(self.protocol.reset_stream, stream_id, ErrorCode.CANCEL)

    def _schedule_expiry(self, when_s: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry_s, self._expiry = when_s, self._loop.call_at(when_s, self._expire)

    def _expire(self) -> None:
        """End the calls whose deadline has passed. One timer for all calls: one for each took 4,000 instructions."""
        self._expiry, self._expiry_s, now_s, next_s = None, math.inf, self._loop.time(), math.inf
        for call in tuple(self._calls.values()):
            if call.end_s > now_s + TICK_S:
                next_s = min(next_s, call.end_s)
            elif not call.is_over:
                text = f"no answer came within {call.timeout_s:.3f} s"
                call.end(CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, text))
        if next_s < math.inf:
            self._schedule_expiry(next_s)

    def _timeout_field(self, seconds: float) -> tuple[bytes, bytes]:
        """The field `grpc-timeout`. HPACK remembers it if it repeats, which it does where the limit is a setting."""
        if seconds < MAX_TIMEOUT_MS / 1000:
            value = b"%dm" % max(1, seconds * 1000)
        else:
            value = b"%dS" % min(seconds, MAX_TIMEOUT_MS)
        if value == self._timeout[1]:
            return self._timeout
        self._timeout = (b"grpc-timeout", value)
        return NeverIndexedHeader(b"grpc-timeout", value)

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
