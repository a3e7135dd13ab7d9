"""What the repository knows at this moment, and the streams that follow it.

A watcher holds no queue: it remembers the state that it sent last and sends the difference to the newest one,
so a slow watcher costs no memory and misses nothing that still holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from repository.catalogue import Catalogue, Model
from repository.metrics import RepositoryMetrics
from triptych.errors import Draining, Overloaded
from triptych.proto import repository_pb2 as rp

Placement = Mapping[str, Mapping[int, tuple[str, ...]]]  # addresses of the Tritons by model and ready version


class Board:
    """Catalogue and placement, with a revision that grows with every visible change."""

    def __init__(self, metrics: RepositoryMetrics, max_watchers: int) -> None:
        self.catalogue = Catalogue()
        self._metrics, self._max_watchers = metrics, max_watchers
        self._placement: Placement = {}
        self._models: Mapping[str, rp.Model] = {}
        self._revision = 0  # 0: nothing has been published yet
        self._watchers = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def published(self) -> bool:
        """Whether the catalogue has been read once."""
        return self._revision > 0

    def set_catalogue(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._publish(first=not self.published)

    def set_placement(self, placement: Placement) -> None:
        self._placement = placement
        if self.published:
            self._publish()

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

    def _publish(self, *, first: bool = False) -> None:
        """A new revision, unless nothing that a watcher sees has changed."""
        models = {}
        for name, model in self.catalogue.models.items():
            message, old = _message(model, self._placement.get(name, {})), self._models.get(name)
            models[name] = old if old == message else message
        if first or models != self._models:
            self._models = models
            self._revision += 1
            self._wake()

    def _wake(self) -> None:
        """Wakes every watcher that waits now; later ones wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()


def _message(model: Model, ready: Mapping[int, tuple[str, ...]]) -> rp.Model:
    versions = [
        rp.Version(version=number, percent=model.traffic.get(number, 0), predictors=ready.get(number, ()))
        for number in sorted(model.versions)
    ]
    return rp.Model(name=model.name, family=model.family, route=model.route, versions=versions)


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
