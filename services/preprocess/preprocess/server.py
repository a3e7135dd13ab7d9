"""Builds preprocess from its parts."""

from __future__ import annotations

from preprocess.batch_executor import BatchExecutor
from preprocess.catalog import CatalogClient
from preprocess.pipeline import Pipeline
from preprocess.postprocessor import InProcessPostprocess, Postprocess, RemotePostprocess
from preprocess.predictors import Predictors
from preprocess.rest.server import rest_server
from preprocess.routing_servicer import SERVICE as ROUTING_SERVICE
from preprocess.routing_servicer import RoutingServicer
from preprocess.servicer import PreprocessServicer
from preprocess.settings import IN_PROCESS, Settings
from preprocess.transform import Transform
from triptych.client.contract_cache import CONTROLLER_SERVICE, CacheLimits, ContractCache
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.protocol.methods import methods_of
from triptych.runtime.short_work import short_work
from triptych.runtime.thread_pool import ThreadPool
from triptych.server import probes, server_for
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import tracing


class PreprocessStage:
    """The stage, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = _metrics("preprocess", settings)
        transport = Transport.of(settings)
        self._controller = Upstream.of_stage(
            settings, "controller", settings.controller, CONTROLLER_SERVICE, relays=True, transport=transport
        )
        self._catalog = CatalogClient(self._controller)
        self._predictors = Predictors(settings, self._controller, transport)
        self._thread_pool = ThreadPool(settings.worker_threads)
        self._other_metrics: tuple[StageMetrics, ...] = ()  # of stages whose work is done in this process
        self._postprocess: Postprocess
        if settings.postprocess == IN_PROCESS:
            self._other_metrics = (_metrics("postprocess", settings),)
            self._postprocess = InProcessPostprocess(
                settings, self._other_metrics[0], short_work(self._thread_pool, settings)
            )
        else:
            self._postprocess = RemotePostprocess(settings, transport)
        transform = Transform(short_work(self._thread_pool, settings))
        executor = BatchExecutor(self._metrics, transform, self._predictors, self._postprocess, settings.revision)
        pipeline = Pipeline(settings, transform, self._predictors, executor)
        contracts = ContractCache(
            self._controller,
            CacheLimits.of(settings, settings.contract_cache, settings.contract_cache_bytes),
            settings.max_bytes_in_flight,
        )
        servicer = PreprocessServicer(settings, self._metrics, self._catalog, contracts, pipeline)
        routing = methods_of(ROUTING_SERVICE, RoutingServicer(self._catalog, servicer.limits))
        self.server = server_for([methods_of(SERVICE, servicer), routing], settings)
        self._rest = rest_server(settings, servicer) if settings.rest_port else None

    async def start(self) -> None:
        probes.serve(self._settings, self.server, self._metrics, *self._other_metrics)
        await self._catalog.start()
        await self._postprocess.reach()
        if self._rest is not None:
            await self._rest.open()

    async def drain(self) -> None:
        if self._rest is not None:
            self._rest.drain()

    async def close(self) -> None:
        if self._rest is not None:
            await self._rest.close()
        await self._catalog.close()
        await self._postprocess.close()
        await self._predictors.close()
        await self._controller.close()
        self._thread_pool.close()
        for metrics in (self._metrics, *self._other_metrics):
            metrics.tracing.close()


def _metrics(stage: str, settings: Settings) -> StageMetrics:
    return StageMetrics(stage, tracing(stage, settings.otlp_endpoint))


async def build(settings: Settings) -> PreprocessStage:
    return PreprocessStage(settings)
