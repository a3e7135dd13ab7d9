"""Window of one stream: its requests in flight, and their answers in the order of the requests.

An answer that is made before its turn waits as bytes, and one whose turn has come until its stream's task sends it.
All streams of a process share both. A caller that does not read stops its own stream: no further request of it starts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any

from triptych.protocol.call import Call
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.settings import MIB

MAX_REQUESTS = 16  # of one stream in flight; the answer that is being sent is one of them
MAX_WAITING_BYTES = 4 * MIB  # of answers of one stream that wait for their turn, before its next request starts


class AnswerBytes:
    """Bytes of answers that have been made and not sent, of all streams of a process, each within half of a limit.

    waiting: before their turn, as long as their callers do not read.
    due: their turn has come, and the task of their stream runs next. A batch makes the answers of many streams at once.
    Those that wait leave half of the limit to them, so that a caller that reads gets its answer.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.waiting, self.due = InFlightBytes(limit_bytes // 2), InFlightBytes(limit_bytes // 2)


class StreamedRequest:
    """A request of a stream that is in flight."""

    __slots__ = ("answer_bytes", "call", "counter", "task")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.task: asyncio.Task[bytes] | None = None  # until its answer is taken
        self.answer_bytes = 0
        self.counter: InFlightBytes | None = None  # has counted them


class StreamWindow:
    """Requests of one stream in flight. One task adds them, another one takes their answers."""

    def __init__(self, shared: AnswerBytes) -> None:
        self._shared, self._answer_bytes = shared, 0
        self._requests: deque[StreamedRequest] = deque()  # oldest first
        self._has_ended = False
        self._changed = asyncio.Event()

    async def until_free(self) -> None:
        """Return when the next request may start."""
        while len(self._requests) >= MAX_REQUESTS or self._answer_bytes > MAX_WAITING_BYTES:
            await self._wait()

    def add(self, request: StreamedRequest, answer: Coroutine[Any, Any, bytes]) -> None:
        """Start to answer a request."""
        request.task = asyncio.create_task(answer)
        self._requests.append(request)
        self._changed.set()

    def end(self) -> None:
        """Note that no request follows."""
        self._has_ended = True
        self._changed.set()

    def count(self, request: StreamedRequest, size_bytes: int) -> None:
        """Count an answer that has been made. Raises `Overloaded` over the limit."""
        counter = self._counter(request)
        counter.acquire(size_bytes)
        self._add_bytes(request, size_bytes, counter)

    def count_unchecked(self, request: StreamedRequest, size_bytes: int) -> None:
        """Count a small answer, which says that a larger one was over the limit."""
        counter = self._counter(request)
        counter.acquire_unchecked(size_bytes)
        self._add_bytes(request, size_bytes, counter)

    async def oldest(self) -> StreamedRequest | None:
        """The request that is to be answered next; None after the last one."""
        while not self._requests:
            if self._has_ended:
                return None
            await self._wait()
        return self._requests[0]

    async def answer(self, request: StreamedRequest) -> bytes:
        """Answer of the oldest request. Nothing holds it here afterwards."""
        assert request.task is not None
        data = await request.task
        request.task = None
        self._release(request)
        return data

    def remove_oldest(self) -> None:
        """Forget the oldest request, whose answer was sent."""
        self._requests.popleft()
        self._changed.set()

    def cancel(self) -> list[StreamedRequest]:
        """Cancel what is in flight, and return it."""
        left = list(self._requests)
        self._requests.clear()
        for request in left:
            if request.task is not None:
                request.task.cancel()
                request.task.add_done_callback(partial(self._release_done, request))
        return left

    def _counter(self, request: StreamedRequest) -> InFlightBytes:
        is_due = bool(self._requests) and self._requests[0] is request
        return self._shared.due if is_due else self._shared.waiting

    def _add_bytes(self, request: StreamedRequest, size_bytes: int, counter: InFlightBytes) -> None:
        request.answer_bytes, request.counter = size_bytes, counter
        self._answer_bytes += size_bytes

    def _release(self, request: StreamedRequest) -> None:
        if request.counter is not None:
            request.counter.release(request.answer_bytes)
            self._answer_bytes -= request.answer_bytes
            request.counter = None

    def _release_done(self, request: StreamedRequest, _task: asyncio.Task[bytes]) -> None:
        self._release(request)

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
