"""The door that is Envoy: our code runs inside it as an ASGI application (pyvoy), and speaks gRPC's framing itself.

Envoy has the connections, HTTP/2, TLS and their limits; this has the calls. `triptych.door.hosting` starts both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import Any

from triptych.call import Call
from triptych.door.admin import Admin
from triptych.door.base import STOPPING, Door, parser, refusal
from triptych.door.inbox import Arriving, Inbox, Pace
from triptych.errors import DeadlineExceeded, Draining, InvalidRequest, NotSupported, Overloaded
from triptych.http2.framing import PREFIX, Limits, framed, status_headers, timeout_s
from triptych.methods import Method, Service
from triptych.room import Room
from triptych.settings import StageSettings
from triptych.status import ended_as

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LOOK_S = 0.1  # calls are looked at that often: is the caller's deadline over?
ASK_EVERY = 3  # looks, until one is asked whether its caller has left: pyvoy does not say it by itself
IDLE_S = 0.02

_HEADERS = [(b"content-type", b"application/grpc")]
_START = {"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True}
_NOTHING = {"type": "http.response.body", "body": b"", "more_body": True}
_LAST_BODY = {"type": "http.response.body", "body": b""}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}


class Exchange:
    """One call on the wire: the caller's messages, the answers, and whether the caller is still there."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: StageSettings,
        arriving: Arriving,
        task: asyncio.Task[None] | None,
    ) -> None:
        self._receive, self._send = receive, send
        self._settings, self._arriving = settings, arriving
        self.metadata = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"] if key[-4:] != b"-bin"
        }
        self.task = task
        encoding = self.metadata.get("grpc-encoding", "identity")
        self._limits = Limits(settings.max_message_bytes, encoding, settings.max_unpacked_ratio)
        self._inbox: Inbox | None = None  # of a call that sends more than one small message
        self._arrived_bytes = 0
        self._pace: Pace | None = None
        self._complete = False  # the caller has sent all that it will
        self._started = False
        self._until = float("inf")  # the caller's deadline, by time.monotonic
        self.why: DeadlineExceeded | None = None  # it was cancelled here, and its caller is still there
        self._looks = 0
        self._reading = False
        self._gone: asyncio.Future[bool] | None = None

    def left_s(self) -> float | None:
        """Seconds of the caller's deadline, None without one."""
        text = self.metadata.get("grpc-timeout")
        if text is None:
            return None
        left_s = timeout_s(text)
        self._until = time.monotonic() + left_s
        return left_s

    async def message(self) -> bytes:
        """The one message of a unary request."""
        event = await self._event()
        data: bytes = event["body"]
        if event["more_body"]:
            return await self._large_message(data)
        if len(data) < PREFIX or self._limits.length(data) != len(data) - PREFIX:
            raise InvalidRequest(f"want one message, got {len(data)} bytes that are not one")
        return await self._opened().plain(data[0], data[PREFIX:]) if data[0] else data[PREFIX:]

    async def _large_message(self, first: bytes) -> bytes:
        """One that comes in pieces."""
        found = None
        async with aclosing(self._opened().messages(self._chunks(first))) as messages:
            async for message in messages:
                if found is not None:
                    raise InvalidRequest("want one message, got more")
                found = message
        if found is None:
            raise InvalidRequest("want one message, got none")
        return found

    def requests(self) -> AsyncGenerator[bytes]:
        """The messages of a stream."""
        return self._opened().messages(self._chunks())

    def _opened(self) -> Inbox:
        self._inbox = Inbox(self._limits, self._arriving.room, self._arriving.unpacking)
        return self._inbox

    async def answer(self, message: bytes) -> None:
        """One message of a stream; returns when there is room for the next."""
        if not self._started:
            self._started = True
            await self._send(_START)
        try:
            await self._send({"type": "http.response.body", "body": self._fitting(message), "more_body": True})
        except OSError:
            raise asyncio.CancelledError from None  # the caller left

    async def finish(self, message: bytes | None = None) -> None:
        """Ends the call well, with a last message or none."""
        body = None if message is None else self._fitting(message)
        try:
            if not self._started:
                await self._send(_START)
            await self._send(_LAST_BODY if body is None else {"type": "http.response.body", "body": body})
            await self._send(_OK)
        except OSError:
            raise asyncio.CancelledError from None  # the caller left

    async def refuse(self, error: Exception, method: str) -> None:
        """Ends the call with the status of the table: in place of the headers while there are none."""
        end = status_headers(*refusal(error, method))
        with suppress(OSError):  # the caller left
            if self._started:
                await self._send(_LAST_BODY)
                await self._send({"type": "http.response.trailers", "headers": end})
            else:
                await self._send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *end]})
                await self._send(_LAST_BODY)

    def look(self, now: float) -> None:
        """Cancels the call if nobody waits for it any more. Most calls are over before anything is asked."""
        self._looks += 1
        if self.task is None:
            return
        if now > self._until:
            self.why = DeadlineExceeded("the deadline of the call has passed")
        elif self._reading and (self._inbox is None or self._inbox.held_bytes):
            self._pace = self._pace or Pace(self._settings)
            self.why = self._pace.fault(now, self._inbox.count if self._inbox else 0, self._arrived_bytes)
        if self.why is not None or self._caller_has_left():
            self.task.cancel()

    def _caller_has_left(self) -> bool:
        if self._gone is not None and self._gone.done():
            gone, self._gone = self._gone.result(), None
            return gone
        if self._gone is None and not self._reading and self._looks % ASK_EVERY == 0:
            self._gone = asyncio.ensure_future(self._ask_to_read() if self._complete else self._ask_to_write())
        return False

    async def _ask_to_read(self) -> bool:
        return bool((await self._receive())["type"] == "http.disconnect")

    async def _ask_to_write(self) -> bool:
        """For a stream that waits for its answers to be read: reading on would take in what has no place yet."""
        try:
            if not self._started:
                self._started = True
                await self._send(_START)
            await self._send(_NOTHING)
        except (OSError, RuntimeError):  # RuntimeError: it has just been answered
            return True
        return False

    def _fitting(self, message: bytes) -> bytes:
        if len(message) > (limit := self._settings.max_message_bytes):
            raise Overloaded(f"sent message larger than max ({len(message)} vs. {limit})")
        return framed(message)

    async def _event(self) -> dict[str, Any]:
        self._reading = True  # and so told by pyvoy when the caller leaves
        event = await self._receive()
        self._reading = False
        if event["type"] != "http.request":
            raise asyncio.CancelledError  # the caller left
        self._arrived_bytes += len(event["body"])
        self._complete = not event["more_body"]
        return event

    async def _chunks(self, first: bytes = b"") -> AsyncIterator[bytes]:
        if first:
            yield first
        while not self._complete:
            yield (await self._event())["body"]


