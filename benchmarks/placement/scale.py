"""The controller's own decisions at 100,000 models on 500 predictors, in one process and without a network.

Catalog, traffic gate, publisher, watch hub and placement are the controller's own. Predictors answer at once, and each
watcher serializes what it receives. So the figures are the CPU time of decisions; transport and Triton come on top.
`python -m benchmarks control-plane` measures the whole process over the real protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from tritonclient.grpc import model_config_pb2 as mc

from benchmarks.model_folders import publish
from benchmarks.processes import uss_mib
from benchmarks.report import Report
from controller.call_slots import CallSlots
from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog, ScannedModel
from controller.catalog.incremental import IncrementalBuilder
from controller.catalog.scanner import Scanner
from controller.catalog.served_model import GROUP, KIND, VERSION, Document, DocumentSource, ServedModel
from controller.journal import Journal
from controller.metrics import ControllerMetrics
from controller.placement.placement import Placement
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.gpu_memory import GpuMemory
from controller.placement.predictors.triton_client import Count, Index
from controller.placement.reconciler import QUIET_OBSERVATIONS_PER_S
from controller.placement.settings import PlacementSettings
from controller.traffic.publisher import Publisher
from controller.traffic.watch_hub import WatchHub
from local.errors import LocalError
from triptych.datatypes import Array
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call

HELP = "CPU time of the controller's decisions with 100,000 models on 500 predictors, simulated in one process"
TITLE = "Placement at scale"

CALL_S = 60.0
PAUSE_S = 0.01  # between two cold requests


class InstantPredictor:
    """Loads and unloads at once; every loaded version has answered one request."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.loaded: set[VersionKey] = set()

    async def index(self, *, whole: bool) -> Index:
        return Index(frozenset(self.loaded))

    async def counts(self) -> Mapping[VersionKey, Count]:
        return {key: Count(1) for key in self.loaded}

    async def gpu_memory(self) -> GpuMemory | None:
        return None

    async def is_ready(self, model: str, version: int) -> bool:
        return (model, version) in self.loaded

    async def reason(self, model: str, version: int) -> str:
        return ""

    async def load(self, model: str, config: mc.ModelConfig, versions: Iterable[int], timeout_s: float) -> None:
        await self.unload(model)
        self.loaded |= {(model, version) for version in versions}

    async def unload(self, model: str) -> None:
        self.loaded = {key for key in self.loaded if key[0] != model}

    async def infer(self, model: str, version: int, tensors: Mapping[str, Array], timeout_s: float) -> dict[str, Array]:
        raise NotImplementedError

    async def close(self) -> None: ...


@dataclass
class Watcher:
    """A stage that follows the catalog: the models of its updates, and the time of the last one."""

    messages: int = 0
    last: dict[str, float] = field(default_factory=dict)

    async def follow(self, watch_hub: WatchHub) -> None:
        async for data in watch_hub.updates(Call.within(1e9)):
            update = cp.CatalogUpdate.FromString(data)
            self.messages += 1
            if not update.full:
                now = time.perf_counter()
                self.last.update((model.name, now) for model in update.models)


