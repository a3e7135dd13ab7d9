"""Builds preprocess from its parts."""

from __future__ import annotations

from preprocess.catalog import Catalog
from preprocess.finish import Finish, InProcessPostprocess
from preprocess.pipeline import Chain
from preprocess.servicer import PreprocessServicer
from preprocess.settings import IN_PROCESS, Settings
from preprocess.transform import Transform
from preprocess.upstream import RemotePostprocess, Upstreams
from triptych.client.contract_store import ContractStore
from triptych.protocol.methods import methods_of
from triptych.runtime.thread_pool import ThreadPool
from triptych.server import probes, server_for
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.metrics import StageMetrics
from triptych.telemetry.tracing import tracing


class Preprocess:
    """The stage, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = _metrics("preprocess", settings)
        self._upstreams = Upstreams(settings)
        self._catalog = Catalog(self._upstreams.controller)
        self._thread_pool = ThreadPool(settings.worker_threads, settings.inline_bytes)
        self._others: tuple[StageMetrics, ...] = ()  # of stages whose work is done in this process
        self._finish: Finish
        if settings.postprocess == IN_PROCESS:
            self._others = (_metrics("postprocess", settings),)
            self._finish = InProcessPostprocess(settings, self._others[0], self._thread_pool)
        else:
            self._finish = RemotePostprocess(settings)
        contracts = ContractStore(self._upstreams.controller, settings.contract_cache)
        chain = Chain(settings, self._metrics, Transform(self._thread_pool), self._upstreams, self._finish)
        servicer = PreprocessServicer(settings, self._metrics, self._catalog, contracts, chain)
        self.server = server_for([methods_of(SERVICE, servicer)], settings)

    async def start(self) -> None:
        probes.serve(self._settings, self.server, self._metrics, *self._others)
        await self._catalog.start()
        await self._finish.reach()

    async def close(self) -> None:
        await self._catalog.close()
        await self._finish.close()
        await self._upstreams.close()
        self._thread_pool.close()
        for metrics in (self._metrics, *self._others):
            metrics.tracing.close()


def _metrics(stage: str, settings: Settings) -> StageMetrics:
    return StageMetrics(stage, tracing(stage, settings.otlp_endpoint))


async def build(settings: Settings) -> Preprocess:
    return Preprocess(settings)
