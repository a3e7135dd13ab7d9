"""Watches the model repository and the documents, and rebuilds the catalog without a restart when they change.

The scanner reads documents of a folder; documents of Kubernetes announce their changes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from controller.catalog.builder import Undeclared
from controller.catalog.entities import Catalog, Reason
from controller.catalog.incremental import IncrementalBuilder
from controller.catalog.scanner import Scan, Scanner
from controller.catalog.served_model import Document, DocumentFault
from controller.catalog.skipped import log_lines, with_skipped, with_store_fault
from controller.metrics import ControllerMetrics
from triptych.telemetry.failure_log import FailureLog

MIN_SETTLE_S = 1.0  # between a requested scan and the next one: new entries settle that long
LISTING_SHARE = 50  # listings take at most one part in so many of the time: 5,000 folders take 0.3 s of a core
YOUNG_S = 10.0  # younger entries are published at the start, and their digests recorded once they settle
DEBOUNCE_S = 0.05  # `kubectl apply` of a folder sends documents one by one: one rebuild for all

log = logging.getLogger(__name__)


class Documents(Protocol):
    """ServedModel documents that are not in a folder."""

    async def start(self, on_change: Callable[[], None]) -> None:
        """Read them once; call `on_change` after every later change."""
        ...

    def now(self) -> Sequence[Document | DocumentFault]:
        """The documents as they were last read; an unchanged one is the same object."""
        ...


@dataclass(frozen=True)
class StoreHealth:
    """The source of the models as it was last read: the fault, '' without one, and the time of the last success.

    `read_s` is Unix time, 0 before the first success.
    """

    fault: str = ""
    read_s: float = 0.0


class CatalogWatcher:
    """Builds a catalog after each change, and passes it to `on_change`."""

    def __init__(
        self,
        scanner: Scanner,
        metrics: ControllerMetrics,
        on_change: Callable[[Catalog], None],
        *,
        undeclared: Undeclared,
        documents: Documents | None = None,
        versions_in_traffic: Callable[[str], Collection[int]] = lambda model: (),
        refresh: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`refresh` updates the folder of the models before each scan.

        It returns faults by the path that is skipped; '' is the whole store.
        """
        self._scanner, self._metrics, self._on_change = scanner, metrics, on_change
        self._documents = documents
        self._builder = IncrementalBuilder(undeclared=undeclared, versions_in_traffic=versions_in_traffic)
        self._scan = Scan((), ())
        self._catalog = Catalog()
        self._hints: frozenset[str] = frozenset()
        self._failures = FailureLog(log)  # by the sentence of the fault
        self._building = asyncio.Lock()
        self._debounce: asyncio.Task[None] | None = None
        self._refresh = refresh
        self._refresh_s = 0.0
        self.store = StoreHealth()
        self._skipped: Mapping[str, str] = {}
        self._unknown: set[str] = set()
        self._scan_due = asyncio.Event()
        self._rescans_soon = False
        self._is_built = False  # whether the catalog is that of the last scan and documents

    async def start(self) -> None:
        """Do the first scan. Raises `OSError` if a folder cannot be read."""
        scan = await asyncio.to_thread(self._read, settle=False)
        self._scan = scan or self._scan
        if self._documents is not None:
            await self._documents.start(self._documents_changed)
        await self._rebuild()

    async def scan(self) -> None:
        """Do another scan. A folder that cannot be read (a lost mount) changes nothing."""
        skipped, fault, scan = self._skipped, self.store.fault, None
        try:
            scan = await asyncio.to_thread(self._read)
        except OSError as error:
            self._set_store(f"{error.filename}: cannot be read: {error.strerror}")
        if scan is None and self._skipped == skipped and self._is_built:
            if self.store.fault != fault and self._unknown:
                self._on_change(with_store_fault(self._catalog, self.store.fault))
            self._log_faults(self._faults())
            return
        self._scan = scan or self._scan
        await self._rebuild()

    async def next_scan(self, poll_s: float) -> None:
        """Scan when it is due: after `poll_s`, or at once and soon again if a document names an unknown version."""
        poll_s = max(poll_s, (self._scanner.listing_s + self._refresh_s) * LISTING_SHARE)
        if self._scanner.more:
            poll_s = 0.0
        with suppress(TimeoutError):
            async with asyncio.timeout(min(poll_s, MIN_SETTLE_S) if self._rescans_soon else poll_s):
                await self._scan_due.wait()
        self._rescans_soon = self._scan_due.is_set()
        self._scan_due.clear()
        await self.scan()

    def _read(self, *, settle: bool = True) -> Scan | None:
        start = time.thread_time()
        wrong = dict(self._refresh())
        self._refresh_s = time.thread_time() - start  # CPU time: the wait for a store does not count
        fault, self._skipped = wrong.pop("", ""), wrong
        scan = self._scanner.scan(settle=settle, young_s=0.0 if settle else YOUNG_S)
        self._set_store(fault)
        return scan

    def _set_store(self, fault: str) -> None:
        self.store = StoreHealth(fault, self.store.read_s if fault else time.time())
        self._metrics.store_up.set(not fault)
        self._metrics.store_read.set(self.store.read_s)

    def _documents_changed(self) -> None:
        if self._debounce is None:
            self._debounce = asyncio.create_task(self._rebuild_later())

    async def _rebuild_later(self) -> None:
        """One rebuild waits at most: with one for each change, the rebuild of a scan would wait behind them."""
        await asyncio.sleep(DEBOUNCE_S)
        try:
            await self._rebuild()
        except Exception:
            log.exception("internal error")

    async def _rebuild(self) -> None:
        """Rebuild on a thread: with 100,000 models one change takes 0.2 s of CPU, which would delay requests."""
        async with self._building:
            if self._debounce is asyncio.current_task():
                self._debounce = None  # the next change is not in this rebuild
            self._is_built = False
            documents = self._documents.now() if self._documents is not None else self._scan.documents
            folders = with_skipped(self._scan.folders, self._skipped)
            self._catalog = await asyncio.to_thread(self._builder.apply, folders, documents)
            self._publish()
            self._is_built = True

    def _publish(self) -> None:
        self._metrics.models.set(len(self._catalog.models))
        self._metrics.invalid.set(len(self._catalog.invalid))
        models = self._catalog.models.values()
        self._metrics.changed.set(sum(bool(each.fault) for model in models for each in model.versions.values()))
        self._metrics.objects_skipped.set(len(self._skipped))
        versions = sum(len(model.versions) for model in self._catalog.models.values())
        log.info("catalog built", extra={"models": len(self._catalog.models), "versions": versions})
        self._log_faults(self._faults())
        self._log_hints(frozenset(self._catalog.hints.values()))
        self._request_scan(self._catalog)
        self._on_change(with_store_fault(self._catalog, self.store.fault))

    def _request_scan(self, catalog: Catalog) -> None:
        """Request a scan for models and versions that documents name and no scan has found."""
        problems = (problem for result in catalog.document_results.values() for problem in result.problems)
        unknown = {text for reason, text in problems if reason in (Reason.UNKNOWN_MODEL, Reason.UNKNOWN_VERSION)}
        if unknown - self._unknown:
            self._scan_due.set()
        self._unknown = unknown

    def _faults(self) -> set[str]:
        return (
            self._catalog.faults()
            | log_lines(self._skipped.values())
            | ({self.store.fault} if self.store.fault else set())
        )

    def _log_hints(self, hints: frozenset[str]) -> None:
        """Log each hint once while it lasts."""
        for hint in sorted(hints - self._hints):
            log.info("version without traffic", extra={"hint": hint})
        self._hints = hints

    def _log_faults(self, faults: set[str]) -> None:
        """Log each fault once while it lasts."""
        self._failures.prune(faults)
        for fault in sorted(faults):
            self._failures.failed(fault, "catalog fault", fault=fault)
        self._metrics.faults.set(len(faults))