class ControlPlane:
    """The controller without its server, its folders and its cluster."""

    def __init__(self, predictors: int, slots: int, watchers: int) -> None:
        self.predictors = {
            address: InstantPredictor(address)
            for address in (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:8001" for n in range(predictors))
        }
        metrics, journal = ControllerMetrics(CollectorRegistry()), Journal()
        settings = PlacementSettings(max_models=slots, warm_up=False, withdraw_s=0.0, busy_s=0.0, idle_ttl_s=0.0)
        self.watch_hub = WatchHub(metrics, CallSlots(watchers + 1, watchers + 1, "watchers follow the catalog"))
        self.publisher = Publisher(self.watch_hub, journal)
        connect = self.predictors.__getitem__
        self.placement = Placement(connect, settings, metrics, journal, self.publisher.models_changed)
        self.publisher.attach(self.placement)
        self.watchers = [Watcher() for _ in range(watchers)]

    def add_predictors(self) -> None:
        self.placement.fleet.set_addresses(self.predictors)
        for predictor in self.placement.fleet:
            predictor.headroom.unload_s.value = 0.0

    async def observe(self, predictors: int) -> None:
        """Observe some of the predictors once, then reconcile."""
        observed = list(self.placement.fleet)
        for predictor in random.sample(observed, min(predictors, len(observed))):
            await self.placement.reconciler.observe(predictor)
        self.placement.reconciler.reconcile()
        await asyncio.sleep(0)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--predictors", type=int, default=500)
    parser.add_argument("--slots", type=int, default=50, help="versions in each predictor at most")
    parser.add_argument("--watchers", type=int, default=200, help="stages that follow the catalog")
    parser.add_argument("--loads", type=int, default=500, help="cold requests, each with a load and an eviction")
    parser.add_argument("--changes", type=int, default=5, help="changes of one ServedModel")


def main(given: argparse.Namespace, report: Report) -> None:
    """Build the catalog, fill the predictors, then measure decisions, changes and quiet seconds."""
    if (needed := given.predictors * given.slots + given.loads) > given.models:
        raise LocalError(f"want {needed} models to fill the predictors and to load, got {given.models}")
    logging.disable(logging.INFO)
    figures = asyncio.run(_measure(given))
    _report(given, figures, report)


async def _measure(given: argparse.Namespace) -> dict[str, Any]:
    folders = _folders(given.models)
    names = [folder.name for folder in folders]
    random.Random(1).shuffle(names)
    plane = ControlPlane(given.predictors, given.slots, given.watchers)
    figures: dict[str, Any] = {}
    start = time.process_time()
    catalog = build_catalog(folders, (), Catalog(), undeclared="lowest")
    figures["build_s"] = time.process_time() - start
    plane.publisher.set_catalog(catalog)
    loaded = iter(names)
    for predictor in plane.predictors.values():
        predictor.loaded = {(next(loaded), 1) for _ in range(given.slots - 3)}
    plane.add_predictors()
    await plane.observe(given.predictors)
    following = [asyncio.create_task(watcher.follow(plane.watch_hub)) for watcher in plane.watchers]
    await asyncio.sleep(0.5)
    figures["quiet_cores"] = await _quiet(plane)
    figures["decisions"] = await _decisions(plane, [next(loaded) for _ in range(given.loads)])
    figures["changes_ms"] = [await _change(plane, catalog, names[number]) for number in range(given.changes)]
    figures["memory_mib"] = uss_mib(os.getpid())
    figures["messages"] = float(np.mean([watcher.messages for watcher in plane.watchers] or [0]))
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    await plane.placement.close()
    figures["rebuilds_s"] = _rebuilds(folders, given.changes)
    return figures


def _folders(count: int) -> list[ScannedModel]:
    """One scanned folder, `count` times, each with its own name and route."""
    with tempfile.TemporaryDirectory(prefix="triptych-scale-") as path:
        publish(Path(path) / "models", 1)
        scan = Scanner(Path(path) / "models", None).scan(settle=False)
    assert scan is not None
    original = scan.folders[0]
    version = original.versions[1]
    return [
        replace(
            original,
            name=f"{original.name}_{number}",
            versions={1: replace(version, identity=version.identity._replace(route=f"R{number}"))},
        )
        for number in range(count)
    ]


async def _quiet(plane: ControlPlane) -> float:
    """Cores that a second costs in which nothing changes."""
    start, seconds = time.process_time(), 3
    for _ in range(seconds):
        await plane.observe(QUIET_OBSERVATIONS_PER_S)
    return (time.process_time() - start) / seconds


async def _decisions(plane: ControlPlane, names: list[str]) -> dict[str, float]:
    """CPU milliseconds until a cold request is answered, and with the eviction and the publication that follow."""
    answered, complete = [], []
    for name in names:
        start = time.process_time()
        await plane.placement.ensure_loaded(name, 1, Call.within(CALL_S))
        answered.append(1000 * (time.process_time() - start))
        await asyncio.sleep(PAUSE_S)
        complete.append(1000 * (time.process_time() - start))
    return {
        f"{kind}_p{percent}": float(np.percentile(values, percent))
        for kind, values in (("answered", answered), ("complete", complete))
        for percent in (50, 99)
    }


async def _change(plane: ControlPlane, catalog: Catalog, name: str) -> float:
    """Milliseconds from a catalog with one changed model until every watcher has it."""
    for watcher in plane.watchers:
        watcher.last.pop(name, None)
    changed = replace(catalog.models[name], route=f"changed-{time.perf_counter_ns()}")
    start = time.perf_counter()
    plane.publisher.set_catalog(replace(catalog, models={**catalog.models, name: changed}))
    while not all(name in watcher.last for watcher in plane.watchers):
        await asyncio.sleep(0.001)
    return 1000 * (max((watcher.last[name] for watcher in plane.watchers), default=start) - start)


def _rebuilds(folders: list[ScannedModel], changes: int) -> list[float]:
    """CPU seconds of the build after each change of one ServedModel, where every model has one."""
    documents = [_document(folder.name, pin=False) for folder in folders]
    builder = IncrementalBuilder(undeclared="none")
    for _ in range(2):
        builder.apply(folders, documents)
    seconds = []
    for number in range(changes):
        documents = [*documents]
        documents[number] = _document(folders[number].name, pin=True)
        start = time.process_time()
        builder.apply(folders, documents)
        seconds.append(time.process_time() - start)
    return seconds


def _document(model: str, pin: bool) -> Document:
    name = model.replace("_", "-")
    spec = {"model": model, "traffic": [{"version": 1, "percent": 100}], "placement": {"pin": pin}}
    content = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec}
    return Document.of(DocumentSource(f"servedmodel/models/{name}"), ServedModel.model_validate(content))


def _report(given: argparse.Namespace, figures: dict[str, Any], report: Report) -> None:
    decisions, slowest = figures["decisions"], max(figures["changes_ms"], default=0.0)
    slowest_build = max(figures["rebuilds_s"], default=0.0)
    rows = [
        ["answer to a cold request, p50", f"{decisions['answered_p50']:.1f} ms of CPU", ""],
        ["answer to a cold request, p99", f"{decisions['answered_p99']:.1f} ms of CPU", "< 10 ms"],
        ["with eviction and publication to all watchers, p50", f"{decisions['complete_p50']:.1f} ms of CPU", ""],
        ["with eviction and publication to all watchers, p99", f"{decisions['complete_p99']:.1f} ms of CPU", ""],
        ["a build of the whole catalog", f"{figures['build_s']:.2f} s of CPU", ""],
        ["a build after a change of one ServedModel, slowest", f"{slowest_build:.2f} s of CPU", ""],
        ["from a changed catalog to all watchers, slowest", f"{slowest:.0f} ms", "< 1 s"],
        ["a second in which nothing changes", f"{figures['quiet_cores']:.3f} cores", "< 0.1"],
        ["memory (USS)", f"{figures['memory_mib']:.0f} MiB", "< 1024 MiB"],
    ]
    title = f"{given.models} models on {given.predictors} predictors of {given.slots} slots, {given.watchers} watchers"
    report.table(title, ["what", "measured", "goal"], rows)
    report.figures("placement_scale", figures)
