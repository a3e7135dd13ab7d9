"""Builds postprocess from its parts."""

from __future__ import annotations

from postprocess.servicer import PostprocessServicer
from postprocess.settings import Settings
from triptych.client import Upstream
from triptych.contracts import REPOSITORY_SERVICE, ContractStore
from triptych.door import door_for
from triptych.methods import methods_of
from triptych.metrics import StageMetrics
from triptych.oip import SERVICE
from triptych.postprocessing import Postprocessor
from triptych.room import Room
from triptych.tracing import tracing
from triptych.workers import Workers


class Postprocess:
    """The stage, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracing = tracing("postprocess", settings.otlp_endpoint)
        self._metrics = StageMetrics("postprocess", self._tracing)
        self._repository = Upstream.of_stage(
            settings, "repository", settings.repository, SERVICE, REPOSITORY_SERVICE, relays=True
        )
        self._workers = Workers(settings.worker_threads, settings.inline_bytes)
        contracts = ContractStore(self._repository, settings.contract_cache)
        room = Room(settings.max_bytes_in_flight)
        postprocessor = Postprocessor(self._metrics, self._workers, room, settings.revision)
        servicer = PostprocessServicer(settings, self._metrics, contracts, postprocessor, self._repository)
        self.door = door_for([methods_of(SERVICE, servicer)], settings)

    async def start(self) -> None:
        self._metrics.serve(self._settings, self.door)
        await self._repository.reach()

    async def close(self) -> None:
        await self._repository.close()
        self._workers.close()
        self._tracing.close()


async def build(settings: Settings) -> Postprocess:
    return Postprocess(settings)
