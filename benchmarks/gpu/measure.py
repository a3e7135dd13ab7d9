"""Measurement of one point: a system, a picture size and a number of callers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from benchmarks.gpu import load, watch
from benchmarks.gpu.load import LoadGenerator, PictureTarget
from benchmarks.gpu.models import GROUPED, GROUPED_THREADS, SEPARATE
from benchmarks.gpu.systems import GpuSystem
from local.errors import LocalError
from triptych.datatypes import Array

STATISTICS = "/inference.GRPCInferenceService/ModelStatistics"
# Enough to prepare a batch while another is in the network; a large picture takes a core 40 times as long.
CALLERS = {"640x480": (64, 16), "12MP": (16, 4)}  # of a grouped model, and of each preprocess
MOST_CALLERS = {"640x480": 192, "12MP": 48}
TITLES = {
    GROUPED: "grouped, one after the other",
    GROUPED_THREADS: "grouped, threads that decode",
    SEPARATE: "separate",
}


@dataclass(frozen=True)
class Point:
    """Figures of one point. `gpu_percent` is by nvidia-smi; `busy` is the utilisation of the model's instances."""

    model: str
    picture: str
    processes: int
    callers: int
    rate: float
    p50_ms: float
    p99_ms: float
    gpu_percent: float | None
    busy: float
    rows_per_execution: float
    cores: Mapping[str, float]


@dataclass(frozen=True)
class Mark:
    """Reading at one moment: Triton's statistics of a model since its load, and CPU seconds by part."""

    at_s: float
    execute_ns: int
    executions: int
    rows: int
    cpu_s: Mapping[str, float]


def point(
    system: GpuSystem,
    target: PictureTarget,
    picture: str,
    processes: int,
    seconds: float,
    loads: LoadGenerator,
    warm_s: float,
) -> Point:
    """Warm the system up, then measure it under load. Raises `LocalError` if a request is refused."""
    fixed, each = CALLERS[picture]
    callers = min(MOST_CALLERS[picture], max(each * processes, each)) if target.model == SEPARATE else fixed
    begin = time.time() + load.START_S + warm_s
    with ThreadPoolExecutor(1) as aside:
        looking = aside.submit(_watched, system, target.model, begin, begin + seconds)
        seen = loads.closed(target, callers, begin, begin + seconds)
        before, after, percent = looking.result()
    seconds, executions = after.at_s - before.at_s, after.executions - before.executions
    return Point(
        *(target.model, picture, processes, callers, seen.rate, seen.ms(50), seen.ms(99), percent),
        busy=(after.execute_ns - before.execute_ns) / 1e9 / seconds,
        rows_per_execution=(after.rows - before.rows) / executions if executions else 0.0,
        cores={name: (after.cpu_s[name] - before.cpu_s[name]) / seconds for name in before.cpu_s},
    )


def _watched(system: GpuSystem, model: str, begin: float, end: float) -> tuple[Mark, Mark, float | None]:
    """Readings at both moments, and the utilisation of the GPU between them."""
    time.sleep(max(0.0, begin - time.time()))
    with watch.Watch() as watched:
        before = _mark(system, model)
        time.sleep(max(0.0, end - time.time()))
        after = _mark(system, model)
    return before, after, watched.percent


def _mark(system: GpuSystem, model: str) -> Mark:
    with grpc.insecure_channel(system.addresses("predictor")[0]) as channel:
        method: Any = channel.unary_unary(STATISTICS)
        data = method(pb.ModelStatisticsRequest(name=model).SerializeToString(), timeout=load.DEADLINE_S)
    batches = [batch for each in pb.ModelStatisticsResponse.FromString(data).model_stats for batch in each.batch_stats]
    return Mark(
        time.monotonic(),
        sum(batch.compute_infer.ns for batch in batches),
        sum(batch.compute_infer.count for batch in batches),
        sum(batch.batch_size * batch.compute_infer.count for batch in batches),
        system.cpu_s(),
    )


def check(name: str, got: Sequence[Mapping[str, Array]], want: Sequence[Mapping[str, Array]]) -> None:
    """Compare the answers of two systems to the same pictures. Raises `LocalError` if they differ.

    Scores may differ by a twentieth: the network computes in bfloat16, and results depend on the batch size.
    """
    for number, (ours, theirs) in enumerate(zip(got, want, strict=True)):
        scores, wanted = ours["score"].ravel(), theirs["score"].ravel()
        if not np.allclose(scores, wanted, rtol=0.05):
            raise LocalError(f"{name}, picture {number}: want scores {wanted.tolist()}, got {scores.tolist()}")
