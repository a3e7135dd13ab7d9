"""Adaptive batching: what waits goes on together, and nothing waits while there is nobody to wait for.

A group leaves at once while fewer than `slots` groups of its kind are out. Otherwise requests gather until one comes
back, so groups grow with the load and there is no delay to choose. A group that stays out for long holds the next
one up for no more than `age_s`: a slow model gets its next group before it has answered the last. It never gets more
than that, for what waits here can still be answered with others, or not at all.

A request that is alone runs in the task of its caller: no task, future or timer is made for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from triptych.errors import DeadlineExceeded

LEARNT = 0.2  # of what is new, when a mean follows it

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Limits:
    """Of the groups of one kind. One request may be larger than a group."""

    slots: int  # groups out at once before others wait
    age_s: float  # after such a wait another group leaves, up to twice as many
    rows: int
    size_bytes: int


class Pending(Generic[Item, Answer]):
    """A request that waits for its answer. It has a future once another task is to answer it."""

    __slots__ = ("_future", "_given_up", "_loop", "_result", "held_until_s", "item", "rows", "since_s", "size_bytes")

    def __init__(
        self, item: Item, rows: int, size_bytes: int, patience_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.item, self.rows, self.size_bytes = item, rows, size_bytes
        self.since_s = time.monotonic()
        self.held_until_s = self.since_s + patience_s
        self._loop, self._given_up = loop, False
        self._future: asyncio.Future[Answer] | None = None
        self._result: Answer | Exception | None = None

    @property
    def over(self) -> bool:
        """It has its answer or error, or nobody waits any more."""
        return self._given_up or (self._future is not None and self._future.done())

    def answer(self, answer: Answer) -> None:
        if self._future is None:
            self._result = answer
        elif not self._future.done():
            self._future.set_result(answer)

    def fail(self, error: Exception) -> None:
        if self._future is None:
            self._result = error
        elif not self._future.done():
            self._future.set_exception(error)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._given_up = True

    def result(self) -> Answer:
        """The answer of a request that ran in its caller's task. Raises its error."""
        if isinstance(self._result, Exception):
            raise self._result
        assert self._result is not None, "whoever runs a request answers it or raises"
        return self._result

    async def wait(self, timeout_s: float) -> Answer:
        """The answer that another task gives. Raises its error, or `DeadlineExceeded`."""
        self._future = self._loop.create_future()
        if timeout_s == float("inf"):
            return await self._future
        timer = self._loop.call_later(timeout_s, self._expire, timeout_s)
        try:
            return await self._future
        finally:
            timer.cancel()

    def _expire(self, timeout_s: float) -> None:
        self.fail(DeadlineExceeded(f"no answer within the {timeout_s:.3f} s that were left"))


Run = Callable[[Sequence[Pending[Item, Answer]]], Awaitable[None]]


