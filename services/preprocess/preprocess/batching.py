"""Adaptive batching: requests that wait are answered together, and none waits for a fixed delay.

A batch starts at once while fewer than `max_in_flight` batches of its key are in flight. Otherwise requests queue
until one ends, so batches grow with the load. Up to twice the limit, another batch starts when it is full, which
waiting would not make larger, or when the oldest request has waited for `max_wait_s`: a slow model gets its next batch
before it has answered the last. It never gets more, for a request that is still queued here can be answered in a
larger batch, or not at all.

Batches of all keys may share `Slots`. A key that finds them taken waits for one, and its next batch grows meanwhile.

A request that is alone runs in the task of its caller: no task, future or timer is made for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from preprocess.slots import Slots
from triptych.errors import DeadlineExceeded
from triptych.runtime.ewma import Ewma
from triptych.runtime.first_step import next_turn

SMOOTHING = 0.2  # weight of the newest value in an EWMA

BatchKey = Hashable  # equal for requests that may be in one batch


class Batchable(Protocol):
    """A request with its size."""

    @property
    def rows(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...


Request = TypeVar("Request", bound=Batchable)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of the batches of one key. A single request may be over `max_rows` or `max_bytes`."""

    max_in_flight: int  # batches at once, before requests queue
    max_wait_s: float  # in the queue, until another batch starts, up to twice as many
    max_rows: int
    max_bytes: int
    slots: Slots | None = None  # which batches of other keys take too; None: no limit for all keys


@dataclass(slots=True)
class Batch(Generic[Request]):
    """Requests of one key that are answered together. `queued_at_s`: when the oldest came, by `time.monotonic`."""

    requests: Sequence[Request]
    queued_at_s: float


Execute = Callable[[Batch[Request]], Awaitable[Sequence[Result | Exception]]]


