"""Placement over fake Tritons, with a clock that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.scanner import Scanner
from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.placement import Placement
from controller.placement.planner import Evict
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.predictor import Predictor
from controller.placement.settings import PlacementSettings
from tests.fakes.triton import FakeTriton
from triptych.protocol.call import Call


class PlacementHarness:
    """Placement over fake Tritons that are all known from the start."""

    def __init__(self, catalog: Catalog, *tritons: FakeTriton, **limits: Any) -> None:
        self.now = 0.0
        self.tritons = {triton.address: triton for triton in tritons}
        self.journal = Journal()
        self.metrics = ControllerMetrics(CollectorRegistry())
        settings = PlacementSettings(**{"withdraw_s": 0, "headroom_max_percent": 0, "warm_up": False} | limits)
        self.placement = Placement(
            self.tritons.__getitem__, settings, self.metrics, self.journal, self._changed, lambda: self.now
        )
        self.placement.fleet.set_addresses(self.tritons)
        for predictor in self.placement.fleet:
            predictor.headroom.unload_s.value = 0.0  # so that nobody waits for what a fake does at once
        self.changed: list[set[str]] = []
        self.placement.set_catalog(catalog)

    @property
    def placed(self) -> dict[str, dict[int, tuple[str, ...]]]:
        """Addresses of the ready versions, by model and version."""
        names = {name for predictor in self.placement.fleet for name, _ in predictor.ready}
        return {name: self.placement.fleet.ready_addresses(name) for name in sorted(names)}

    async def ensure(self, model: str = "sales_de", version: int = 1, within_s: float = 60.0) -> tuple[str, ...]:
        return await self.placement.ensure_loaded(model, version, Call.within(within_s))

    def call(self, within_s: float = 60.0) -> Call:
        return Call.within(within_s)

    def ask(self, model: str = "sales_de", version: int = 1) -> asyncio.Task[tuple[str, ...]]:
        return asyncio.create_task(self.ensure(model, version))

    async def look(self) -> None:
        """One observation of each predictor, a periodic turn, and time for what follows."""
        await asyncio.gather(*(self.placement.reconciler.observe(predictor) for predictor in self.placement.fleet))
        self.placement.reconciler.reconcile()
        await turn()

    async def settle(self) -> None:
        """Wait until no load and no unload runs."""
        await turn()
        while any(predictor.unsettled for predictor in self.placement.fleet):
            await asyncio.sleep(0.01)

    def unload(self, model: str, version: int, reason: str) -> asyncio.Task[None]:
        """The running unload on the first predictor."""
        eviction = Evict((model, version), self.predictor().address, reason)
        self.placement.reconciler.execute([eviction])
        return self.placement.state.in_progress.unloads[eviction.key, eviction.address]

    def eviction_reason(self, model: str, version: int, now_s: float) -> str:
        """Reason to evict the version from the first predictor at a time in the future."""
        state, key, before = self.placement.state, (model, version), self.now
        self.now = now_s
        reason = state.eviction_reason(key, self.predictor(), replicas=state.replicas(key))
        self.now = before
        return reason

    def predictor(self, address: str = "triton:8001") -> Predictor:
        return next(predictor for predictor in self.placement.fleet if predictor.address == address)

    def decisions(self, action: str) -> list[tuple[str, str]]:
        """Model and reason of each decision of that kind."""
        return [(each.model, each.reason) for each in self.journal.latest if each.action == action]

    def _changed(self, models: set[str]) -> None:
        self.changed.append(models)


def read(models: Path, documents: Path | None = None, previous: Catalog | None = None) -> Catalog:
    scan = Scanner(models, documents).scan(settle=False)
    assert scan is not None
    return build_catalog(scan.folders, scan.documents, previous or Catalog(), undeclared="lowest")


async def turn() -> None:
    """Run all tasks that do not wait for an event."""
    for _ in range(50):
        await asyncio.sleep(0)


def models_of(keys: Collection[VersionKey]) -> list[str]:
    return [name for name, _ in keys]
