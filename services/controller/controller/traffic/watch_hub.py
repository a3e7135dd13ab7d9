"""The watch hub: the current catalog with its revision, and the streams of its watchers.

A watcher has no queue. It remembers the last revision that it sent and sends the changes since, so a slow watcher costs
no memory and misses no current value.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from controller.call_slots import CallSlots
from controller.catalog.entities import Catalog
from controller.metrics import ControllerMetrics
from triptych.errors import Draining
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call

COALESCE_S = 0.005
WOKEN_AT_ONCE = 20  # watchers; sending to 200 takes 10 ms, in which other calls have their turn


class WatchHub:
    """Catalog and placement. The revision grows with every visible change."""

    def __init__(self, metrics: ControllerMetrics, watchers: CallSlots) -> None:
        self.catalog = Catalog()
        self._watchers = watchers
        metrics.watchers.set_function(lambda: self._watchers.taken)
        self._models: dict[str, cp.Model] = {}
        self._changes: dict[str, int] = {}  # revision of the last change or removal of each model, in order
        self._revision = 0  # 0: nothing is published yet
        self._closed = False
        self._waiting: list[asyncio.Future[None]] = []  # one for each watcher that has every change
        self._waking: asyncio.TimerHandle | None = None
        self._latest: tuple[int, cp.CatalogUpdate] | None = None  # the last update, and the revision that it follows

    @property
    def published(self) -> bool:
        """Whether the catalog has been read once."""
        return self._revision > 0

    def publish(self, changed: Mapping[str, cp.Model], gone: Iterable[str] = ()) -> None:
        """Publish models. The revision grows unless nothing changed that a watcher sees."""
        new = {name: model for name, model in changed.items() if self._models.get(name) != model}
        removed = [name for name in gone if name in self._models]
        if new or removed or not self.published:
            self._revision += 1
            self._models.update(new)
            for name in removed:
                del self._models[name]
            for name in (*new, *removed):
                self._changes.pop(name, None)
                self._changes[name] = self._revision
            self._wake_soon()

    def close(self) -> None:
        """End every stream: the watchers connect to another replica, or again."""
        self._closed = True
        self._wake()

    async def updates(self, call: Call) -> AsyncIterator[cp.CatalogUpdate]:
        """Yield the whole catalog once it is published, then changes. Raises `Overloaded` and `Draining`."""
        with self._watchers.slot(call):
            revision = 0
            while True:
                while revision == self._revision and not self._closed:
                    await self._next_change()
                if self._closed:
                    raise Draining("the controller is stopping; watch it again")
                update = self._update_since(revision)
                revision = self._revision
                yield update

    async def _next_change(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _update_since(self, revision: int) -> cp.CatalogUpdate:
        """The changes after a revision; most watchers are at the same one and share the message."""
        if self._latest is None or self._latest[0] != revision or self._latest[1].revision != self._revision:
            self._latest = (revision, self._since(revision))
        return self._latest[1]

    def _since(self, revision: int) -> cp.CatalogUpdate:
        """The changes after a revision; the whole catalog after 0."""
        if not revision:
            models = [model for _, model in sorted(self._models.items())]
            return cp.CatalogUpdate(revision=self._revision, full=True, models=models)
        names: list[str] = []
        for name in reversed(self._changes):
            if self._changes[name] <= revision:
                break
            names.append(name)
        models = [self._models[name] for name in sorted(names) if name in self._models]
        removed = sorted(name for name in names if name not in self._models)
        return cp.CatalogUpdate(revision=self._revision, models=models, removed=removed)

    def _wake_soon(self) -> None:
        """Wake the watchers soon: changes within `COALESCE_S` are one message, after the answer to a waiting caller."""
        if self._waking is None:
            try:
                self._waking = asyncio.get_running_loop().call_later(COALESCE_S, self._wake)
            except RuntimeError:  # without a loop there is no watcher
                return

    def _wake(self) -> None:
        """Wake all waiting watchers, a few at a time; later ones wait for the next change."""
        self._waking = None
        waiting, self._waiting = self._waiting, []
        self._wake_some(waiting)

    def _wake_some(self, waiting: list[asyncio.Future[None]]) -> None:
        for each in waiting[:WOKEN_AT_ONCE]:
            if not each.done():
                each.set_result(None)
        if rest := waiting[WOKEN_AT_ONCE:]:
            asyncio.get_running_loop().call_soon(self._wake_some, rest)
