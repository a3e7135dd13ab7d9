"""Follows the model repository and the documents: what is new is in the catalog without a restart.

The documents lie in a folder, which the scanner reads, or come from somewhere else that says when they change.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Protocol

from controller.catalog.builder import Catalog, Reason, assemble
from controller.catalog.left_out import with_left_out
from controller.catalog.scanner import Scan, Scanner
from controller.catalog.served_model import Document, Fault
from controller.catalog.store.location import named
from controller.metrics import ControllerMetrics

REST_S = 1.0  # between a look that was asked for and the next: what is new has to rest that long
REST_SHARE = 50  # a listing may take one part in so many of the time: 5,000 folders take 0.3 s of a core
YOUNG_S = 10.0  # what was written so lately is published at the start, and sealed once it rests
SETTLE_S = 0.05  # documents that change together are one change: `kubectl apply` of a folder sends them one by one

log = logging.getLogger(__name__)


class Documents(Protocol):
    """ServedModel documents that do not lie in a folder."""

    async def start(self, on_change: Callable[[], None]) -> None:
        """Returns when they have been read once; from then on tells every change."""
        ...

    def now(self) -> Collection[Document | Fault]:
        """As they were last read."""
        ...


class Source:
    """Makes a catalog of what is read, and hands on each one that is new."""

    def __init__(
        self,
        scanner: Scanner,
        metrics: ControllerMetrics,
        on_change: Callable[[Catalog], None],
        *,
        serve_undeclared: bool,
        documents: Documents | None = None,
        serving: Callable[[str], Collection[int]] = lambda model: (),
        before_look: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`before_look` brings the models' folder up to date.

        It says what is wrong, by the path in the folder that is left out, '' for the whole of it.
        """
        self._scanner, self._metrics, self._on_change = scanner, metrics, on_change
        self._serve_undeclared, self._documents = serve_undeclared, documents
        self._serving = serving
        self._scan = Scan((), ())
        self._catalog = Catalog()
        self._told: set[str] = set()
        self._assembling = asyncio.Lock()
        self._settling: asyncio.Task[None] | None = None
        self._before_look = before_look
        self._refresh_s = 0.0
        self._lost = ""
        self._left_out: Mapping[str, str] = {}
        self._unknown: set[str] = set()
        self._due = asyncio.Event()
        self._rests = False

    async def start(self) -> None:
        """The first look. Raises `OSError` when a folder cannot be read."""
        scan = await asyncio.to_thread(self._read, settle=False)
        self._scan = scan or self._scan
        if self._documents is not None:
            await self._documents.start(self._documents_changed)
        await self._assemble()

    async def look(self) -> None:
        """Another look. A folder that cannot be read (a lost mount) changes nothing."""
        before = self._left_out
        try:
            scan = await asyncio.to_thread(self._read)
        except OSError as error:
            lost = f"{error.filename}: cannot be read: {error.strerror}"
            self._tell(self._catalog.faults() | {lost})
            return
        if scan is None and self._left_out == before:
            self._tell(self._faults())
            return
        self._scan = scan or self._scan
        await self._assemble()

    async def next_look(self, poll_s: float) -> None:
        """Looks when it is time for it: at once when a document asks for something unknown, and again soon after."""
        poll_s = max(poll_s, (self._scanner.listing_s + self._refresh_s) * REST_SHARE)
        if self._scanner.more:
            poll_s = 0.0
        with suppress(TimeoutError):
            async with asyncio.timeout(min(poll_s, REST_S) if self._rests else poll_s):
                await self._due.wait()
        self._rests = self._due.is_set()
        self._due.clear()
        await self.look()

    def _read(self, *, settle: bool = True) -> Scan | None:
        start = time.thread_time()
        wrong = dict(self._before_look())
        self._refresh_s = time.thread_time() - start  # of a core: a store may take its time to answer
        self._lost, self._left_out = wrong.pop("", ""), wrong
        return self._scanner.look(settle=settle, young_s=0.0 if settle else YOUNG_S)

    def _documents_changed(self) -> None:
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        await asyncio.sleep(SETTLE_S)
        self._settling = None
        try:
            await self._assemble()
        except Exception:
            log.exception("internal error")

    async def _assemble(self) -> None:
        """On a thread: thousands of models take long enough to be felt by a request."""
        async with self._assembling:
            documents = self._documents.now() if self._documents is not None else self._scan.documents
            folders = with_left_out(self._scan.folders, self._left_out)
            arguments = (folders, documents, self._catalog)
            self._catalog = await asyncio.to_thread(
                assemble, *arguments, serve_undeclared=self._serve_undeclared, serving=self._serving
            )
            self._publish()

    def _publish(self) -> None:
        self._metrics.models.set(len(self._catalog.models))
        self._metrics.invalid.set(len(self._catalog.broken))
        models = self._catalog.models.values()
        self._metrics.changed.set(sum(bool(each.fault) for model in models for each in model.versions.values()))
        self._metrics.objects_left_out.set(len(self._left_out))
        versions = sum(len(model.versions) for model in self._catalog.models.values())
        log.info("catalog", extra={"models": len(self._catalog.models), "versions": versions})
        self._tell(self._faults())
        self._ask(self._catalog)
        self._on_change(self._catalog)

    def _ask(self, catalog: Catalog) -> None:
        """Has another look made for what a document asks for and nobody has seen yet."""
        problems = (problem for verdict in catalog.verdicts.values() for problem in verdict.problems)
        unknown = {text for reason, text in problems if reason in (Reason.UNKNOWN_MODEL, Reason.UNKNOWN_VERSION)}
        if unknown - self._unknown:
            self._due.set()
        self._unknown = unknown

    def _faults(self) -> set[str]:
        return self._catalog.faults() | named(self._left_out.values()) | ({self._lost} if self._lost else set())

    def _tell(self, faults: set[str]) -> None:
        """Logs every fault once, for as long as it lasts."""
        for fault in sorted(faults - self._told):
            log.warning("fault in the catalog", extra={"fault": fault})
        self._told = faults
        self._metrics.faults.set(len(faults))
