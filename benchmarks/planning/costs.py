"""CPU time of a request in each stage, read from the results of `python -m benchmarks serving`.

Batches grow with the rate, so the cost of a request falls with it. A cost is therefore a function of the rate: linear
between the measured points of CPU time per request over requests/s.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from local.errors import LocalError

STAGES = ("preprocess", "predictor", "postprocess")
WORKLOADS = {"sales": "W1", "digits": "W2"}
ALONE = "1 caller"
IN_PROCESS = "triptych-grouped"  # the system of `python -m benchmarks serving` without a process for postprocess

Runs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Service:
    """Service time of a request in seconds, by the requests/s that one replica gets."""

    points: tuple[tuple[float, float], ...]

    def at(self, rate: float) -> float:
        """Interpolate linearly between measured rates; beyond them use the nearest."""
        rates, seconds = np.array(self.points).T
        return float(np.interp(rate, rates, seconds))

    @classmethod
    def constant(cls, seconds: float) -> Service:
        return cls(((0.0, seconds),))


@dataclass(frozen=True)
class InProcess:
    """Costs of the chain with postprocess in process: two stages, both together, and the RPC overhead."""

    stages: Mapping[str, Service]
    together: Service
    rpc_overhead_s: float


@dataclass(frozen=True)
class Costs:
    """Costs of each stage, of all together, and of a peer.

    `rpc_overhead_s` is the latency of a lone request beyond its CPU time.
    """

    stages: Mapping[str, Service]
    together: Service
    rpc_overhead_s: float
    one_process: Service | None
    in_process: InProcess | None = None


def read(file: Path, workload: str) -> Costs:
    """Read the costs of a workload from a results file. Raises `LocalError` if it has none."""
    try:
        runs = json.loads(file.read_text())["results"][WORKLOADS[workload]]
    except (OSError, ValueError, KeyError) as error:
        raise LocalError(
            f"{file}: no measured costs of {WORKLOADS[workload]} ({type(error).__name__}: {error}); "
            "make them with: python -m benchmarks serving"
        ) from None
    return costs_of(runs)


def costs_of(runs: Runs) -> Costs:
    """Medians of the rounds at each number of callers. Raises `LocalError` if Triptych was not measured."""
    ours = [run for run in runs if run["system"] == "triptych"]
    if not ours:
        raise LocalError("the results hold no run of triptych")
    within = [run for run in runs if run["system"] == IN_PROCESS]
    peer = [run for run in runs if run["system"] == "grouped"]
    return Costs(
        *_chain(ours, STAGES),
        _service(peer, lambda run: _seconds(run, "")) if peer else None,
        InProcess(*_chain(within, STAGES[:2])) if within else None,
    )


def _chain(runs: Runs, stages: Sequence[str]) -> tuple[Mapping[str, Service], Service, float]:
    """Costs of each stage and of all together, and the RPC overhead in seconds."""
    alone = [run for run in runs if run["point"] == ALONE]
    overheads = [max(0.0, run["p50_ms"] / 1000 - _seconds(run, "")) for run in alone]
    return (
        {stage: _service(runs, lambda run, stage=stage: _seconds(run, stage)) for stage in stages},  # type: ignore[misc]
        _service(runs, lambda run: sum(_seconds(run, stage) for stage in stages)),
        statistics.median(overheads or [0.0]),
    )


def _service(runs: Runs, seconds: Callable[[Mapping[str, Any]], float]) -> Service:
    points = []
    for point in dict.fromkeys(run["point"] for run in runs):
        several = [run for run in runs if run["point"] == point]
        rate = statistics.median(run["rate"] for run in several)
        points.append((rate, statistics.median(seconds(run) for run in several)))
    return Service(tuple(sorted(points)))


def _seconds(run: Mapping[str, Any], stage: str) -> float:
    """CPU seconds of one request in a stage and its children; in all processes if `stage` is empty."""
    names = [name for name in run["cpu"] if stage in ("", name) or name.startswith(f"{stage}:")]
    return sum(float(run["cpu"][name]) for name in names) / 1000
