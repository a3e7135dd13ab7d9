"""The watch hub: the current catalog with its revision, and the streams of its watchers.

A watcher has no queue. It remembers the last revision that it sent and sends the changes since, so a slow watcher costs
no memory and misses no current value. Updates are encoded once for all watchers. The whole catalog goes in parts: with
100,000 models and 200 watchers that connect at once, whole messages took 1.3 GiB (2026-11-30).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple

from controller.call_slots import CallSlots
from controller.catalog.entities import Catalog
from controller.metrics import ControllerMetrics
from triptych.errors import Draining
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call

COALESCE_S = 0.005
PART_BYTES = 64 << 10  # of one message, and one model more; small requests take turns with them
MAX_BEHIND = 0.01  # revisions, by models, after which the whole catalog is encoded anew: 40 ms for 100,000 models
WOKEN_AT_ONCE = 20  # watchers; sending to 200 takes 10 ms, in which other calls have their turn

_NOTHING_REFUSED: Mapping[str, Sequence[cp.Refused]] = {}


class _Update(NamedTuple):
    """The changes from one revision to another, encoded in parts; the whole catalog from revision 0."""

    since: int
    revision: int
    parts: Sequence[bytes]


class WatchHub:
    """Catalog and placement. The revision grows with every visible change."""

    def __init__(self, metrics: ControllerMetrics, watchers: CallSlots) -> None:
        self.catalog = Catalog()
        self._watchers = watchers
        metrics.watchers.set_function(lambda: self._watchers.taken)
        self._models: dict[str, bytes] = {}  # each as the encoding of an update with this model's state alone
        self._changes: dict[str, int] = {}  # revision of the last change or removal of each model, in order
        self._revision = 0  # 0: nothing is published yet
        self._closed = False
        self._waiting: list[asyncio.Future[None]] = []  # one for each watcher that has every change
        self._waking: asyncio.TimerHandle | None = None
        self._whole = self._latest = _Update(-1, -1, ())  # the last ones, which most watchers share

    @property
    def published(self) -> bool:
        """Whether the catalog has been read once."""
        return self._revision > 0

    def publish(
        self,
        changed: Mapping[str, cp.Model],
        gone: Iterable[str] = (),
        refused: Mapping[str, Sequence[cp.Refused]] = _NOTHING_REFUSED,
    ) -> None:
        """Publish models, and what is refused of them. The revision grows if anything changed that a watcher sees."""
        updates = {name: cp.CatalogUpdate(models=[model]) for name, model in changed.items()}
        for name, reasons in refused.items():
            updates.setdefault(name, cp.CatalogUpdate()).refused.extend(reasons)
        # Deterministic: a map that is equal has the same bytes.
        messages = {name: update.SerializeToString(deterministic=True) for name, update in updates.items()}
        new = {name: message for name, message in messages.items() if self._models.get(name) != message}
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

    async def updates(self, call: Call) -> AsyncIterator[bytes]:
        """Yield the whole catalog once it is published, then changes, as encoded parts of a `CatalogUpdate`.

        Raises `Overloaded` and `Draining`.
        """
        with self._watchers.slot(call):
            revision = 0
            while True:
                while revision == self._revision and not self._closed:
                    await self._next_change()
                if self._closed:
                    raise Draining("the controller is stopping; watch it again")
                update = self._changes_since(revision) if revision else self._whole_catalog()
                revision = update.revision
                for part in update.parts:
                    yield part

    async def _next_change(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _whole_catalog(self) -> _Update:
        """The whole catalog, perhaps of an earlier revision: the changes since follow."""
        behind = self._revision - self._whole.revision
        if self._whole.since or behind > MAX_BEHIND * len(self._models):
            self._whole = _Update(0, self._revision, self._encoded(sorted(self._models), full=True))
        return self._whole

    def _changes_since(self, revision: int) -> _Update:
        """The changes after a revision."""
        if (self._latest.since, self._latest.revision) != (revision, self._revision):
            names: list[str] = []
            for name in reversed(self._changes):
                if self._changes[name] <= revision:
                    break
                names.append(name)
            changed = sorted(name for name in names if name in self._models)
            removed = sorted(name for name in names if name not in self._models)
            self._latest = _Update(revision, self._revision, self._encoded(changed, removed))
        return self._latest

    def _encoded(self, names: Iterable[str], removed: Iterable[str] = (), *, full: bool = False) -> Sequence[bytes]:
        """An update with these models. Encoded messages can be joined, since all that they hold is repeated."""
        parts, size = [list[bytes]()], 0
        for name in names:
            if size >= PART_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(self._models[name])
            size += len(self._models[name])
        heads = [cp.CatalogUpdate(revision=self._revision, more=True) for _ in parts]
        heads[0].full = full
        heads[0].removed.extend(removed)
        heads[-1].more = False
        return [b"".join((head.SerializeToString(), *part)) for head, part in zip(heads, parts, strict=True)]

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
