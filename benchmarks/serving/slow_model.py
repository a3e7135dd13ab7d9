"""W6: utilisation of a model with one instance, whose executions take 20 ms without CPU.

Utilisation is the execution time in Triton's `batch_stats` over the elapsed time. It is taken over the middle half of
the run, when all callers are active.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from benchmarks.serving.bench import REFERENCE, Bench, make
from benchmarks.serving.figures import tables
from benchmarks.serving.figures.goals import Goal, at_least
from benchmarks.serving.figures.statistics import Spread, groups
from benchmarks.serving.measurement import load, measure
from benchmarks.serving.measurement.answers import SERVICE
from benchmarks.serving.measurement.load import LoadResult
from benchmarks.serving.measurement.measure import Prepared, Run
from benchmarks.serving.workloads import MODELS, SALES, ServingWorkload
from local.environments import ROOT

MODEL, ROUTE = "sales_forecast_slow", "SLOW"
WORKLOAD = ServingWorkload("W6", "a model of 20 ms per execution, one instance", MODEL, 1, original=SALES)
PROGRAM = ROOT / "benchmarks/serving/programs/slow_model.py"
STATISTICS = f"/{SERVICE}/ModelStatistics"
TIMEOUT_S = 5.0
GOAL = 0.98


def publish(folder: Path) -> Path:
    """Write a model repository with the slow model: a copy of the sales model for the Python backend."""
    version = folder / MODEL / "1"
    version.mkdir(parents=True)
    original = MODELS / SALES
    shutil.copy(original / "1/model.onnx", version)
    shutil.copy(PROGRAM, version / "model.py")
    contract = (original / "1/contract.yaml").read_text().replace('route: "DE"', f'route: "{ROUTE}"')
    (version / "contract.yaml").write_text(contract)
    config = (original / "config.pbtxt").read_text()
    config = config.replace(f'"{SALES}"', f'"{MODEL}"').replace('backend: "onnxruntime"', 'backend: "python"')
    (folder / MODEL / "config.pbtxt").write_text(config)
    return folder


def run(bench: Bench) -> list[Goal]:
    """Measure all systems in turns at all numbers of callers, and report the figures."""
    models = publish(bench.root / "slow-models")
    runs: list[Run] = []
    names = [name for name in bench.systems if not make(name, models).own_model]
    with bench.running("W6", [WORKLOAD], names, models) as systems:
        prepared = [measure.prepare(bench.program, system, WORKLOAD, bench.root) for system in systems]
        for callers in (many for many in bench.callers if many > 1):
            for number, at in bench.rounds(f"W6, {callers} callers", [system.name for system in systems]):
                runs.append(_one(bench, prepared[at], callers, number))
    bench.progress.clear()
    tables.add_to(bench.report, WORKLOAD, runs, REFERENCE)
    _report(bench, runs)
    point = f"{max(bench.callers)} callers"
    ours = [run.more["busy"] for run in runs if (run.system, run.point) == (REFERENCE, point)]
    text = f"W6, {point}, share of the time in which the instance is busy"
    return at_least(text, GOAL, Spread.of(ours) if ours else None)


def _one(bench: Bench, prepared: Prepared, callers: int, number: int) -> Run:
    point = f"{callers} callers"
    if point not in prepared.rates:
        prepared.rates[point] = load.closed(bench.program, prepared.target, callers, 20 * callers).rate
    requests = round(prepared.rates[point] * bench.seconds)
    watch = Busy(prepared.system.predictor_address, MODEL, bench.seconds)

    def send() -> LoadResult:
        with watch:
            return load.closed(bench.program, prepared.target, callers, requests)

    found = measure.observe(prepared.system, WORKLOAD, point, number, send)
    prepared.rates[point] = found.rate
    return replace(found, more={"busy": watch.share, "rows_per_execution": watch.rows})


class Busy:
    """Utilisation of a model during a run, from two readings of Triton's statistics."""

    def __init__(self, address: str, model: str, seconds: float) -> None:
        self._address, self._model, self._seconds = address, model, seconds
        self._thread = threading.Thread(target=self._watch)
        self.share, self.rows = 0.0, 0.0

    def __enter__(self) -> Busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _watch(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            method: Any = channel.unary_unary(STATISTICS)
            time.sleep(self._seconds / 4)
            first, start = self._ask(method), time.monotonic()
            time.sleep(self._seconds / 2)
            last, end = self._ask(method), time.monotonic()
        executions = last[1] - first[1]
        self.share = (last[0] - first[0]) / 1e9 / (end - start)
        self.rows = (last[2] - first[2]) / executions if executions else 0.0

    def _ask(self, method: Any) -> tuple[int, int, int]:
        data = method(pb.ModelStatisticsRequest(name=self._model).SerializeToString(), timeout=TIMEOUT_S)
        return totals(pb.ModelStatisticsResponse.FromString(data))


def totals(answer: pb.ModelStatisticsResponse) -> tuple[int, int, int]:
    """Nanoseconds of executions, number of executions, and their rows, since the model was loaded."""
    batches = [batch for model in answer.model_stats for batch in model.batch_stats]
    nanoseconds = sum(batch.compute_infer.ns for batch in batches)
    executions = sum(batch.compute_infer.count for batch in batches)
    return nanoseconds, executions, sum(batch.batch_size * batch.compute_infer.count for batch in batches)


def _report(bench: Bench, runs: Sequence[Run]) -> None:
    rows = []
    for (point, system), several in groups(runs).items():
        share = Spread.of(run.more["busy"] for run in several)
        size = Spread.of(run.more["rows_per_execution"] for run in several)
        rows.append([point, system, f"{100 * share.median:.1f} %", f"{100 * share.least:.1f} %", f"{size.median:.1f}"])
    head = ["", "system", f"instance is busy (goal {100 * GOAL:.0f} %)", "least", "rows per execution"]
    bench.report.table("W6: share of the time in which the model's one instance executes", head, rows)
