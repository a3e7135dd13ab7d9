"""Memory and pods for N countries: one service per country against Triptych. Process sizes are measured first.

A service per country is measured in two forms: a minimal Python server (onnxruntime and gRPC), and a Triton with one
model. Every process of Triptych is measured, and so is the growth of Triton with each loaded model. The number of
loaded models follows from the traffic: models requested within the idle time-to-live.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from benchmarks import load, processes
from benchmarks.model_folders import FAMILY, SOURCE, publish
from benchmarks.placement.traces import shares
from benchmarks.report import Report
from examples.models.progress import TaskProgress
from local.endpoints import free_endpoints
from local.environments import ensure
from local.errors import LocalError
from local.stack import LocalStack

HELP = "memory and pods for N countries: one service for each, against Triptych; measured, then drawn"
TITLE = "What N countries cost"

COUNTRIES = (1, 2, 5, 10, 20, 50, 100, 200, 352, 500, 1000)
KSERVE = """\
KServe's own benchmark of multi-model serving (KFServing 0.5.1, six nodes of 110 pods each) held 352 services
of one model each, which reserved 387 CPUs and 211 GB, and on the same cluster about 10,000 models in six services,
which reserved 66 CPUs and 63 GB ([docs/samples/multimodelserving/benchmark/BENCHMARK.md][kserve]). Most of what the 352
reserved was for the sidecar of each pod. Here it is memory that processes take, without sidecars and without the
hundreds of MiB that each process on a GPU takes for its context: with them the distance is larger.

