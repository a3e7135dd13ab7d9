"""Builds jobs from its parts."""

from __future__ import annotations

import asyncio
import logging

from jobs.api import operations, servicer
from jobs.api.follow import Follower
from jobs.expiry import expire
from jobs.ledger import Ledger
from jobs.metrics import JobsMetrics
from jobs.objects import Objects
from jobs.settings import Settings
from jobs.uploads import Uploads, expire_uploads
from triptych.errors import Unavailable
from triptych.protocol.methods import methods_of
from triptych.server import probes, server_for
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import tracing

log = logging.getLogger(__name__)

COUNT_S = 5.0  # between two counts of the open parts


class JobsService:
    """The service, built and not yet started."""

    def __init__(self, settings: Settings, ledger: Ledger, objects: Objects) -> None:
        self._settings, self._ledger, self._objects = settings, ledger, objects
        self._tracing = tracing("jobs", settings.otlp_endpoint)
        self._metrics = StageMetrics("jobs", self._tracing)
        self._own_metrics = JobsMetrics(self._metrics.registry)
        self._follower = Follower(ledger, objects)
        self.own = servicer.JobsServicer(
            ledger,
            Uploads(objects, settings.max_upload_bytes),
            self._follower,
            keep_s=settings.keep_s,
            max_uploads=settings.max_uploads,
            max_followers=settings.max_followers,
        )
        services = [
            methods_of(servicer.SERVICE, self.own),
            methods_of(operations.SERVICE, operations.OperationsServicer(ledger)),
        ]
        self.server = server_for(services, settings)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        probes.serve(self._settings, self.server, self._metrics)
        self._tasks = [asyncio.create_task(self._expire()), asyncio.create_task(self._count())]

    async def drain(self) -> None:
        """End the streams that follow jobs."""
        self._follower.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ledger.close()
        self._tracing.close()

    async def _expire(self) -> None:
        while True:
            try:
                await expire(self._ledger, self._objects)
                await expire_uploads(self._objects, self._settings.upload_keep_s)
            except Unavailable as error:
                log.warning("nothing expired", extra={"error": str(error)})
            await asyncio.sleep(self._settings.expire_s)

    async def _count(self) -> None:
        while True:
            try:
                self._own_metrics.open_parts.set(await self._ledger.open_parts())
            except Unavailable as error:
                log.warning("open parts not counted", extra={"error": str(error)})
            await asyncio.sleep(COUNT_S)


async def build(settings: Settings) -> JobsService:
    """Open ledger and objects. Raises `OSError` with a sentence if one of them cannot be used."""
    try:
        objects = Objects(settings.objects)
        ledger = await Ledger.open(settings.ledger, settings.limits)
    except (ValueError, Unavailable) as error:
        raise OSError(f"{error}; {settings.prefix()}LEDGER and {settings.prefix()}OBJECTS name them") from error
    return JobsService(settings, ledger, objects)
