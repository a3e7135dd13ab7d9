"""Builds preprocess from its parts."""

from __future__ import annotations

from preprocess.catalogue import Catalogue
from preprocess.chain import Chain
from preprocess.finish import Finish, InProcessPostprocess
from preprocess.servicer import PreprocessServicer
from preprocess.settings import IN_PROCESS, Settings
from preprocess.transform import Transform
from preprocess.upstream import RemotePostprocess, Upstreams
from triptych.contracts import ContractStore
from triptych.door import door_for
from triptych.methods import methods_of
from triptych.metrics import StageMetrics
from triptych.oip import SERVICE
from triptych.tracing import tracing
from triptych.workers import Workers


class Preprocess:
    """The stage, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = _metrics("preprocess", settings)
        self._upstreams = Upstreams(settings)
        self._catalogue = Catalogue(self._upstreams.repository)
        self._workers = Workers(settings.worker_threads, settings.inline_bytes)
        self._others: tuple[StageMetrics, ...] = ()  # of stages whose work is done in this process
        self._finish: Finish
        if settings.postprocess == IN_PROCESS:
            self._others = (_metrics("postprocess", settings),)
            self._finish = InProcessPostprocess(settings, self._others[0], self._workers)
        else:
            self._finish = RemotePostprocess(settings)
        contracts = ContractStore(self._upstreams.repository, settings.contract_cache)
        chain = Chain(settings, self._metrics, Transform(self._workers), self._upstreams, self._finish)
        servicer = PreprocessServicer(settings, self._metrics, self._catalogue, contracts, chain)
        self.door = door_for([methods_of(SERVICE, servicer)], settings)

    async def start(self) -> None:
        self._metrics.serve(self._settings, self.door, *self._others)
        await self._catalogue.start()
        await self._finish.reach()

    async def close(self) -> None:
        await self._catalogue.close()
        await self._finish.close()
        await self._upstreams.close()
        self._workers.close()
        for metrics in (self._metrics, *self._others):
            metrics.tracing.close()


def _metrics(stage: str, settings: Settings) -> StageMetrics:
    return StageMetrics(stage, tracing(stage, settings.otlp_endpoint))


async def build(settings: Settings) -> Preprocess:
    return Preprocess(settings)
