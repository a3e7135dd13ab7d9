"""Builds postprocess from its parts."""

from __future__ import annotations

from postprocess.servicer import PostprocessServicer
from postprocess.settings import Settings
from triptych.client.contract_cache import CONTROLLER_SERVICE, CacheLimits, ContractCache
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.postprocessing import Postprocessor
from triptych.protocol.methods import methods_of
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.short_work import short_work
from triptych.runtime.thread_pool import ThreadPool
from triptych.server import probes, server_for
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import tracing


class PostprocessStage:
    """The stage, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracing = tracing("postprocess", settings.otlp_endpoint)
        self._metrics = StageMetrics("postprocess", self._tracing)
        self._controller = Upstream.of_stage(
            settings,
            "controller",
            settings.controller,
            SERVICE,
            CONTROLLER_SERVICE,
            relays=True,
            transport=Transport.of(settings),
        )
        self._thread_pool = ThreadPool(settings.worker_threads)
        contracts = ContractCache(
            self._controller,
            CacheLimits.of(settings, settings.contract_cache, settings.contract_cache_bytes),
            settings.max_bytes_in_flight,
            stages=("postprocess",),
        )
        in_flight_bytes = InFlightBytes(settings.max_bytes_in_flight)
        work = short_work(self._thread_pool, settings)
        postprocessor = Postprocessor(self._metrics, work, in_flight_bytes, settings.revision)
        servicer = PostprocessServicer(settings, self._metrics, contracts, postprocessor, self._controller)
        self.server = server_for([methods_of(SERVICE, servicer)], settings)

    async def start(self) -> None:
        probes.serve(self._settings, self.server, self._metrics)
        await self._controller.reach()

    async def close(self) -> None:
        await self._controller.close()
        self._thread_pool.close()
        self._tracing.close()


async def build(settings: Settings) -> PostprocessStage:
    return PostprocessStage(settings)
