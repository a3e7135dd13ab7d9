"""Follows the folders: a new version or document is in the catalogue without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from repository.catalogue import Catalogue, assemble
from repository.metrics import RepositoryMetrics
from repository.scan import Scanner

log = logging.getLogger(__name__)


class Source:
    """Makes a catalogue of what the scanner reads, and hands on each one that is new."""

    def __init__(
        self,
        scanner: Scanner,
        metrics: RepositoryMetrics,
        on_change: Callable[[Catalogue], None],
        *,
        serve_undeclared: bool,
    ) -> None:
        self._scanner, self._metrics, self._on_change = scanner, metrics, on_change
        self._serve_undeclared = serve_undeclared
        self._catalogue = Catalogue()
        self._told: set[str] = set()

    async def start(self) -> None:
        """The first look. Raises `OSError` when a folder cannot be read."""
        await self._look(settle=False)
        self._tell(self._catalogue.faults())

    async def look(self) -> None:
        """Another look. A folder that cannot be read (a lost mount) changes nothing."""
        try:
            await self._look(settle=True)
        except OSError as error:
            lost = f"{error.filename}: cannot be read: {error.strerror}"
            self._tell(self._catalogue.faults() | {lost})
        else:
            self._tell(self._catalogue.faults())

    async def _look(self, *, settle: bool) -> None:
        scan = await asyncio.to_thread(self._scanner.look, settle=settle)
        if scan is None:
            return
        self._catalogue = assemble(
            scan.folders, scan.documents, self._catalogue, serve_undeclared=self._serve_undeclared
        )
        self._metrics.models.set(len(self._catalogue.models))
        self._metrics.invalid.set(len(self._catalogue.broken))
        versions = sum(len(model.versions) for model in self._catalogue.models.values())
        log.info("catalogue", extra={"models": len(self._catalogue.models), "versions": versions})
        self._on_change(self._catalogue)

    def _tell(self, faults: set[str]) -> None:
        """Logs every fault once, for as long as it lasts."""
        for fault in sorted(faults - self._told):
            log.warning("fault in the catalogue", extra={"fault": fault})
        self._told = faults
