"""The wiring of the controller: its parts, and the tasks beside its server."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from controller.call_slots import CallSlots
from controller.catalog.entities import Catalog
from controller.catalog.integrity import sha256_digest, stat_digest
from controller.catalog.scanner import Scanner, ScanOptions
from controller.catalog.step_files import StepFileReader
from controller.catalog.watcher import CatalogWatcher
from controller.journal import Journal
from controller.leader_forwarding import LoadForwarder, SingleReplica
from controller.metrics import ControllerMetrics
from controller.placement.placement import Placement
from controller.placement.predictors.discovery import Discovery
from controller.placement.predictors.triton_client import TritonClient
from controller.placement.reconciler import every
from controller.servicer import CatalogServicer, ControllerServicer
from controller.settings import Settings
from controller.store.location import ModelSource, StoreIntegrity, model_source
from controller.traffic.publisher import Publisher
from controller.traffic.watch_hub import WatchHub
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.client.transport import Transport
from triptych.contract.verification.trial_limits import TrialLimits
from triptych.contract.verification.version import ValidationOptions
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.methods import methods_of
from triptych.runtime.tls import upstream_credentials
from triptych.server import probes, server_for
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import tracing

if TYPE_CHECKING:  # imported only in a cluster: its client takes a second and tens of megabytes
    from controller.kubernetes.api import Api
    from controller.kubernetes.cluster import Cluster
    from controller.page.server import PageServer


class Controller:
    """The service, built and not started. `api` is the connection to Kubernetes, None without a cluster."""

    def __init__(self, settings: Settings, api: Api | None = None) -> None:
        self._settings = settings
        self._transport = Transport.of(settings)
        self._tracing = tracing("controller", settings.otlp_endpoint)
        self._stage = StageMetrics("controller", self._tracing)
        metrics = ControllerMetrics(self._stage.registry)
        journal = Journal()
        stages = settings.reservation
        watchers = (settings.max_watchers, settings.max_watchers_per_peer, "watchers follow the catalog")
        self.watch_hub = WatchHub(metrics, CallSlots(*watchers, stages))
        self.publisher = Publisher(self.watch_hub, journal)
        self.placement = Placement(self._connect, settings, metrics, journal, self.publisher.models_changed)
        self.publisher.attach(self.placement)
        self._discovery = Discovery(settings.predictors)
        self._cluster = self._join(api) if api is not None else None
        source = model_source(
            settings.model_repository, settings.mirror, settings.store_options, settings.max_step_file_bytes
        )
        scanner = Scanner(source.folder, settings.served_models, scan_options(settings, source))
        step_files = StepFileReader(source.folder, settings.max_step_file_bytes)
        self.placement.versions.step_files = step_files
        self.placement.versions.integrity = (
            StoreIntegrity(source, scanner.integrity) if source.digest_of else scanner.integrity
        )
        self._catalog_watcher = CatalogWatcher(
            scanner,
            metrics,
            self._catalog_changed,
            undeclared=settings.undeclared,
            documents=self._cluster.documents if self._cluster else None,
            versions_in_traffic=self.publisher.versions,
            refresh=source.refresh,
        )
        self._page = self._page_server(journal) if settings.page_port else None
        self._tasks: list[asyncio.Task[None]] = []
        self._election: asyncio.Task[None] | None = None  # the election
        self._ready = False
        leader = self._cluster.election if self._cluster else SingleReplica()
        upstream_credentials(settings)  # a file that cannot be read stops the start
        credentials = partial(upstream_credentials, settings)
        self._forwarder = LoadForwarder(self.placement, leader, credentials, settings.replica_name, self._transport)
        waiting = CallSlots(settings.max_in_flight, settings.max_loads_per_peer, "calls already wait for loads", stages)
        own = ControllerServicer(
            self.watch_hub, self.placement, self._forwarder, journal, self._tracing, waiting, self._store, step_files
        )
        inference = CatalogServicer(
            settings, self._stage, self.watch_hub, self.placement, self._forwarder, waiting, lambda: self._ready
        )
        self.server = server_for([methods_of(CONTROLLER_SERVICE, own), methods_of(SERVICE, inference)], settings)

    async def start(self) -> None:
        """Read the catalog; predictors may come later. Raises `OSError` if the folder cannot be read."""
        settings, reconciler = self._settings, self.placement.reconciler
        probes.serve(settings, self.server, self._stage)
        try:
            await self._catalog_watcher.start()
        except OSError as error:
            where = "CONTROLLER_MODEL_REPOSITORY and CONTROLLER_SERVED_MODELS name the folders"
            raise OSError(f"cannot read {error.filename}: {error.strerror}; {where}") from error
        await reconciler.discover(self._discovery)
        self._tasks = [
            asyncio.create_task(every(0.0, partial(self._catalog_watcher.next_scan, settings.poll_s))),
            asyncio.create_task(reconciler.run(self._discovery, settings.sync_s)),
        ]
        if self._cluster is not None:
            await self.placement.fleet.refresh()  # the leader writes its observations into the status
            self._election = asyncio.create_task(self._cluster.run())
        if self._page is not None:
            await self._page.open()
        self._ready = True

    async def drain(self) -> None:
        """Give the lease back, and end the streams of the watchers, which never end by themselves."""
        if self._election is not None:
            self._election.cancel()
            await asyncio.gather(self._election, return_exceptions=True)
        self.watch_hub.close()

    async def close(self) -> None:
        if self._page is not None:
            await self._page.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._forwarder.close()
        await self.placement.close()
        if self._cluster is not None:
            await self._cluster.close()
        self._tracing.close()

    def _store(self) -> cp.Store:
        store = self._catalog_watcher.store
        return cp.Store(location=self._settings.model_repository, fault=store.fault, read_s=store.read_s)

    def _page_server(self, journal: Journal) -> PageServer:
        from controller.page.server import PageServer

        parts = (self.watch_hub, self.publisher, self.placement, journal, self._store)
        return PageServer(self._settings, self._transport, *parts)

    def _connect(self, address: str) -> TritonClient:
        settings = self._settings
        return TritonClient(address, settings.triton_metrics_port, settings.triton_key, self._transport)

    def _join(self, api: Api) -> Cluster:
        from controller.kubernetes.cluster import Cluster, ClusterOptions

        settings, reconciler = self._settings, self.placement.reconciler
        reconciler.leads = False
        options = ClusterOptions(
            settings.identity, settings.namespace, settings.release, settings.lease_name, settings.kubeconfig
        )
        cluster = Cluster(
            api,
            options,
            self.publisher.model_state,
            on_started=lambda: reconciler.lead(True),
            on_stopped=lambda: reconciler.lead(False),
        )
        self.publisher.add_listener(cluster.models_changed)
        return cluster

    def _catalog_changed(self, catalog: Catalog) -> None:
        self.publisher.set_catalog(catalog)
        if self._cluster is not None:
            self._cluster.set_catalog(catalog)


def scan_options(settings: Settings, source: ModelSource) -> ScanOptions:
    """The options of the scanner. Large files of a mirror are placeholders; the tag of the object is their digest."""
    validation = ValidationOptions(
        settings.max_file_bytes,
        settings.max_files,
        TrialLimits(settings.max_row_bytes, settings.trial_s),
        has_content=source.digest_of is None,
        max_step_file_bytes=settings.max_step_file_bytes,
    )
    digest_of = source.digest_of or (sha256_digest if settings.change_detection == "content" else stat_digest)
    return ScanOptions(validation, settings.max_document_bytes, digest_of)


async def build(settings: Settings) -> Controller:
    """Build the controller. Raises `OSError` if it is to join a cluster and cannot."""
    if not settings.kubernetes:
        return Controller(settings)
    from controller.kubernetes.api import Api

    return Controller(settings, await Api.connect(settings.kubeconfig))
