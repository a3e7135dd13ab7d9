"""The wiring: what the repository is made of, and what runs beside its door."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from repository.board import Board
from repository.catalogue import Catalogue
from repository.metrics import RepositoryMetrics
from repository.residency import Limits, Residency, every
from repository.scan import Scanner
from repository.servicer import CatalogueServicer, RepositoryServicer
from repository.settings import Settings
from repository.source import Source
from repository.triton import Triton
from triptych.contracts import REPOSITORY_SERVICE
from triptych.door import GrpcioDoor
from triptych.methods import Service, methods_of
from triptych.metrics import StageMetrics
from triptych.oip import SERVICE
from triptych.tracing import Tracing


class Repository:
    """The service, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracing = Tracing("repository", settings.otlp_endpoint)
        self._stage = StageMetrics("repository", self._tracing)
        metrics = RepositoryMetrics(self._stage.registry, settings.predictors)
        self.board = Board(metrics, settings.max_watchers)
        predictors = [Triton(address) for address in settings.predictors]
        self.residency = Residency(predictors, _limits(settings), metrics, self.board.set_placement)
        scanner = Scanner(settings.model_repository, settings.served_models)
        self._source = Source(scanner, metrics, self._catalogue_changed, serve_undeclared=settings.serve_undeclared)
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = False
        own = RepositoryServicer(self.board, self.residency, settings.max_in_flight)
        inference = CatalogueServicer(settings, self._stage, self.board, self.residency, lambda: self._ready)
        services = [methods_of(REPOSITORY_SERVICE, own), methods_of(SERVICE, inference)]
        self.door: GrpcioDoor = _Door(services, settings, self.board)

    async def start(self) -> None:
        """Reads the catalogue; Triton may come later. Raises `OSError` when the folder cannot be read."""
        self._stage.serve(self._settings.host, self._settings.metrics_port)
        try:
            await self._source.start()
        except OSError as error:
            where = "REPOSITORY_MODEL_REPOSITORY and REPOSITORY_SERVED_MODELS name the folders"
            raise OSError(f"cannot read {error.filename}: {error.strerror}; {where}") from error
        self._tasks = [
            asyncio.create_task(every(self._settings.poll_s, self._source.look)),
            asyncio.create_task(self.residency.run(self._settings.sync_s)),
        ]
        self._ready = True

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.residency.close()
        self._tracing.close()

    def _catalogue_changed(self, catalogue: Catalogue) -> None:
        self.board.set_catalogue(catalogue)
        self.residency.set_catalogue(catalogue)


class _Door(GrpcioDoor):
    """Ends the watchers' streams first: they have no end of their own, and closing would wait for them."""

    def __init__(self, services: Sequence[Service], settings: Settings, board: Board) -> None:
        super().__init__(services, settings)
        self._board = board

    async def close(self, grace_s: float) -> None:
        self._board.close()
        await super().close(grace_s)


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.load_timeout_s,
        settings.failure_ttl_s,
        settings.max_concurrent_loads,
        settings.max_waiting_loads,
    )


async def build(settings: Settings) -> Repository:
    return Repository(settings)
