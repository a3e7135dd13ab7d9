"""One run of load against one system, with the CPU of every process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.measurement import cpu, load
from benchmarks.serving.measurement.answers import batches, check
from benchmarks.serving.measurement.load import LoadResult, RequestTarget
from benchmarks.serving.systems.base import System
from benchmarks.serving.workloads import ServingWorkload, write_data
from local.programs.perf import PerfAnalyzer

WARM_REQUESTS = 200


@dataclass(frozen=True)
class Run:
    """Figures of one run.

    `cpu` is CPU seconds per 1,000 requests by process. `others` is the share of the machine that other processes took.
    """

    system: str
    workload: str
    point: str
    round: int
    requests: int
    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    errors: int
    seconds: float
    cpu: dict[str, float]
    load_cpu: float
    others: float
    more: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


@dataclass
class Prepared:
    """A running system whose answers to a workload were checked, with the data for the load."""

    system: System
    target: RequestTarget
    rates: dict[str, float] = field(default_factory=dict)


def prepare(program: PerfAnalyzer, system: System, workload: ServingWorkload, folder: Path) -> Prepared:
    """Check a system's answers and write the data for the load. Raises `LocalError` for a wrong answer."""
    check(system, workload)
    folder.mkdir(parents=True, exist_ok=True)
    name = system.model(workload)
    batched = batches(system.address, name)
    data = write_data(system.requests(workload), folder / f"{system.name}-{workload.name}.json", batched)
    prepared = Prepared(system, RequestTarget(system.address, name, data, workload.rows if batched else 1))
    load.closed(program, prepared.target, 8, WARM_REQUESTS)
    return prepared


def closed(
    program: PerfAnalyzer, prepared: Prepared, workload: ServingWorkload, callers: int, round_: int, seconds: float
) -> Run:
    """Closed loop for about `seconds`. The number of requests follows from the rate of the run before."""
    point = point_of(callers)
    if point not in prepared.rates:
        prepared.rates[point] = load.closed(program, prepared.target, callers, WARM_REQUESTS).rate
        prepared.rates[point] = _rate(program, prepared, callers, point)
    requests = round(prepared.rates[point] * seconds)
    run = observe(
        prepared.system, workload, point, round_, lambda: load.closed(program, prepared.target, callers, requests)
    )
    prepared.rates[point] = run.rate
    return run


def point_of(callers: int) -> str:
    """Name of a point: the number of callers."""
    return f"{callers} callers" if callers > 1 else "1 caller"


def _rate(program: PerfAnalyzer, prepared: Prepared, callers: int, point: str) -> float:
    """Requests/s of a first short run at this point."""
    return load.closed(program, prepared.target, callers, round(prepared.rates[point])).rate


def observe(system: System, workload: ServingWorkload, point: str, round_: int, send: Callable[[], LoadResult]) -> Run:
    """Run `send` and measure latency, CPU by process, and the load of other processes."""
    pids = system.pids()
    before, machine, start = cpu.of_parts(pids), cpu.of_machine(), time.monotonic()
    seen = send()
    used, busy = cpu.difference(before, cpu.of_parts(pids)), cpu.of_machine() - machine
    wall = time.monotonic() - start
    others = (busy - sum(used.values()) - seen.cpu_s) / (wall * cores())
    return Run(
        *(system.name, workload.name, point, round_, seen.requests, seen.rate),
        *(seen.ms(50), seen.ms(90), seen.ms(99)),
        errors=0,  # perf_analyzer fails at the first error
        seconds=seen.seconds,
        cpu={name: 1000 * value / seen.requests for name, value in used.items()},
        load_cpu=1000 * seen.cpu_s / seen.requests,
        others=max(0.0, others),
    )


def cores() -> int:
    return len(os.sched_getaffinity(0))
