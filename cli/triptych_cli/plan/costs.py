"""Measured costs of a request in each stage: CPU time by the rate of requests.

    python -m triptych_cli.plan.costs benchmarks/results/serving/results.json

prints costs.json, which is part of this package, from the results of `python -m benchmarks serving` (make costs).
Requests that wait are batched, so a request costs less at a higher rate. A cost is a line through measured points: CPU
seconds of a request over requests/s of one replica.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("costs.json")
STAGES = ("preprocess", "predictor", "postprocess")
WORKLOADS = {"sales": "W1", "digits": "W2"}
ALONE = "1 caller"

# Systems of `python -m benchmarks serving`.
SEPARATE = "triptych"
IN_PROCESS = "triptych-grouped"  # without a process for postprocess
ONE_PROCESS = "grouped"

Runs = Sequence[Mapping[str, Any]]
Points = tuple[tuple[float, float], ...]


class CostsError(Exception):
    """A file holds no costs of a workload; the text says how to measure them."""


@dataclass(frozen=True)
class ServiceTime:
    """Seconds of one replica's time for a request, by the requests/s that it gets."""

    points: Points

    def at(self, rate: float) -> float:
        """Interpolate between two measured rates; beyond them it is constant."""
        rates, seconds = np.array(self.points).T
        return float(np.interp(rate, rates, seconds))

    @classmethod
    def constant(cls, seconds: float) -> ServiceTime:
        """The same time at each rate."""
        return cls(((0.0, seconds),))


@dataclass(frozen=True)
class StageCosts:
    """Costs of each stage and of all together. `rpc_overhead_s` is a lone request's latency beyond its CPU time."""

    stages: Mapping[str, ServiceTime]
    together: ServiceTime
    rpc_overhead_s: float


@dataclass(frozen=True)
class Costs:
    """Costs of separate stages, of postprocess in process, and of a peer in one process; None: not measured."""

    separate: StageCosts
    in_process: StageCosts | None = None
    one_process: ServiceTime | None = None


def read(file: Path, workload: str) -> Costs:
    """Read costs.json, or results.json of the benchmark. Raises `CostsError`."""
    try:
        document = json.loads(file.read_text("utf-8"))
        if "workloads" in document:
            return _from_json(document["workloads"][workload])
        return costs_of(document["results"][WORKLOADS[workload]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CostsError(
            f"{file}: no measured costs of '{workload}' ({type(error).__name__}: {error}); "
            "measure them: python -m benchmarks serving"
        ) from None


def costs_of(runs: Runs) -> Costs:
    """Medians of the repeated runs at each number of callers. Raises `CostsError` without a run of Triptych."""
    by_system = {name: [run for run in runs if run["system"] == name] for name in (SEPARATE, IN_PROCESS, ONE_PROCESS)}
    if not by_system[SEPARATE]:
        raise CostsError(f"the results hold no run of {SEPARATE}")
    within, peer = by_system[IN_PROCESS], by_system[ONE_PROCESS]
    return Costs(
        _stage_costs(by_system[SEPARATE], STAGES),
        _stage_costs(within, STAGES[:2]) if within else None,
        _service_time(peer, lambda run: _cpu_s(run, "")) if peer else None,
    )


def as_json(costs: Costs) -> dict[str, Any]:
    """The costs with plain types."""
    one_process = costs.one_process
    return {
        "separate": _stage_costs_as_json(costs.separate),
        "in_process": _stage_costs_as_json(costs.in_process) if costs.in_process else None,
        "one_process": _points(one_process) if one_process else None,
    }


def _stage_costs(runs: Runs, stages: Sequence[str]) -> StageCosts:
    alone = [run for run in runs if run["point"] == ALONE]
    overheads = [max(0.0, run["p50_ms"] / 1000 - _cpu_s(run, "")) for run in alone]
    return StageCosts(
        {stage: _service_time(runs, lambda run, stage=stage: _cpu_s(run, stage)) for stage in stages},  # type: ignore[misc]
        _service_time(runs, lambda run: sum(_cpu_s(run, stage) for stage in stages)),
        statistics.median(overheads or [0.0]),
    )


def _service_time(runs: Runs, seconds: Callable[[Mapping[str, Any]], float]) -> ServiceTime:
    points = []
    for point in dict.fromkeys(run["point"] for run in runs):
        repeated = [run for run in runs if run["point"] == point]
        rate = statistics.median(run["rate"] for run in repeated)
        points.append((rate, statistics.median(seconds(run) for run in repeated)))
    return ServiceTime(tuple(sorted(points)))


def _cpu_s(run: Mapping[str, Any], stage: str) -> float:
    """CPU seconds of one request in a stage and its children, or in all processes."""
    names = [name for name in run["cpu"] if stage in ("", name) or name.startswith(f"{stage}:")]
    return sum(float(run["cpu"][name]) for name in names) / 1000


def _stage_costs_as_json(costs: StageCosts) -> dict[str, Any]:
    return {
        "stages": {stage: _points(time) for stage, time in costs.stages.items()},
        "together": _points(costs.together),
        "rpc_overhead_s": _rounded(costs.rpc_overhead_s),
    }


def _points(time: ServiceTime) -> list[list[float]]:
    return [[_rounded(rate), _rounded(seconds)] for rate, seconds in time.points]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _from_json(document: Mapping[str, Any]) -> Costs:
    within, peer = document["in_process"], document["one_process"]
    return Costs(
        _stage_costs_from_json(document["separate"]), within and _stage_costs_from_json(within), peer and _time(peer)
    )


def _stage_costs_from_json(document: Mapping[str, Any]) -> StageCosts:
    stages = {stage: _time(points) for stage, points in document["stages"].items()}
    return StageCosts(stages, _time(document["together"]), document["rpc_overhead_s"])


def _time(points: Sequence[Sequence[float]]) -> ServiceTime:
    return ServiceTime(tuple((rate, seconds) for rate, seconds in points))


def main() -> None:
    """Print costs.json from the results of the benchmark."""
    results = Path(sys.argv[1])
    measured = json.loads(results.read_text("utf-8"))
    made = {
        "measured": {key: measured[key] for key in ("command", "at", "machine")},
        "workloads": {workload: as_json(read(results, workload)) for workload in WORKLOADS},
    }
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
