"""One stream of a server's connection, which is one call: its messages, its answer, its cancellation."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Any

from ngh2 import ErrorCode

from triptych.errors import DeadlineExceeded, InvalidRequest, NotSupported, Overloaded, TriptychError
from triptych.http2.call_memory import CallMemory
from triptych.http2.connection import Connection
from triptych.http2.framing import (
    NOT_GRPC_HEADERS,
    NOT_GRPC_TEXT,
    OK_TRAILERS,
    PREFIX,
    RESPONSE_HEADERS,
    Headers,
    MessageLimits,
    framed,
    is_grpc,
    is_message,
    metadata_fault,
    timeout_s,
)
from triptych.http2.message_deframer import MessageDeframer, MinDataRate
from triptych.http2.server_context import Handler, ServerContext
from triptych.runtime.first_step import begin
from triptych.runtime.settings import METADATA_ENTRY_BYTES


class StreamConnection(Connection):
    """Connection in the view of its streams."""

    context: ServerContext
    streams: dict[int, ServerStream]
    unsent: set[ServerStream]  # streams whose answer waits for the transport or for windows

    @abstractmethod
    def ask_peer(self) -> str:
        """The caller's address in gRPC's form."""

    @abstractmethod
    def ask_identity(self) -> Collection[str]:
        """Names in the caller's certificate; empty without one."""