[kserve]: https://github.com/kserve/kserve/blob/5551b1f9d15b2106eeb613607a4230e7398a7bbe/docs/samples/multimodelserving/benchmark/BENCHMARK.md
"""
SAMPLES = 5  # requests before a process is measured


@dataclass(frozen=True)
class ProcessSizes:
    """Memory of each process in MiB, without file-backed pages."""

    country_server: float
    triton_idle: float
    triton_per_model: float
    preprocess: float
    postprocess: float
    controller: float

    @property
    def triton_of_one(self) -> float:
        return self.triton_idle + self.triton_per_model


@dataclass(frozen=True)
class Footprint:
    """Memory and pods of one deployment for a number of countries."""

    mib: float
    pods: int
    loaded: int


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=10, help="models loaded to measure what each of them takes")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 1.0, 10.0], help="requests/s of all countries")
    parser.add_argument("--exponent", type=float, default=1.1, help="of Zipf's law")
    parser.add_argument("--idle-s", type=float, default=900.0, help="CONTROLLER_IDLE_TTL_S")
    parser.add_argument("--places", type=int, default=200, help="models in one Triton pod at most")
    parser.add_argument("--replicas", type=int, default=2, help="of each stage, and of each country's service")


def main(given: argparse.Namespace, report: Report) -> None:
    """Measure process sizes, compute memory and pods, and draw them."""
    sizes = _measure(given.samples)
    rows = [[name.replace("_", " "), f"{mib:.0f} MiB"] for name, mib in asdict(sizes).items()]
    title = "Memory of each process, pages of files left out: what a second one on the node would add"
    report.table(title, ["process", "MiB"], rows)
    ways = _ways(sizes, given)
    head = ["countries", *(f"{name}: GiB / pods" for name in ways)]
    table = []
    for countries in COUNTRIES:
        footprints = [way(countries) for way in ways.values()]
        table.append([str(countries), *(f"{footprint.mib / 1024:.1f} / {footprint.pods}" for footprint in footprints)])
    report.table(f"Memory and pods, {given.replicas} replicas of everything but the leader", head, table)
    report.text(
        "Models that are loaded at once: those that had a request within "
        f"{given.idle_s:g} s, of Zipf({given.exponent:g}) traffic. A request to one that is not waits for its load."
    )
    report.text(KSERVE)
    report.figures("sizes_mib", asdict(sizes))
    report.figures("footprints", {name: {n: asdict(way(n)) for n in COUNTRIES} for name, way in ways.items()})
    _draw(report, ways)


def loaded_at_once(countries: int, rate: float, exponent: float, idle_s: float) -> float:
    """Expected number of models that had a request within the idle time-to-live, of Poisson arrivals."""
    return float((1 - np.exp(-rate * idle_s * shares(countries, exponent))).sum())


def service_each(mib: float, replicas: int) -> Callable[[int], Footprint]:
    """Memory and pods of one service per country, each pod with one process."""
    return lambda countries: Footprint(countries * replicas * mib, countries * replicas, countries)


def triptych(sizes: ProcessSizes, given: argparse.Namespace, rate: float) -> Callable[[int], Footprint]:
    """Memory and pods of Triptych: stages, one controller, and enough Tritons for the loaded models."""

    def footprint(countries: int) -> Footprint:
        loaded = math.ceil(loaded_at_once(countries, rate, given.exponent, given.idle_s))
        tritons = max(given.replicas, math.ceil(loaded / given.places))
        stages = given.replicas * (sizes.preprocess + sizes.postprocess) + sizes.controller
        mib = stages + tritons * sizes.triton_idle + loaded * sizes.triton_per_model
        return Footprint(mib, 2 * given.replicas + 1 + tritons, loaded)

    return footprint


def _ways(sizes: ProcessSizes, given: argparse.Namespace) -> dict[str, Callable[[int], Footprint]]:
    return {
        "a Triton each": service_each(sizes.triton_of_one, given.replicas),
        "a Python server each": service_each(sizes.country_server, given.replicas),
        **{f"Triptych, {rate:g}/s": triptych(sizes, given, rate) for rate in sorted(given.rates, reverse=True)},
    }


def _measure(samples: int) -> ProcessSizes:
    progress = TaskProgress()
    with tempfile.TemporaryDirectory(prefix="triptych-cost-") as folder:
        root = Path(folder)
        publish(root / "models", samples)
        (root / "documents").mkdir()
        progress.begin("cost: Triptych")
        stack = LocalStack(
            free_endpoints(),
            root / "run",
            ensure("predictor"),
            model_repository=root / "models",
            served_models=root / "documents",
        )
        with stack:
            idle = processes.own_mib(stack.pids()["predictor"])
            progress.begin(f"cost: {samples} models")
            for _ in range(SAMPLES):
                answers = asyncio.run(load.send_all(stack.address("preprocess"), range(samples), 2))
                if errors := [answer.error for answer in answers if answer.error]:
                    raise LocalError(errors[0])
            of = {name: processes.own_mib(pid) for name, pid in stack.pids().items()}
        progress.begin("cost: a server for one country")
        country = _country_server(next(iter(sorted(SOURCE.glob(f"{FAMILY}_*")))) / "1/model.onnx")
        progress.end()
    per_model = (of["predictor"] - idle) / samples
    return ProcessSizes(country, idle, per_model, of["preprocess"], of["postprocess"], of["controller"])


def _country_server(model: Path) -> float:
    """Memory of the minimal server in MiB, after it has answered."""
    port = processes.free_port()
    words = ["--model", str(model), "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.country_server", *words])
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
            method: Any = channel.unary_unary(load.INFER)
            request = pb.ModelInferRequest(model_name="country")
            request.inputs.add(name="features", datatype="FP32", shape=[1, 42])
            request.raw_input_contents.append(np.zeros((1, 42), np.float32).tobytes())
            for _ in range(SAMPLES):
                method(request.SerializeToString(), timeout=10)
            time.sleep(0.5)
            return processes.own_mib(process.pid)
    finally:
        process.kill()
        process.wait()


def _draw(report: Report, ways: dict[str, Callable[[int], Footprint]]) -> None:
    from benchmarks import plots

    figure, (left, right) = plots.panels(2, 5.2, 3.8)
    numbers = list(range(1, 1001))
    for (name, way), colour in zip(ways.items(), plots.COLOURS, strict=False):
        footprints = [way(number) for number in numbers]
        left.plot(numbers, [footprint.mib / 1024 for footprint in footprints], color=colour, label=name)
        right.plot(numbers, [footprint.pods for footprint in footprints], color=colour, label=name)
    for axis, title, y in ((left, "memory", "GiB"), (right, "pods", "pods")):
        axis.set_xscale("log")
        axis.set_yscale("log")
        plots.dress(axis, title, "countries", y)
    left.legend(frameon=False, fontsize=8)
    plots.save(figure, report.plot("cost.png", "memory and pods over the number of countries"))
