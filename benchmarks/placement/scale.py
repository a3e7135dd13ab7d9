"""The controller's own decisions at 100,000 models on 500 predictors, over real HTTP/2 streams.

This process is the controller's: catalog, traffic gate, publisher, watch hub, placement and gRPC server. A second one
plays the predictors, which load at once, and the stages that follow the catalog. So the CPU time is that of decisions
and their transport; Triton's own time comes on top. `python -m benchmarks control-plane` measures the whole process,
with folders and a whole index of each Triton.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import resource
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop
from prometheus_client import CollectorRegistry

from benchmarks.model_folders import publish
from benchmarks.placement.fleet import FleetProcess
from benchmarks.processes import MIB
from benchmarks.report import Report
from controller.call_slots import CallSlots
from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog, ScannedModel
from controller.catalog.incremental import IncrementalBuilder
from controller.catalog.scanner import Scanner
from controller.catalog.served_model import GROUP, KIND, VERSION, Document, DocumentSource, ServedModel
from controller.catalog.step_files import StepFileReader
from controller.journal import Journal
from controller.leader_forwarding import LoadForwarder, SingleReplica
from controller.metrics import ControllerMetrics
from controller.placement.placement import Placement
from controller.placement.predictors.triton_client import TritonClient
from controller.placement.reconciler import QUIET_OBSERVATIONS_PER_S
from controller.placement.settings import PlacementSettings
from controller.servicer import ControllerServicer
from controller.traffic.publisher import Publisher
from controller.traffic.watch_hub import WatchHub
from local.errors import LocalError
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.client.transport import Transport
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.methods import methods_of
from triptych.runtime.settings import StageSettings
from triptych.server import server_for
from triptych.server.lifecycle import tune_garbage_collector
from triptych.telemetry.tracing import tracing

HELP = "the controller's decisions with 100,000 models, 500 simulated predictors and 200 stages over HTTP/2"
TITLE = "Placement at scale"

CALL_S = 60.0
PAUSE_S = 0.05  # between two cold requests, in which the first one is published
PROBED_S = 20.0  # of small requests beside stages that connect


class ControlPlane:
    """The controller without its folders and its cluster."""

    def __init__(self, slots: int, watchers: int) -> None:
        metrics, journal, transport = ControllerMetrics(CollectorRegistry()), Journal(), Transport()
        settings = PlacementSettings(
            max_models=slots,
            memory_percent=0.0,  # the predictors share one machine
            warm_up=False,
            withdraw_s=0.0,
            busy_s=0.0,
            idle_ttl_s=0.0,
        )
        self.watch_hub = WatchHub(metrics, CallSlots(watchers, watchers, "watchers follow the catalog"))
        self.publisher = Publisher(self.watch_hub, journal)
        connect = partial(TritonClient, transport=transport)
        self.placement = Placement(connect, settings, metrics, journal, self.publisher.models_changed)
        self.publisher.attach(self.placement)
        servicer = ControllerServicer(
            self.watch_hub,
            self.placement,
            LoadForwarder(self.placement, SingleReplica()),
            journal,
            tracing("controller", ""),
            CallSlots(1, 1, "calls already wait for loads"),
            cp.Store,
            StepFileReader(Path()),
        )
        self.server = server_for([methods_of(CONTROLLER_SERVICE, servicer)], StageSettings())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def start(self, predictors: Sequence[str]) -> None:
        await self.server.open()
        self.placement.fleet.set_addresses(predictors)
        for predictor in self.placement.fleet:
            predictor.headroom.unload_s.value = 0.0

    async def observe(self, predictors: int) -> None:
        """Observe some of the predictors once, then reconcile."""
        observed = list(self.placement.fleet)
        for predictor in random.sample(observed, min(predictors, len(observed))):
            await self.placement.reconciler.observe(predictor)
        self.placement.reconciler.reconcile()
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.watch_hub.close()
        await self.server.close(1.0)
        await self.placement.close()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--predictors", type=int, default=500)
    parser.add_argument("--slots", type=int, default=50, help="versions in each predictor at most")
    parser.add_argument("--watchers", type=int, default=200, help="stages that follow the catalog")
    parser.add_argument("--loads", type=int, default=500, help="cold requests, each with a load and an eviction")
    parser.add_argument("--quiet-s", type=int, default=10, help="seconds in which nothing changes")
    parser.add_argument("--changes", type=int, default=5, help="changes of one ServedModel")


def main(given: argparse.Namespace, report: Report) -> None:
    """Build the catalog, fill the predictors, then measure decisions, changes and quiet seconds."""
    check(given)
    logging.disable(logging.INFO)
    figures = uvloop.run(measure(given))
    _report(given, figures, report)


def check(given: argparse.Namespace) -> None:
    """Raises `LocalError` if there are too few models."""
    if (needed := given.predictors * given.slots + given.loads) > given.models:
        raise LocalError(f"want {needed} models to fill the predictors and to load, got {given.models}")


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    folders = _folders(given.models)
    names = [folder.name for folder in folders]
    random.Random(1).shuffle(names)
    plane = ControlPlane(given.slots, given.watchers)
    figures: dict[str, Any] = {}
    start = time.process_time()
    catalog = build_catalog(folders, (), Catalog(), undeclared="lowest")
    figures["build_s"] = time.process_time() - start
    plane.publisher.set_catalog(catalog)
    cold = iter(names)
    loaded = [[next(cold) for _ in range(given.slots - 3)] for _ in range(given.predictors)]
    async with FleetProcess() as fleet, FleetProcess() as prober:
        await plane.start(await fleet.ask("serve", loaded=loaded))
        await plane.observe(given.predictors)
        tune_garbage_collector()
        figures |= await _connect(plane, fleet, prober, given.watchers, names[0])
        figures["quiet_cores"] = await _quiet(plane, given.quiet_s)
        figures["decisions"] = await _decisions(plane, [next(cold) for _ in range(given.loads)])
        figures["changes_ms"] = [await _change(plane, fleet, catalog, names[at]) for at in range(given.changes)]
        figures["memory_mib"], figures["memory_peak_mib"] = _memory_mib()
        await plane.close()
    figures["rebuilds_s"] = _rebuilds(folders, given.changes)
    return figures


async def _connect(
    plane: ControlPlane, fleet: FleetProcess, prober: FleetProcess, watchers: int, model: str
) -> dict[str, Any]:
    """Connect all stages at once, as after a restart of the controller, beside small requests of another caller."""

    def probe(seconds: float) -> Coroutine[Any, Any, Any]:
        return prober.ask("probe", address=plane.address, model=model, until=time.monotonic() + seconds)

    await probe(0.5)  # the first call connects
    probing, start = asyncio.create_task(probe(PROBED_S)), time.monotonic()
    connected = await fleet.ask("watch", address=plane.address, count=watchers)
    small = 1000 * np.array([seconds for at, seconds in await probing if at < connected["at"]])
    return {
        "connected_s": connected["at"] - start,
        "streams_refused": connected["refused"],
        "small_requests": {"calls": len(small), **{f"p{p}_ms": float(np.percentile(small, p)) for p in (50, 99, 100)}},
    }


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


async def _quiet(plane: ControlPlane, seconds: int) -> float:
    """Cores that a second costs in which nothing changes."""
    start = time.process_time()
    for _ in range(seconds):
        second = asyncio.create_task(asyncio.sleep(1))
        await plane.observe(QUIET_OBSERVATIONS_PER_S)
        await second
    return (time.process_time() - start) / seconds


async def _decisions(plane: ControlPlane, names: list[str]) -> dict[str, float]:
    """Milliseconds until a cold request is answered: CPU, and with the load of the machine (wall).

    `complete` is the CPU with the eviction and the publication that follow.
    """
    answered, complete, wall = [], [], []
    for name in names:
        start, start_wall = time.process_time(), time.perf_counter()
        await plane.placement.ensure_loaded(name, 1, Call.within(CALL_S))
        answered.append(1000 * (time.process_time() - start))
        wall.append(1000 * (time.perf_counter() - start_wall))
        await asyncio.sleep(PAUSE_S)
        complete.append(1000 * (time.process_time() - start))
    return {
        f"{kind}_p{percent}": float(np.percentile(values, percent))
        for kind, values in (("answered", answered), ("complete", complete), ("wall", wall))
        for percent in (50, 99)
    }


async def _change(plane: ControlPlane, fleet: FleetProcess, catalog: Catalog, name: str) -> float:
    """Milliseconds from a catalog with one changed model until every stage has it."""
    route, start = f"changed-{time.monotonic_ns()}", time.monotonic()
    changed = replace(catalog.models[name], route=route)
    plane.publisher.set_catalog(replace(catalog, models={**catalog.models, name: changed}))
    return 1000 * (float((await fleet.ask("received", route=route))["at"]) - start)


def _memory_mib() -> tuple[float, float]:
    """Memory of this process in MiB: USS now, and the highest RSS."""
    return psutil.Process().memory_full_info().uss / MIB, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
    small = figures["small_requests"]
    slowest_build = max(figures["rebuilds_s"], default=0.0)
    rows = [
        ["answer to a cold request, p50", f"{decisions['answered_p50']:.1f} ms of CPU", ""],
        ["answer to a cold request, p99", f"{decisions['answered_p99']:.1f} ms of CPU", "< 10 ms"],
        ["the same in wall time, p50", f"{decisions['wall_p50']:.1f} ms", ""],
        ["the same in wall time, p99", f"{decisions['wall_p99']:.1f} ms", ""],
        ["with eviction and publication to all watchers, p50", f"{decisions['complete_p50']:.1f} ms of CPU", ""],
        ["with eviction and publication to all watchers, p99", f"{decisions['complete_p99']:.1f} ms of CPU", ""],
        ["a build of the whole catalog", f"{figures['build_s']:.2f} s of CPU", ""],
        ["a build after a change of one ServedModel, slowest", f"{slowest_build:.2f} s of CPU", ""],
        ["from a changed catalog to all watchers, slowest", f"{slowest:.0f} ms", "< 1 s"],
        ["a second in which nothing changes", f"{figures['quiet_cores']:.3f} cores", "< 0.1"],
        ["until all watchers have the whole catalog", f"{figures['connected_s']:.1f} s", ""],
        ["a small request meanwhile, p50", f"{small['p50_ms']:.1f} ms", ""],
        ["a small request meanwhile, p99", f"{small['p99_ms']:.1f} ms", ""],
        ["memory (USS)", f"{figures['memory_mib']:.0f} MiB", "< 1024 MiB"],
        ["memory (RSS), peak", f"{figures['memory_peak_mib']:.0f} MiB", "< 1024 MiB"],
    ]
    title = f"{given.models} models on {given.predictors} predictors of {given.slots} slots, {given.watchers} watchers"
    report.table(title, ["what", "measured", "goal"], rows)
    report.figures("placement_scale", figures)