class QueuedRequest(Generic[Request, Result]):
    """A request that waits for its result. It has a future once another task is to answer it."""

    __slots__ = ("_future", "is_abandoned", "linger_until_s", "queued_at_s", "request", "slots")

    def __init__(self, request: Request, linger_s: float) -> None:
        self.request = request
        self.queued_at_s = time.monotonic()
        self.linger_until_s = self.queued_at_s + linger_s
        self.is_abandoned = False
        self.slots: Slots | None = None  # of which it has one, as the first request of its batch
        self._future: asyncio.Future[Result] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has its result or error, or nobody waits any more."""
        return self.is_abandoned or (self._future is not None and self._future.done())

    def resolve(self, outcome: Result | Exception) -> None:
        """Sets the result or the error, unless the request is over."""
        assert self._future is not None, "a request without a future runs in the task of its caller"
        if self._future.done():
            return
        if isinstance(outcome, Exception):
            self._future.set_exception(outcome)
        else:
            self._future.set_result(outcome)

    async def wait(self, timeout_s: float, loop: asyncio.AbstractEventLoop) -> Result:
        """Returns the result that another task sets. Raises its error, or `DeadlineExceeded`."""
        self._future = loop.create_future()
        if timeout_s == math.inf:
            return await self._future
        timer = loop.call_later(timeout_s, self._expire, timeout_s)
        try:
            return await self._future
        finally:
            timer.cancel()

    def _expire(self, timeout_s: float) -> None:
        self.resolve(DeadlineExceeded(f"no answer within the {timeout_s:.3f} s that were left"))


class Batcher(Generic[Request, Result]):
    """Batches requests of equal keys, within the limits of the key's latest request.

    `execute` returns one outcome for each request of a batch, in their order. An error that it raises is the outcome
    of them all.
    """

    def __init__(self, execute: Execute[Request, Result], limits: Callable[[Request], BatchLimits]) -> None:
        self._execute, self.limits = execute, limits
        self._queues: dict[BatchKey, _Queue[Request, Result]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()  # read once: each read is a system call

    @property
    def active_keys(self) -> int:
        """Keys with a request in the queue or a batch in flight."""
        return len(self._queues)

    def has_waiting(self, counts: Callable[[BatchKey], bool]) -> bool:
        """Whether a request waits in the queue of a key that counts."""
        return any(queue.has_waiting and counts(key) for key, queue in self._queues.items())

    def expected_wait_s(self, key: BatchKey, request: Request) -> float:
        """Time that a request of that key would wait for its batch to start, by the rate at which batches ended."""
        queue = self._queues.get(key)
        if queue is not None:
            return queue.expected_wait_s
        slots = self.limits(request).slots
        return slots.expected_wait_s if slots is not None else 0.0

    async def submit(
        self, key: BatchKey, request: Request, timeout_s: float, linger_s: float = 0.0, detached: bool = False
    ) -> Result:
        """Returns the result, within `timeout_s`. Raises the request's error, or `DeadlineExceeded`.

        `linger_s` is how long the request waits for others that are known to come soon. A request that is alone is
        cancelled with its caller, and `execute` watches its deadline; a `detached` one goes on.
        """
        queued: QueuedRequest[Request, Result] = QueuedRequest(request, linger_s)
        queue, may_run_alone = self._queues.get(key), False
        if queue is None:
            queue = self._queues[key] = _Queue(self, key, request)
            may_run_alone = linger_s <= 0 and not detached
        if not may_run_alone:
            queue.add(queued)
        elif await queue.is_alone(queued):
            return await self._run_alone(queued, queue)
        return await queued.wait(timeout_s, self.loop)

    async def _run_alone(self, queued: QueuedRequest[Request, Result], queue: _Queue[Request, Result]) -> Result:
        try:
            (outcome,) = await self._execute(Batch((queued.request,), queued.queued_at_s))
        finally:
            queue.end_batch(queued)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def start(self, batch: list[QueuedRequest[Request, Result]], queue: _Queue[Request, Result]) -> None:
        """Answers the batch in a task of its own."""
        task = self.loop.create_task(self._run(batch, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def remove(self, key: BatchKey) -> None:
        """Forgets a queue that is empty and has no batch in flight."""
        self._queues.pop(key, None)

    async def _run(self, batch: list[QueuedRequest[Request, Result]], queue: _Queue[Request, Result]) -> None:
        try:
            for queued, outcome in zip(batch, await self._outcomes(batch), strict=True):
                queued.resolve(outcome)
        finally:
            queue.end_batch(batch[0])

    async def _outcomes(self, batch: list[QueuedRequest[Request, Result]]) -> Sequence[Result | Exception]:
        try:
            return await self._execute(Batch([queued.request for queued in batch], batch[0].queued_at_s))
        except Exception as error:
            return [error] * len(batch)


class _Queue(Generic[Request, Result]):
    """The queued requests of one key, and the number of its batches in flight. Removed when there is neither."""

    __slots__ = (
        "_batcher",
        "_end_interval_s",
        "_in_flight",
        "_key",
        "_lacks_slot",
        "_last_end_s",
        "_limits",
        "_linger_until_s",
        "_next_check",
        "_waiting",
        "_waiting_rows",
    )

    def __init__(self, batcher: Batcher[Request, Result], key: BatchKey, first: Request) -> None:
        self._batcher, self._key = batcher, key
        self._waiting: deque[QueuedRequest[Request, Result]] = deque()
        self._waiting_rows = 0
        self._linger_until_s = math.inf  # the earliest of those that wait
        self._in_flight = 0  # batches
        self._last_end_s: float | None = None  # of a batch, if the queue was busy ever since
        self._end_interval_s = Ewma(SMOOTHING)  # between two batches that end
        self._next_check: asyncio.Handle | None = None
        self._lacks_slot = False  # and is called when there is one
        self._limits = batcher.limits(first)

    @property
    def has_waiting(self) -> bool:
        """Whether a request waits for its batch to start."""
        return bool(self._waiting)

    @property
    def expected_wait_s(self) -> float:
        if self._in_flight < self._limits.max_in_flight:
            slots = self._limits.slots
            return slots.expected_wait_s if slots is not None else 0.0
        return self._end_interval_s.value * (1 + self._waiting_rows // self._limits.max_rows)

    @property
    def _is_full(self) -> bool:
        """Whether the next batch has as many rows as one may have."""
        return self._waiting_rows >= self._limits.max_rows

    def add(self, queued: QueuedRequest[Request, Result]) -> None:
        self._waiting.append(queued)
        self._waiting_rows += queued.request.rows
        self._linger_until_s = min(self._linger_until_s, queued.linger_until_s)
        if self._next_check is None or self._in_flight < self._limits.max_in_flight or self._is_full:
            self._schedule_check()

    async def is_alone(self, queued: QueuedRequest[Request, Result]) -> bool:
        """Whether the first request can go by itself at the end of this turn of the loop. It is in flight then."""
        self._waiting.append(queued)
        self._waiting_rows = queued.request.rows
        self._linger_until_s = queued.linger_until_s
        try:
            await next_turn()
        except BaseException:
            queued.is_abandoned = True
            if self._next_check is None:  # no other request has scheduled one
                self._check()
            raise
        if len(self._waiting) > 1 or not self._take_slot():
            return False
        self._waiting.clear()
        self._waiting_rows = 0
        self._linger_until_s = math.inf
        self._in_flight += 1
        return True

    def end_batch(self, first: QueuedRequest[Request, Result]) -> None:
        """Counts one batch fewer in flight, by its first request."""
        self._in_flight -= 1
        if first.slots is not None:
            first.slots.give_back(first)
        if not self._waiting and not self._in_flight and self._next_check is None:
            self._batcher.remove(self._key)
            return
        now_s = time.monotonic()
        if self._last_end_s is not None:
            newest_s = now_s - self._last_end_s
            self._end_interval_s.add(newest_s)
        self._last_end_s = now_s if self._waiting or self._in_flight else None
        if self._waiting:
            self._schedule_check()

    def _schedule_check(self) -> None:
        """Checks at the end of this turn of the loop, so that requests of the same turn are in one batch."""
        loop = self._batcher.loop
        if self._next_check is not None:
            self._next_check.cancel()
            self._next_check = None
        if self._lacks_slot:
            return
        if self._waiting:
            self._limits = self._batcher.limits(self._waiting[-1].request)
        if self._in_flight < self._limits.max_in_flight:
            delay_s = self._remaining_linger_s()
            self._next_check = loop.call_later(delay_s, self._check) if delay_s > 0 else loop.call_soon(self._check)
        elif self._waiting and self._in_flight < 2 * self._limits.max_in_flight:
            remaining_s = self._waiting[0].queued_at_s + self._limits.max_wait_s - time.monotonic()
            is_due = self._is_full or remaining_s <= 0
            self._next_check = loop.call_soon(self._check) if is_due else loop.call_later(remaining_s, self._check)

    def _check(self) -> None:
        """Starts the batches that may start now."""
        self._next_check = None
        while self._is_wanted() and self._may_start() and self._take_slot():
            self._in_flight += 1
            self._batcher.start(self._take_batch(), self)
        if self._waiting:
            self._schedule_check()
        elif not self._in_flight:
            self._batcher.remove(self._key)

    def _is_wanted(self) -> bool:
        """Whether a request waits. Drops those before it that are over."""
        waiting = self._waiting
        while waiting and waiting[0].is_over:
            self._waiting_rows -= waiting.popleft().request.rows
        return bool(waiting)

    def _take_slot(self) -> bool:
        """Whether the next batch has a slot. Without one, the queue is called when there is one."""
        first, slots = self._waiting[0], self._limits.slots
        if slots is None:
            return True
        if slots.take(first):
            first.slots = slots
            return True
        if not self._lacks_slot:
            self._lacks_slot = True
            slots.wait(self._on_slot)
        return False

    def _on_slot(self) -> None:
        self._lacks_slot = False
        self._check()

    def _may_start(self) -> bool:
        if self._in_flight < self._limits.max_in_flight:
            return self._remaining_linger_s() <= 0
        if self._in_flight >= 2 * self._limits.max_in_flight:
            return False
        return self._is_full or time.monotonic() - self._waiting[0].queued_at_s >= self._limits.max_wait_s

    def _remaining_linger_s(self) -> float:
        """Time that the next batch still waits for requests that are known to come soon."""
        if not self._waiting or self._is_full:
            return 0.0
        return self._linger_until_s - time.monotonic()

    def _take_batch(self) -> list[QueuedRequest[Request, Result]]:
        """Takes the oldest requests that fit into one batch, the first always, and drops those that are over."""
        batch: list[QueuedRequest[Request, Result]] = []
        rows = size_bytes = 0
        while self._waiting:
            first = self._waiting[0]
            request = first.request
            rows, size_bytes = rows + request.rows, size_bytes + request.size_bytes
            if batch and (rows > self._limits.max_rows or size_bytes > self._limits.max_bytes):
                break
            self._waiting.popleft()
            self._waiting_rows -= request.rows
            if first.is_over:
                rows, size_bytes = rows - request.rows, size_bytes - request.size_bytes
            else:
                batch.append(first)
        self._linger_until_s = min((queued.linger_until_s for queued in self._waiting), default=math.inf)
        return batch
