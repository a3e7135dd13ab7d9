"""The wiring: what the controller is made of, and what runs beside its server."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from controller.call_slots import Places
from controller.catalog.builder import Catalog
from controller.catalog.scanner import Reading, Scanner
from controller.catalog.sealer import by_content, by_stat
from controller.catalog.store.location import Models, StoreSeals, models_in
from controller.catalog.watcher import Source
from controller.journal import Journal
from controller.leader_forwarding import Alone, Loads
from controller.metrics import ControllerMetrics
from controller.placement.discovery import Discovery
from controller.placement.placement import Residency
from controller.placement.reconciler import every
from controller.placement.triton_client import Triton
from controller.servicer import CatalogServicer, ControllerServicer
from controller.settings import Settings
from controller.traffic.publisher import Serving
from controller.traffic.watch_hub import Board
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.contract.verification.trial_limits import TrialLimits
from triptych.protocol.methods import methods_of
from triptych.runtime.tls import upstream_credentials
from triptych.server import probes, server_for
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.stage_metrics import StageMetrics
from triptych.telemetry.tracing import tracing

if TYPE_CHECKING:  # imported only where there is a cluster: its client takes a second and tens of megabytes
    from controller.kubernetes.api import Api
    from controller.kubernetes.cluster import Cluster


class Controller:
    """The service, built and not yet started. `api` is the way to Kubernetes, None without a cluster."""

    def __init__(self, settings: Settings, api: Api | None = None) -> None:
        self._settings = settings
        self._tracing = tracing("controller", settings.otlp_endpoint)
        self._stage = StageMetrics("controller", self._tracing)
        metrics = ControllerMetrics(self._stage.registry)
        journal = Journal()
        stages = settings.reservation
        watchers = (settings.max_watchers, settings.max_watchers_per_peer, "watchers follow the catalog")
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
            self._catalog_changed,
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
        own = ControllerServicer(self.board, self.residency, self._loads, journal, self._tracing, waiting)
        inference = CatalogServicer(
            settings, self._stage, self.board, self.residency, self._loads, waiting, lambda: self._ready
        )
        self.server = server_for([methods_of(CONTROLLER_SERVICE, own), methods_of(SERVICE, inference)], settings)

    async def start(self) -> None:
        """Reads the catalog; Triton may come later. Raises `OSError` when the folder cannot be read."""
        settings, upkeep = self._settings, self.residency.upkeep
        probes.serve(settings, self.server, self._stage)
        try:
            await self._source.start()
        except OSError as error:
            where = "CONTROLLER_MODEL_REPOSITORY and CONTROLLER_SERVED_MODELS name the folders"
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
        from controller.kubernetes.cluster import Cluster, Place

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

    def _catalog_changed(self, catalog: Catalog) -> None:
        self.serving.set_catalog(catalog)
        if self._cluster is not None:
            self._cluster.set_catalog(catalog)


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


async def build(settings: Settings) -> Controller:
    """Raises `OSError` when there is to be a cluster and there is no way to it."""
    if not settings.kubernetes:
        return Controller(settings)
    from controller.kubernetes.api import Api

    return Controller(settings, await Api.connect(settings.kubeconfig))