class Batcher(Generic[Item, Answer]):
    """Groups requests of the same kind, within the limits that its latest request has.

    `run` answers every member of a group; what it raises, all others get.
    """

    def __init__(self, run: Run[Item, Answer], limits: Callable[[Item], Limits]) -> None:
        self._run, self._limits = run, limits
        self._queues: dict[Hashable, _Queue[Item, Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()  # asked for once: each time costs a system call

    @property
    def kinds(self) -> int:
        """Kinds of which something waits or is out."""
        return len(self._queues)

    def wait_s(self, kind: Hashable) -> float:
        """How long a request of that kind would wait for its group to leave, by how fast groups came back lately."""
        queue = self._queues.get(kind)
        return queue.wait_s if queue is not None else 0.0

    async def submit(
        self,
        kind: Hashable,
        item: Item,
        rows: int,
        size_bytes: int,
        timeout_s: float,
        patience_s: float = 0.0,
        detached: bool = False,
    ) -> Answer:
        """The request's answer, within `timeout_s`. Raises its error, or `DeadlineExceeded`.

        `patience_s` is how long it would wait for others that are known to come soon; with 0, what waits leaves now.
        A request that is alone ends with its caller, and `run` then watches its deadline; a `detached` one does not.
        """
        pending: Pending[Item, Answer] = Pending(item, rows, size_bytes, patience_s, self._loop)
        queue, goes_alone = self._queues.get(kind), False
        if queue is None:
            gone = partial(self._queues.pop, kind, None)
            queue = self._queues[kind] = _Queue(self._start, self._limits, gone, self._loop, item)
            goes_alone = patience_s <= 0 and not detached
        if not goes_alone:
            queue.add(pending)
        elif await queue.is_alone(pending):
            try:
                await self._run((pending,))
            finally:
                queue.came_back()
            return pending.result()
        return await pending.wait(timeout_s)

    def _start(self, group: list[Pending[Item, Answer]], done: Callable[[], None]) -> None:
        task = self._loop.create_task(self._settle(group, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, group: list[Pending[Item, Answer]], done: Callable[[], None]) -> None:
        try:
            await self._run(group)
        except Exception as error:
            for pending in group:
                pending.fail(error)
        finally:
            done()


class _Queue(Generic[Item, Answer]):
    """What waits of one kind, and how many groups of it are out. Gone when there is neither."""

    def __init__(
        self,
        start: Callable[[list[Pending[Item, Answer]], Callable[[], None]], None],
        limits: Callable[[Item], Limits],
        empty: Callable[[], object],
        loop: asyncio.AbstractEventLoop,
        first: Item,
    ) -> None:
        self._start, self._limits_of, self._empty, self._loop = start, limits, empty, loop
        self._waiting: deque[Pending[Item, Answer]] = deque()
        self._rows = 0  # of what waits
        self._held_until_s = math.inf  # the patience of the most impatient of them
        self._out = 0
        self._back_s: float | None = None  # when the last group came back, if there was something out since
        self._every_s = 0.0  # from one that comes back to the next
        self._next: asyncio.Handle | None = None  # the look at the queue that is planned
        self._limits = limits(first)

    @property
    def wait_s(self) -> float:
        if self._out < self._limits.slots:
            return 0.0
        return self._every_s * (1 + self._rows // self._limits.rows)

    def add(self, pending: Pending[Item, Answer]) -> None:
        self._waiting.append(pending)
        self._rows += pending.rows
        self._held_until_s = min(self._held_until_s, pending.held_until_s)
        if self._next is None or self._out < self._limits.slots:
            self._plan()

    async def is_alone(self, pending: Pending[Item, Answer]) -> bool:
        """Whether nobody has joined the first request by the end of this turn of the loop. It is out then."""
        self._waiting.append(pending)
        self._rows = pending.rows
        self._held_until_s = pending.held_until_s
        try:
            await asyncio.sleep(0)
        except BaseException:
            pending.give_up()
            if self._next is None:  # nobody else has planned one
                self._look()
            raise
        if len(self._waiting) > 1:
            return False
        self._waiting.clear()
        self._rows = 0
        self._held_until_s = math.inf
        self._out += 1
        return True

    def _plan(self) -> None:
        """Looks again at the end of this turn of the loop, so that what came in the same turn goes together."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._waiting:
            self._limits = self._limits_of(self._waiting[-1].item)
        if self._out < self._limits.slots:
            held_s = self._held_s()
            self._next = self._loop.call_later(held_s, self._look) if held_s > 0 else self._loop.call_soon(self._look)
        elif self._waiting and self._out < 2 * self._limits.slots:
            left_s = self._waiting[0].since_s + self._limits.age_s - time.monotonic()
            self._next = self._loop.call_later(max(0.0, left_s), self._look)

    def _look(self) -> None:
        self._next = None
        while self._waiting and self._may_leave():
            if group := self._take():
                self._out += 1
                self._start(group, self.came_back)
        if self._waiting:
            self._plan()
        elif not self._out:
            self._empty()

    def _may_leave(self) -> bool:
        if self._out < self._limits.slots:
            return self._held_s() <= 0
        is_old = time.monotonic() - self._waiting[0].since_s >= self._limits.age_s
        return is_old and self._out < 2 * self._limits.slots

    def _held_s(self) -> float:
        """How much longer the next group waits for those who are known to come soon."""
        if not self._waiting or self._rows >= self._limits.rows:
            return 0.0
        return self._held_until_s - time.monotonic()

    def _take(self) -> list[Pending[Item, Answer]]:
        """The oldest that fit into one group; what nobody waits for any more is dropped."""
        group: list[Pending[Item, Answer]] = []
        rows = size_bytes = 0
        while self._waiting:
            first = self._waiting[0]
            rows, size_bytes = rows + first.rows, size_bytes + first.size_bytes
            if group and (rows > self._limits.rows or size_bytes > self._limits.size_bytes):
                break
            self._waiting.popleft()
            self._rows -= first.rows
            if first.over:
                rows, size_bytes = rows - first.rows, size_bytes - first.size_bytes
            else:
                group.append(first)
        self._held_until_s = min((pending.held_until_s for pending in self._waiting), default=math.inf)
        return group

    def came_back(self) -> None:
        """One group fewer is out."""
        self._out -= 1
        if not self._waiting and not self._out and self._next is None:
            self._empty()
            return
        now_s = time.monotonic()
        if self._back_s is not None:
            self._every_s += (now_s - self._back_s - self._every_s) * (LEARNT if self._every_s else 1.0)
        self._back_s = now_s if self._waiting or self._out else None
        if self._waiting:
            self._plan()