class EnvoyDoor(Door):
    """The ASGI application."""

    def __init__(self, services: Sequence[Service], settings: StageSettings) -> None:
        super().__init__(services, settings)
        self._admin = Admin()
        self._arriving = Arriving(
            Room(settings.max_bytes_in_flight), ThreadPoolExecutor(1, thread_name_prefix="unpacking")
        )
        self._exchanges: set[Exchange] = set()
        self._looking: asyncio.Task[None] | None = None
        self._over = False  # the time for the last calls
        self._loop: asyncio.AbstractEventLoop | None = None  # known once open: to ask for it costs a system call
        self._answers = {
            f"/{service.full_name}/{method.name}": self._answerer(service.full_name, method)
            for service in self.services
            for method in service.methods
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self.settings, self._arriving, asyncio.current_task(self._loop))
        self._exchanges.add(exchange)
        path = scope["path"]
        try:
            self.check_metadata(scope["headers"])
            answer = self._answers.get(path)
            if answer is None:
                raise NotSupported(f"there is no method {path} here")
            await answer(exchange)
        except asyncio.CancelledError:
            if self._over:
                await exchange.refuse(Draining(STOPPING), path)
            elif exchange.why is not None:
                await exchange.refuse(exchange.why, path)
        except Exception as error:
            await exchange.refuse(error, path.rpartition("/")[2])
        finally:
            self._exchanges.discard(exchange)

    async def open(self) -> None:
        """Envoy listens as soon as the application has started."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_unless_answered_late)
        self._looking = asyncio.create_task(self._look_after_callers())

    async def send_away(self, grace_s: float) -> None:
        await self._admin.send_connections_away()

    async def end(self, grace_s: float) -> None:
        last = time.monotonic() + grace_s
        while self._exchanges and time.monotonic() < last:
            await asyncio.sleep(IDLE_S)
        self._over = True
        left = [exchange.task for exchange in self._exchanges if exchange.task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._looking is not None:
            self._looking.cancel()
        await self._admin.until_answers_are_sent()

    async def _look_after_callers(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            for exchange in tuple(self._exchanges):
                exchange.look(now)

    def _answerer(self, service: str, method: Method) -> Callable[[Exchange], Awaitable[None]]:
        parse = parser(method.request)

        def admitted(exchange: Exchange, endless: bool) -> Call:
            return self.admit(service, exchange.left_s(), exchange.metadata, endless=endless)

        async def unary(exchange: Exchange) -> None:
            request = parse(await exchange.message())
            call = admitted(exchange, False)
            response = await method.answer(request, call)
            try:
                await exchange.finish(response.SerializeToString())
            except (Exception, asyncio.CancelledError) as error:
                call.settle(ended_as(error, call))
                raise
            call.settle("OK")

        async def server_streaming(exchange: Exchange) -> None:
            request = parse(await exchange.message())
            async with aclosing(method.answer(request, admitted(exchange, True))) as answers:
                async for response in answers:
                    await exchange.answer(response.SerializeToString())
            await exchange.finish()

        async def both_streaming(exchange: Exchange) -> None:
            requests = self.parsed(exchange.requests(), parse)
            async with aclosing(method.answer(requests, admitted(exchange, True))) as answers:
                async for response in answers:
                    await exchange.answer(response.SerializeToString())
            await exchange.finish()

        if method.client_streaming:
            return both_streaming
        return server_streaming if method.server_streaming else unary


def _unless_answered_late(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Reports what went wrong in a callback, but for pyvoy's answer to a future that ended with its cancelled call."""
    if not (isinstance(context.get("exception"), asyncio.InvalidStateError) and "handle" in context):
        loop.default_exception_handler(context)