class ServerStream(CallMemory):
    """A call: opened by the connection, run by `handler.answer`, over when its whole answer is written."""

    __slots__ = (
        *("_body", "_connection", "_data_rate", "_deframer", "_is_complete", "_is_started", "_max_bytes"),
        *("_on_settled", "_unacknowledged_bytes", "_until_s", "_wakeup"),
        *("abort_reason", "failed_request", "fields", "handler", "stream_id", "task"),
    )

    def __init__(self, connection: StreamConnection, stream_id: int) -> None:
        self._connection, self._context = connection, connection.context
        self._max_bytes = connection.context.max_message_bytes
        self.stream_id = stream_id
        self.fields: dict[bytes, bytes] = {}
        self.handler: Handler | None = None
        self.task: asyncio.Task[None] | None = None
        self.abort_reason: TriptychError | None = None  # set when the server ended the call and its caller still waits
        self.failed_request = ""  # id of the request that has failed
        self._body: bytes | None = None  # the only message, with its prefix, of a call that came in one frame
        self._deframer: MessageDeframer | None = None  # for every other call
        self._is_complete = False  # the caller has ended its side
        self._is_started = False  # the answer's headers were sent
        self._until_s = float("inf")  # the caller's deadline, by time.monotonic
        self._data_rate: MinDataRate | None = None
        self._call_bytes = self._unacknowledged_bytes = self._unsent_bytes = 0
        self._wakeup: asyncio.Event | None = None  # awaited for the next message, and until a message is sent
        self._on_settled: Callable[[str], None] | None = None

    @property
    def caller(self) -> StreamConnection:
        """The connection of the caller, with its address and certificate."""
        return self._connection

    @property
    def is_over(self) -> bool:
        """Whether the stream is closed, so that nothing can be sent on it."""
        return self.stream_id not in self._connection.streams

    def left_s(self) -> float | None:
        """Seconds until the caller's deadline. None without one."""
        timeout = self.fields.get(b"grpc-timeout")
        if timeout is None:
            return None
        left_s = timeout_s(timeout.decode("latin-1"))
        self._until_s = time.monotonic() + left_s
        return left_s

    # Called by the connection.

    def open(self, headers: Headers, is_complete: bool) -> bool:
        """Take the headers. Return whether the call can start."""
        self._context.schedule_check()
        fields, size_bytes, self._is_complete = self.fields, METADATA_ENTRY_BYTES * len(headers), is_complete
        for name, value in headers:
            fields[name] = value
            size_bytes += len(name) + len(value)
        if fault := self.count_call(size_bytes):
            self.refuse(fault, "")
            return False
        if fields.get(b":method") != b"POST" or not is_grpc(fields.get(b"content-type", b"")):
            self._submit(self._connection.protocol.send_response, NOT_GRPC_HEADERS)
            self._submit(self._connection.protocol.send_data, NOT_GRPC_TEXT, end_stream=True)
            self._send_end()
            return False
        self.handler = self._context.handlers.get(fields.get(b":path", b""))
        if self.handler is None:
            text = fields.get(b":path", b"").decode("latin-1")
            self.refuse(NotSupported(f"there is no method {text} here"), text)
            return False
        if not is_complete or self.handler.is_endless:
            self.touch()
        return is_complete or self.handler.client_streaming

    def receive(self, data: bytes, is_last: bool) -> bool:
        """Take a piece of the body. Return whether the call can start."""
        if self.handler is None or self.abort_reason is not None or self._on_settled is not None:
            # The call is ending: drop its input.
            self._is_complete = is_last
            self._connection.acknowledge(self.stream_id, len(data))
            return False
        client_streaming = self.handler.client_streaming
        if self._deframer is None and is_last and not client_streaming and is_message(data, self._max_bytes):
            self._body, self._is_complete = data, True
            self._context.waiting.pop(self, None)
            self._connection.acknowledge(self.stream_id, len(data))
            return True
        deframer = self._deframer or self._open_deframer()
        self.touch()
        self._unacknowledged_bytes += len(data)
        try:
            deframer.feed(data)
            if not client_streaming and deframer.waiting > 1:
                raise _not_one(deframer.waiting)
        except TriptychError as error:
            self._acknowledge()
            self.abort(error)
            return False
        self._is_complete = is_last
        if not client_streaming or not deframer.waiting:
            self._acknowledge()
        self._wake_up()
        if not is_last or client_streaming:
            return False
        self._context.waiting.pop(self, None)
        return True

    def start(self) -> None:
        """Start the handler, unless the call has ended in the meantime."""
        if self._on_settled is not None or self.stream_id not in self._connection.streams:
            return
        assert self.handler is not None
        loop, answering = self._context.loop, self.handler.answer(self)
        self.task = begin(answering, loop) if self.handler.begins_at_once else loop.create_task(answering)

    def cancel(self) -> None:
        """End the call because its caller has gone."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
        self._close("CANCELLED")

    def abort(self, reason: TriptychError) -> None:
        """End the call with an error that its caller gets."""
        if self._on_settled is not None:
            return
        if self.task is None:
            self.refuse(reason, self.handler.name if self.handler else "")
        elif self.abort_reason is None and not self.task.done():
            self.abort_reason = reason
            self.task.add_done_callback(self._refuse_unstarted)
            self.task.cancel()

    def evict(self) -> None:
        """End the call, which waits for its caller, because others need its memory."""
        self.release_call()
        if self in self._connection.unsent:
            self._abandon("RESOURCE_EXHAUSTED")
        else:
            self.abort(Overloaded("too many calls are open here, and this one was idle the longest; try again"))

    def abort_oversized(self, fields: Headers, left_out_bytes: int, is_complete: bool) -> None:
        """End a call whose headers or trailers are too large for libnghttp2, which got only `fields` of them."""
        self._is_complete = is_complete
        if fault := metadata_fault(fields, self._context.settings.max_metadata_bytes, left_out_bytes):
            self.abort(fault)

    def check_progress(self, now_s: float, pace_s: float) -> None:
        """End a call past its deadline, or one whose caller sends or reads too slowly by the clock of `pace_s`."""
        fault = None
        if self in self._connection.unsent:
            self._data_rate = self._data_rate or MinDataRate(self._context.settings)
            if self._data_rate.fault(pace_s, -2, -self._connection.protocol.queued_body_size(self.stream_id)):
                self._abandon("DEADLINE_EXCEEDED")
        elif now_s > self._until_s:
            fault = DeadlineExceeded("the deadline of the call has passed")
        elif self._is_within_message():
            deframer, self._data_rate = self._deframer, self._data_rate or MinDataRate(self._context.settings)
            count, received_bytes = (deframer.count, deframer.received_bytes) if deframer else (0, 0)
            fault = self._data_rate.fault(pace_s, count, received_bytes)
        if fault is not None:
            self.abort(fault)

    def check_sent(self) -> None:
        """Settle an answer that waited for windows or for the transport; called after each write."""
        if self._connection.protocol.queued_body_size(self.stream_id):
            return
        self._connection.unsent.discard(self)
        self.release_unsent()
        self._data_rate = None
        if self._on_settled is not None:
            self._close("OK")
        self._wake_up()

    # Called by the handler.

    async def message(self) -> bytes:
        """The message of a call that has exactly one."""
        if self._body is not None:
            return self._body[PREFIX:]
        deframer = self._deframer
        if deframer is not None:
            deframer.check_end()
        if deframer is None or deframer.waiting != 1:
            raise _not_one(deframer.waiting if deframer else 0)
        return await deframer.next_message()

    async def requests(self) -> AsyncGenerator[bytes]:
        """The messages of a client stream. Unread messages keep the flow-control windows closed (backpressure)."""
        deframer = self._deframer or self._open_deframer()
        while True:
            while deframer.waiting:
                message = await deframer.next_message()
                if not deframer.waiting:
                    self._acknowledge()
                    self._connection.flush()
                yield message
                del message  # the next one may never come
            if self._is_complete:
                deframer.check_end()
                return
            await self._wait_for_wakeup()

    async def answer(self, message: bytes) -> None:
        """Send one message of a server stream. Return when the next may be sent."""
        data = self._fitting(message)
        if self.is_over:
            raise asyncio.CancelledError
        self.touch()
        self._start()
        self._submit(self._connection.protocol.send_data, data)
        del message, data  # what is not sent waits in libnghttp2, and is counted
        self._connection.flush()
        if self._is_unsent():
            while self in self._connection.unsent:
                await self._wait_for_wakeup()

    def finish(self, message: bytes | None, on_settled: Callable[[str], None] = lambda code: None) -> None:
        """End the call with OK, after a last message or none. `on_settled` gets the code once all is written."""
        data = None if message is None else self._fitting(message)
        if self.is_over:
            on_settled("CANCELLED")
            return
        self._on_settled = on_settled
        self._connection.submit(self._submit_end, data)
        self._send_end()

    def refuse(self, error: Exception, method: str) -> None:
        """End the call with an error's status, as a trailers-only response when no headers were sent."""
        end = self._context.refuse(error, method, self.failed_request)
        if self.is_over:
            return
        if self._is_started:
            self._submit(self._connection.protocol.send_trailers, end)
        else:
            self._submit(self._connection.protocol.send_response, (*RESPONSE_HEADERS, *end), end_stream=True)
        self._send_end()

    def _submit_end(self, data: bytes | None) -> None:
        """Pass all that is left of a call that ends with OK to libnghttp2. Raises its errors."""
        protocol, stream_id = self._connection.protocol, self.stream_id
        if not self._is_started:
            self._is_started = True
            protocol.send_response(stream_id, RESPONSE_HEADERS)
        if data is not None:
            protocol.send_data(stream_id, data)
        protocol.send_trailers(stream_id, OK_TRAILERS)

    def _refuse_unstarted(self, _task: asyncio.Task[None]) -> None:
        """End a call that was aborted before its task took its first step, so that the handler could not."""
        if self._on_settled is None and self.abort_reason is not None:
            self.refuse(self.abort_reason, self.handler.name if self.handler else "")

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._submit(self._connection.protocol.send_response, RESPONSE_HEADERS)

    def _submit(self, method: Callable[..., None], *arguments: Any, **named: Any) -> None:
        self._connection.submit(method, self.stream_id, *arguments, **named)

    def _send_end(self) -> None:
        self._on_settled = self._on_settled or _ignore
        self._connection.flush()
        if not self._is_unsent():
            self._close("OK")
            if not self._is_complete:
                self._connection.flush()

    def _is_unsent(self) -> bool:
        """Whether bytes wait to be sent. If so, count them as in flight."""
        if self.is_over:
            return False
        unsent_bytes = self._connection.protocol.queued_body_size(self.stream_id)
        try:
            self.count_unsent(unsent_bytes)  # perhaps again, for a handler cancelled while it waited
        except Overloaded:
            self._abandon("RESOURCE_EXHAUSTED")
            return False
        if not unsent_bytes:
            return False
        self._connection.unsent.add(self)
        self._data_rate = None
        self.touch()
        return True

    def _abandon(self, code: str) -> None:
        """Reset a stream that its caller does not read."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
        self._close(code)
        self._connection.reset(self.stream_id, ErrorCode.CANCEL)

    def _close(self, code: str) -> None:
        """Remove the call. Reset the stream if its caller has not sent everything."""
        connection = self._connection
        if connection.streams.pop(self.stream_id, None) is None:
            return
        connection.unsent.discard(self)
        self.release_unsent()
        self.release_call()
        self.fields = {}  # a task that is being cancelled may hold this object for a while
        if self._deframer is not None:
            self._deframer.close()
        self._acknowledge()
        if code == "OK" and not self._is_complete and not connection.is_full:
            connection.submit(connection.protocol.reset_stream, self.stream_id, ErrorCode.NO_ERROR)
        if self._on_settled is not None:
            on_settled, self._on_settled = self._on_settled, None  # breaks a reference cycle with the connection
            on_settled(code)

    def _is_within_message(self) -> bool:
        """Whether the caller still has to send the rest of a message."""
        if self._is_complete or self.handler is None:
            return False
        if not self.handler.client_streaming:
            return True
        deframer = self._deframer
        return deframer is not None and deframer.partial_bytes > 0 and not deframer.waiting

    def _open_deframer(self) -> MessageDeframer:
        context = self._context
        encoding = self.fields.get(b"grpc-encoding", b"identity").decode("latin-1")
        limits = MessageLimits(context.settings.max_message_bytes, encoding, context.settings.max_unpacked_ratio)
        self._deframer = MessageDeframer(limits, context.inbound_bytes, context.decompression)
        return self._deframer

    def _fitting(self, message: bytes) -> bytes:
        if len(message) > self._max_bytes:
            raise Overloaded(f"sent message larger than max ({len(message)} vs. {self._max_bytes})")
        return framed(message)

    def _acknowledge(self) -> None:
        if self._unacknowledged_bytes:
            self._connection.acknowledge(self.stream_id, self._unacknowledged_bytes)
            self._unacknowledged_bytes = 0

    async def _wait_for_wakeup(self) -> None:
        self._wakeup = self._wakeup or asyncio.Event()
        self._wakeup.clear()
        await self._wakeup.wait()

    def _wake_up(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()


def _not_one(count: int) -> InvalidRequest:
    return InvalidRequest(f"want one message, got {count or 'none'}")


def _ignore(_code: str) -> None:
    """Default for a call that nobody counts."""
