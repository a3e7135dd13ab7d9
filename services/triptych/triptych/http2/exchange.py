"""One call on the wire of a server: what the caller sends, what it is answered, and whether it is still there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ngh2 import ErrorCode

from triptych.errors import DeadlineExceeded, InvalidRequest, NotSupported, Overloaded, TriptychError
from triptych.http2.framing import PREFIX, Headers, Limits, framed, metadata_fault, timeout_s
from triptych.http2.inbox import Inbox, Pace

if TYPE_CHECKING:
    from triptych.http2.server import ServerConnection

GRPC = b"application/grpc"
HEADERS: Headers = ((b":status", b"200"), (b"content-type", GRPC))
OK: Headers = ((b"grpc-status", b"0"),)
NO_GRPC: Headers = ((b":status", b"415"), (b"content-type", b"text/plain; charset=utf-8"))
NO_GRPC_TEXT = b"want a gRPC call: POST with content-type application/grpc\n"


Answer = Callable[["Exchange"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Handler:
    """One method: `answer` handles a call to its `finish` or `refuse`; `streams`: it begins before all has arrived."""

    name: str
    answer: Answer
    streams: bool


class Exchange:
    """Is opened by the connection, begins with `handler.answer`, and is over when all of its answer is written."""

    __slots__ = (
        "_body",
        "_connection",
        "_fields",
        "_inbox",
        "_is_complete",
        "_is_started",
        "_pace",
        "_server",
        "_settled",
        "_unacknowledged_bytes",
        "_unsent_bytes",
        "_until_s",
        "_woken",
        "handler",
        "headers",
        "stream_id",
        "task",
        "why",
    )

    def __init__(self, connection: ServerConnection, stream_id: int, headers: Headers) -> None:
        self._connection, self._server = connection, connection.server
        self.stream_id, self.headers, self._fields = stream_id, headers, dict(headers)
        self.handler: Handler | None = None
        self.task: asyncio.Task[None] | None = None
        self.why: TriptychError | None = None  # it was cancelled here, and its caller is still there
        self._body: bytes | None = None  # the one message, with its prefix, of a call that came in one frame
        self._inbox: Inbox | None = None  # of any other
        self._is_complete = False  # the caller has sent all that it will
        self._is_started = False  # the answer's headers are on their way
        self._until_s = float("inf")  # the caller's deadline, by time.monotonic
        self._pace: Pace | None = None
        self._unacknowledged_bytes = self._unsent_bytes = 0
        self._woken: asyncio.Event | None = None  # of who waits for a message, and of who waits until one is sent
        self._settled: Callable[[str], None] | None = None

    @property
    def peer(self) -> str:
        """The caller's address, as gRPC names it."""
        return self._connection.peer

    @property
    def certificate(self) -> dict[str, Any]:
        """The caller's certificate, as `ssl` has it; empty without one."""
        return self._connection.certificate

    @property
    def is_over(self) -> bool:
        """Whether nothing can be said to the caller any more."""
        return self.stream_id not in self._connection.exchanges

    def left_s(self, timeout: str | None) -> float | None:
        """Seconds of the caller's deadline, from the text of `grpc-timeout`; None without one."""
        if timeout is None:
            return None
        left_s = timeout_s(timeout)
        self._until_s = time.monotonic() + left_s
        return left_s

    # What the connection tells.

    def open(self, is_complete: bool) -> bool:
        """The headers have come; whether the call can begin."""
        self._server.look_soon()
        self._is_complete = is_complete
        fields = self._fields
        if fields.get(b":method") != b"POST" or not _is_grpc(fields.get(b"content-type", b"")):
            self._say(self._connection.protocol.send_response, NO_GRPC)
            self._say(self._connection.protocol.send_data, NO_GRPC_TEXT, end_stream=True)
            self._send_end()
            return False
        path = fields.get(b":path", b"")
        self.handler = self._server.handlers.get(path)
        if self.handler is None:
            text = path.decode("latin-1")
            self.refuse(NotSupported(f"there is no method {text} here"), text)
            return False
        return is_complete or self.handler.streams

    def receive(self, data: bytes, is_last: bool) -> bool:
        """A piece has come; whether the call can begin."""
        if self.handler is None or self.why is not None or self._settled is not None:  # it is ending: this is dropped
            self._is_complete = is_last
            self._connection.acknowledge(self.stream_id, len(data))
            return False
        streams = self.handler.streams
        if self._inbox is None and is_last and not streams and self._is_message(data):
            self._body, self._is_complete = data, True
            self._connection.acknowledge(self.stream_id, len(data))
            return True
        inbox = self._inbox or self._open_inbox()
        self._unacknowledged_bytes += len(data)
        try:
            inbox.feed(data)
            if not streams and inbox.waiting > 1:
                raise _not_one(inbox.waiting)
        except TriptychError as error:
            self._acknowledge()
            self.end(error)
            return False
        self._is_complete = is_last
        if not streams or not inbox.waiting:
            self._acknowledge()
        self._wake_up()
        return is_last and not streams

    def begin(self) -> None:
        """Calls the handler."""
        assert self.handler is not None
        self.task = self._server.loop.create_task(self.handler.answer(self))

    def leave(self) -> None:
        """The caller is gone."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
        self._close("CANCELLED")

    def end(self, why: TriptychError) -> None:
        """Ends the call for a reason that its caller is told."""
        if self._settled is not None:
            return
        if self.task is None:
            self.refuse(why, self.handler.name if self.handler else "")
        elif self.why is None and not self.task.done():
            self.why = why
            self.task.cancel()

    def end_oversized(self, fields: Headers, left_out_bytes: int, is_complete: bool) -> None:
        """Ends a call whose headers or trailers are too large for libnghttp2: `fields` are those that it was given."""
        self._is_complete = is_complete
        if fault := metadata_fault(fields, self._server.settings.max_metadata_bytes, left_out_bytes):
            self.end(fault)

    def look(self, now_s: float) -> None:
        """Ends a call that is late, or whose caller does not go on with a message."""
        fault = None
        if self in self._connection.unsent:
            self._pace = self._pace or Pace(self._server.settings)
            if self._pace.fault(now_s, -2, -self._connection.protocol.queued_body_size(self.stream_id)):
                self._give_up("DEADLINE_EXCEEDED")
        elif now_s > self._until_s:
            fault = DeadlineExceeded("the deadline of the call has passed")
        elif self._is_within_message():
            inbox, self._pace = self._inbox, self._pace or Pace(self._server.settings)
            fault = self._pace.fault(now_s, inbox.count if inbox else 0, inbox.arrived_bytes if inbox else 0)
        if fault is not None:
            self.end(fault)

    def check_sent(self) -> None:
        """Is asked after each write, while an answer waits for windows or for the transport."""
        if self._connection.protocol.queued_body_size(self.stream_id):
            return
        self._connection.unsent.discard(self)
        self._server.leaving.give(self._unsent_bytes)
        self._unsent_bytes, self._pace = 0, None
        if self._settled is not None:
            self._close("OK")
        self._wake_up()

    # What the handler does.

    async def message(self) -> bytes:
        """The one message of a call that sends one."""
        if self._body is not None:
            return self._body[PREFIX:]
        inbox = self._inbox
        if inbox is not None:
            inbox.check_end()
        if inbox is None or inbox.waiting != 1:
            raise _not_one(inbox.waiting if inbox else 0)
        return await inbox.take()

    async def requests(self) -> AsyncGenerator[bytes]:
        """The messages of a stream. Those that are not taken keep the caller from sending more than its windows."""
        inbox = self._inbox or self._open_inbox()
        while True:
            while inbox.waiting:
                message = await inbox.take()
                if not inbox.waiting:
                    self._acknowledge()
                    self._connection.flush()
                yield message
            if self._is_complete:
                inbox.check_end()
                return
            await self._until_woken()

    async def answer(self, message: bytes) -> None:
        """One message of a stream; returns when the next may come."""
        data = self._fitting(message)
        if self.is_over:
            raise asyncio.CancelledError
        self._start()
        self._say(self._connection.protocol.send_data, data)
        self._connection.flush()
        if self._is_unsent():
            while self in self._connection.unsent:
                await self._until_woken()

    def finish(self, message: bytes | None, settled: Callable[[str], None] = lambda code: None) -> None:
        """Ends the call well, with a last message or none; `settled` is told the code once all is written."""
        data = None if message is None else self._fitting(message)
        if self.is_over:
            settled("CANCELLED")
            return
        self._settled = settled
        self._start()
        if data is not None:
            self._say(self._connection.protocol.send_data, data)
        self._say(self._connection.protocol.send_trailers, OK)
        self._send_end()

    def refuse(self, error: Exception, method: str) -> None:
        """Ends the call with the status of the table: in place of the headers while there are none."""
        end = self._server.refuse(error, method)
        if self.is_over:
            return
        if self._is_started:
            self._say(self._connection.protocol.send_trailers, end)
        else:
            self._say(self._connection.protocol.send_response, (*HEADERS, *end), end_stream=True)
        self._send_end()

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._say(self._connection.protocol.send_response, HEADERS)

    def _say(self, word: Callable[..., None], *arguments: Any, **named: Any) -> None:
        self._connection.say(word, self.stream_id, *arguments, **named)

    def _send_end(self) -> None:
        self._settled = self._settled or _nobody
        self._connection.flush()
        if not self._is_unsent():
            self._close("OK")
            if not self._is_complete:
                self._connection.flush()

    def _is_unsent(self) -> bool:
        """Whether what was said waits, for which it takes room."""
        if self.is_over:
            return False
        self._server.leaving.give(self._unsent_bytes)  # of what a handler waited for that was ended
        self._unsent_bytes = self._connection.protocol.queued_body_size(self.stream_id)
        if not self._unsent_bytes:
            return False
        try:
            self._server.leaving.take(self._unsent_bytes)
        except Overloaded:
            self._unsent_bytes = 0
            self._give_up("RESOURCE_EXHAUSTED")
            return False
        self._connection.unsent.add(self)
        self._pace = None
        return True

    def _give_up(self, code: str) -> None:
        """Drops what the caller does not read."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
        self._close(code)
        self._connection.reset(self.stream_id, ErrorCode.CANCEL)

    def _close(self, code: str) -> None:
        """Forgets the call; a caller that has not sent all is told to stop."""
        connection = self._connection
        if connection.exchanges.pop(self.stream_id, None) is None:
            return
        connection.unsent.discard(self)
        self._server.leaving.give(self._unsent_bytes)
        if self._inbox is not None:
            self._inbox.close()
        self._acknowledge()
        if code == "OK" and not self._is_complete and not connection.is_full:
            connection.say(connection.protocol.reset_stream, self.stream_id, ErrorCode.NO_ERROR)
        if self._settled is not None:
            settled, self._settled = self._settled, None  # it leads back here: a cycle would keep the connection
            settled(code)

    def _is_within_message(self) -> bool:
        """Whether the caller has to send the rest of a message."""
        if self._is_complete or self.handler is None:
            return False
        inbox = self._inbox
        return not self.handler.streams or (inbox is not None and inbox.held_bytes > 0 and not inbox.waiting)

    def _open_inbox(self) -> Inbox:
        server = self._server
        encoding = self._fields.get(b"grpc-encoding", b"identity").decode("latin-1")
        limits = Limits(server.settings.max_message_bytes, encoding, server.settings.max_unpacked_ratio)
        self._inbox = Inbox(limits, server.arriving, server.unpacking)
        return self._inbox

    def _is_message(self, data: bytes) -> bool:
        """Whether this is one message, whole and not compressed, within the limit."""
        size = len(data) - PREFIX
        return (
            0 <= size <= self._server.settings.max_message_bytes
            and not data[0]
            and int.from_bytes(data[1:PREFIX], "big") == size
        )

    def _fitting(self, message: bytes) -> bytes:
        if len(message) > (limit := self._server.settings.max_message_bytes):
            raise Overloaded(f"sent message larger than max ({len(message)} vs. {limit})")
        return framed(message)

    def _acknowledge(self) -> None:
        if self._unacknowledged_bytes:
            self._connection.acknowledge(self.stream_id, self._unacknowledged_bytes)
            self._unacknowledged_bytes = 0

    async def _until_woken(self) -> None:
        self._woken = self._woken or asyncio.Event()
        self._woken.clear()
        await self._woken.wait()

    def _wake_up(self) -> None:
        if self._woken is not None:
            self._woken.set()


def _is_grpc(content_type: bytes) -> bool:
    return content_type == GRPC or content_type.startswith((GRPC + b"+", GRPC + b";"))


def _not_one(count: int) -> InvalidRequest:
    return InvalidRequest(f"want one message, got {count or 'none'}")


def _nobody(_code: str) -> None:
    """Stands where nothing counts a call."""
