"""What the repository knows at this moment, and the streams that follow it.

A watcher holds no queue: it remembers the state that it sent last and sends the difference to the newest one,
so a slow watcher costs no memory and misses nothing that still holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from repository.catalogue.assembly import Catalogue
from repository.metrics import RepositoryMetrics
from triptych.errors import Draining, Overloaded
from triptych.proto import repository_pb2 as rp


class Board:
    """Catalogue and placement, with a revision that grows with every visible change."""

    def __init__(self, metrics: RepositoryMetrics, max_watchers: int) -> None:
        self.catalogue = Catalogue()
        self._metrics, self._max_watchers = metrics, max_watchers
        self._models: Mapping[str, rp.Model] = {}
        self._revision = 0  # 0: nothing has been published yet
        self._watchers = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def published(self) -> bool:
        """Whether the catalogue has been read once."""
        return self._revision > 0

    def publish(self, changed: Mapping[str, rp.Model], gone: Iterable[str] = ()) -> None:
        """Models as they are now; a new revision, unless nothing that a watcher sees has changed."""
        new = {name: model for name, model in changed.items() if self._models.get(name) != model}
        lost = [name for name in gone if name in self._models]
        if new or lost or not self.published:
            models = {**self._models, **new}
            for name in lost:
                del models[name]
            self._models = models
            self._revision += 1
            self._wake()

    def close(self) -> None:
        """Ends every stream: the watchers find another replica, or come back."""
        self._closed = True
        self._wake()

    async def updates(self) -> AsyncIterator[rp.CatalogueUpdate]:
        """The whole catalogue once it is known, then what changes. Raises `Overloaded` and `Draining`."""
        if self._watchers >= self._max_watchers:
            raise Overloaded(f"{self._watchers} watchers, the limit, follow the catalogue; try again later")
        self._watchers += 1
        self._metrics.watchers.set(self._watchers)
        try:
            revision = 0
            sent: Mapping[str, rp.Model] = {}
            while True:
                while revision == self._revision and not self._closed:
                    await self._changed.wait()
                if self._closed:
                    raise Draining("the repository is stopping; watch it again")
                update = _difference(sent, self._models, self._revision, full=revision == 0)
                revision, sent = self._revision, self._models
                yield update
        finally:
            self._watchers -= 1
            self._metrics.watchers.set(self._watchers)

    def _wake(self) -> None:
        """Wakes every watcher that waits now; later ones wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()


def _difference(
    sent: Mapping[str, rp.Model], now: Mapping[str, rp.Model], revision: int, *, full: bool
) -> rp.CatalogueUpdate:
    """What `now` has that `sent` has not. An unchanged model is the same object in both."""
    return rp.CatalogueUpdate(
        revision=revision,
        full=full,
        models=[model for name, model in sorted(now.items()) if sent.get(name) is not model],
        removed=sorted(set(sent) - set(now)),
    )
