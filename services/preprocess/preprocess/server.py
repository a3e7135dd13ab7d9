"""Builds preprocess from its parts."""

from __future__ import annotations

from preprocess.catalogue import Catalogue
from preprocess.chain import Chain
from preprocess.servicer import PreprocessServicer
from preprocess.settings import Settings
from preprocess.transform import Transform
from preprocess.upstream import Upstreams
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
        self._tracing = tracing("preprocess", settings.otlp_endpoint)
        self._metrics = StageMetrics("preprocess", self._tracing)
        self._upstreams = Upstreams(settings)
        self._catalogue = Catalogue(self._upstreams.repository)
        self._workers = Workers(settings.worker_threads, settings.inline_bytes)
        contracts = ContractStore(self._upstreams.repository, settings.contract_cache)
        chain = Chain(settings, self._metrics, Transform(self._workers), self._upstreams)
        servicer = PreprocessServicer(settings, self._metrics, self._catalogue, contracts, chain)
        self.door = door_for([methods_of(SERVICE, servicer)], settings)

    async def start(self) -> None:
        self._metrics.serve(self._settings, self.door)
        await self._catalogue.start()
        await self._upstreams.postprocess.reach()

    async def close(self) -> None:
        await self._catalogue.close()
        await self._upstreams.close()
        self._workers.close()
        self._tracing.close()


async def build(settings: Settings) -> Preprocess:
    return Preprocess(settings)
