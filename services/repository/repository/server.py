"""The wiring: what the repository is made of, and what runs beside its door."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from repository.catalogue.assembly import Catalogue
from repository.catalogue.scan import Reading, Scanner
from repository.catalogue.sealer import by_content, by_stat
from repository.catalogue.source import Source
from repository.catalogue.store.place import Models, StoreSeals, models_in
from repository.journal import Journal
from repository.leading import Alone, Loads
from repository.metrics import RepositoryMetrics
from repository.places import Places
from repository.residency.discovery import Discovery
from repository.residency.residency import Residency
from repository.residency.triton import Triton
from repository.residency.upkeep import every
from repository.servicer import CatalogueServicer, RepositoryServicer
from repository.settings import Settings
from repository.traffic.board import Board
from repository.traffic.serving import Serving
from triptych.contract.limits import TrialLimits
from triptych.contracts import REPOSITORY_SERVICE
from triptych.door import door_for
from triptych.methods import methods_of
from triptych.metrics import StageMetrics
from triptych.oip import SERVICE
from triptych.tls import upstream_credentials
from triptych.tracing import tracing

if TYPE_CHECKING:  # imported only where there is a cluster: its client takes a second and tens of megabytes
    from repository.kubernetes.api import Api
    from repository.kubernetes.cluster import Cluster


class Repository:
    """The service, built and not yet started. `api` is the way to Kubernetes, None without a cluster."""

    def __init__(self, settings: Settings, api: Api | None = None) -> None:
        self._settings = settings
        self._tracing = tracing("repository", settings.otlp_endpoint)
        self._stage = StageMetrics("repository", self._tracing)
        metrics = RepositoryMetrics(self._stage.registry)
        journal = Journal()
        stages = settings.reservation
        watchers = (settings.max_watchers, settings.max_watchers_per_peer, "watchers follow the catalogue")
        self.board = Board(metrics, Places(*watchers, stages))
        self.serving = Serving(self.board, journal)
        self.residency = Residency(self._connect, settings, metrics, journal, self.serving.models_changed)
        self.serving.attach(self.residency)
        self._discovery = Discovery(settings.predictors)
        self._cluster = self._join(api) if api is not None else None
        place = models_in(settings.model_repository, settings.mirror)
        scanner = Scanner(place.folder, settings.served_models, reading_of(settings, place))
        self.residency.needs.seals = StoreSeals(place, scanner.sealer) if place.identify else scanner.sealer
        self._source = Source(
            scanner,
            metrics,
            self._catalogue_changed,
            serve_undeclared=settings.serve_undeclared,
            documents=self._cluster.documents if self._cluster else None,
            serving=self.serving.versions,
            before_look=place.refresh,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._standing: asyncio.Task[None] | None = None  # for election
        self._ready = False
        leader = self._cluster.election if self._cluster else Alone()
        upstream_credentials(settings)  # files that cannot be read are named at the start
        credentials = partial(upstream_credentials, settings)
        self._loads = Loads(self.residency, leader, credentials, settings.replica_name, settings.transport)
        waiting = Places(settings.max_in_flight, settings.max_loads_per_peer, "calls already wait for loads", stages)
        own = RepositoryServicer(self.board, self.residency, self._loads, journal, self._tracing, waiting)
        inference = CatalogueServicer(
            settings, self._stage, self.board, self.residency, self._loads, waiting, lambda: self._ready
        )
        self.door = door_for([methods_of(REPOSITORY_SERVICE, own), methods_of(SERVICE, inference)], settings)

    async def start(self) -> None:
        """Reads the catalogue; Triton may come later. Raises `OSError` when the folder cannot be read."""
        settings, upkeep = self._settings, self.residency.upkeep
        self._stage.serve(settings, self.door)
        try:
            await self._source.start()
        except OSError as error:
            where = "REPOSITORY_MODEL_REPOSITORY and REPOSITORY_SERVED_MODELS name the folders"
            raise OSError(f"cannot read {error.filename}: {error.strerror}; {where}") from error
        await upkeep.find(self._discovery)
        self._tasks = [
            asyncio.create_task(every(0.0, partial(self._source.next_look, settings.poll_s))),
            asyncio.create_task(upkeep.run(self._discovery, settings.sync_s)),
        ]
        if self._cluster is not None:
            await self.residency.fleet.refresh()  # whoever leads writes down what it sees
            self._standing = asyncio.create_task(self._cluster.run())
        self._ready = True

    async def drain(self) -> None:
        """Hands over to another replica, and ends the watchers' streams, which have no end of their own."""
        if self._standing is not None:
            self._standing.cancel()
            await asyncio.gather(self._standing, return_exceptions=True)
        self.board.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loads.close()
        await self.residency.close()
        if self._cluster is not None:
            await self._cluster.close()
        self._tracing.close()

    def _connect(self, address: str) -> Triton:
        settings = self._settings
        return Triton(address, settings.triton_metrics_port, settings.triton_key, settings.transport)

    def _join(self, api: Api) -> Cluster:
        from repository.kubernetes.cluster import Cluster, Place

        settings, upkeep = self._settings, self.residency.upkeep
        upkeep.leads = False
        place = Place(settings.identity, settings.namespace, settings.lease, settings.kubeconfig)
        cluster = Cluster(
            api,
            place,
            self.serving.situation,
            on_started=lambda: upkeep.lead(True),
            on_stopped=lambda: upkeep.lead(False),
        )
        self.serving.listen(cluster.models_changed)
        return cluster

    def _catalogue_changed(self, catalogue: Catalogue) -> None:
        self.serving.set_catalogue(catalogue)
        if self._cluster is not None:
            self._cluster.set_catalogue(catalogue)


def reading_of(settings: Settings, place: Models) -> Reading:
    """How models are read. A mirror's large files have no content here; what tells them is the tag of the object."""
    return Reading(
        settings.max_file_bytes,
        settings.max_document_bytes,
        settings.max_files,
        place.identify or (by_content if settings.seal == "content" else by_stat),
        TrialLimits(settings.max_row_bytes, settings.trial_s),
        has_content=place.identify is None,
    )


async def build(settings: Settings) -> Repository:
    """Raises `OSError` when there is to be a cluster and there is no way to it."""
    if not settings.kubernetes:
        return Repository(settings)
    from repository.kubernetes.api import Api

    return Repository(settings, await Api.connect(settings.kubeconfig))
