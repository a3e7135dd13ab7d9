"""Builds jobs from its parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobs.api import operations, servicer
from jobs.api.follow import Follower
from jobs.batch.document import HomeOptions, TlsFiles
from jobs.dataset_work import DatasetWork
from jobs.expiry import expire
from jobs.ledger import Ledger
from jobs.metrics import JobsMetrics
from jobs.objects import Objects
from jobs.readers.sources import SCHEMES, UPLOAD, SourcePolicy
from jobs.settings import Settings
from jobs.summary import merge
from jobs.upload_files import StoredUploads
from jobs.uploads import Uploads, expire_uploads
from jobs.work import Work
from jobs.worker import PartWorker, WorkerOptions
from triptych.errors import Unavailable
from triptych.protocol.methods import methods_of
from triptych.server import probes, server_for
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import tracing

log = logging.getLogger(__name__)

RELEASE_S = 10.0  # for parts in work to be given back; their leases run out otherwise
COUNT_S = 5.0  # between two counts of the open parts


class JobsService:
    """The service, built and not yet started."""

    def __init__(self, settings: Settings, ledger: Ledger, objects: Objects, work: Work) -> None:
        self._settings, self._ledger, self._objects, self._work = settings, ledger, objects, work
        options = WorkerOptions(lease_s=settings.lease_s, parallel=settings.parallel_parts)
        self._tracing = tracing("jobs", settings.otlp_endpoint)
        self._metrics = StageMetrics("jobs", self._tracing)
        self._own_metrics = JobsMetrics(self._metrics.registry)
        has_workers = settings.parallel_parts > 0
        self._worker = PartWorker(ledger, objects, work, options, self._own_metrics) if has_workers else None
        self._follower = Follower(ledger, objects)
        self.own = servicer.JobsServicer(
            ledger,
            Uploads(objects, settings.max_upload_bytes),
            self._follower,
            work.check,
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
        self._working: asyncio.Task[None] | None = None

    async def start(self) -> None:
        probes.serve(self._settings, self.server, self._metrics)
        self._tasks = [
            asyncio.create_task(_repeat("nothing expired", self._expire, self._settings.expire_s)),
            asyncio.create_task(_repeat("open parts not counted", self._count, COUNT_S)),
        ]
        if self._worker is not None:
            self._working = asyncio.create_task(self._worker.run())

    async def drain(self) -> None:
        """End the streams that follow jobs, and give parts in work back."""
        self._follower.close()
        if self._worker is not None:
            self._worker.stop()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._working is not None:
            await asyncio.wait({self._working}, timeout=RELEASE_S)
            self._working.cancel()
        self._work.close()
        await self._ledger.close()
        self._tracing.close()

    async def _expire(self) -> None:
        await expire(self._ledger, self._objects)
        await expire_uploads(self._objects, self._settings.upload_keep_s)

    async def _count(self) -> None:
        self._own_metrics.open_parts.set(await self._ledger.open_parts())


async def _repeat(failure: str, call: Callable[[], Awaitable[None]], pause_s: float) -> None:
    """Call again and again, whatever fails."""
    while True:
        try:
            await call()
        except Unavailable as error:
            log.warning(failure, extra={"error": str(error)})
        except Exception:
            log.exception(failure)
        await asyncio.sleep(pause_s)


async def build(settings: Settings, work: Work | None = None) -> JobsService:
    """Open ledger and objects. Raises `OSError` with a sentence if one of them cannot be used.

    `work` replaces that on datasets, for tests.
    """
    try:
        objects = Objects(settings.objects)
        ledger = await Ledger.open(settings.ledger, settings.limits, merge=merge)
    except (ValueError, Unavailable) as error:
        raise OSError(f"{error}; {settings.prefix()}LEDGER and {settings.prefix()}OBJECTS name them") from error
    return JobsService(settings, ledger, objects, work or _work(settings, objects))


def _work(settings: Settings, objects: Objects) -> DatasetWork:
    """Datasets of uploads and of the allowed sources, by preprocess."""
    ca, certificate, key = settings.upstream_ca, settings.upstream_cert, settings.upstream_key
    home = HomeOptions(
        address=settings.preprocess,
        tls=TlsFiles(ca=ca, certificate=certificate, key=key) if ca else None,
        timeout_seconds=settings.predict_timeout_s,
        retry_seconds=settings.predict_retry_s,
    )
    prefixes = tuple(prefix for each in settings.sources.split(",") if (prefix := each.strip()))
    policy = SourcePolicy((UPLOAD, *SCHEMES) if prefixes else (UPLOAD,), prefixes)
    return DatasetWork(home, policy, StoredUploads(objects))
