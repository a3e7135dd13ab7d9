"""CPU time of each stage's own code for a request of W1, without sockets and without the other services.

The other services are stubs that answer at once, so checking, batching, encoding, splitting and counting are measured.
`hot` is a request that directly follows another. `cold` is one after other memory was used, as on a shared core.
`python -m benchmarks instructions` counts the same in instructions, independent of other load on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import uvloop

from benchmarks.report import Report
from benchmarks.stages import stubs
from examples.models.progress import TaskProgress
from triptych.contract import numpy_warnings

HELP = "each stage's own code for a request, without sockets: by callers, hot and cold"
TITLE = "The code of the stages"

CALLERS = (1, 4, 16, 64)
OTHERS_BYTES = 32 << 20  # more than the caches of a core


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=4_000, help="of one run")
    parser.add_argument("--rounds", type=int, default=7)


def main(given: argparse.Namespace, report: Report) -> None:
    numpy_warnings.turn_off()  # as a stage does
    uvloop.run(measure(given, report))


async def measure(given: argparse.Namespace, report: Report) -> None:
    contract = stubs.contract()
    for stage, build in stubs.STAGES.items():
        await _measure_stage(given, report, stage, await build(contract), stubs.request_bytes(stage, contract))


async def _measure_stage(
    given: argparse.Namespace, report: Report, stage: str, answer: stubs.Answer, data: bytes
) -> None:
    runs: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    progress = TaskProgress()
    for number in range(given.rounds):
        progress.begin(f"stage-cpu: {stage}, round {number + 1} of {given.rounds}")
        for callers in CALLERS:
            runs[callers].append(await cpu_us(answer, data, callers, given.requests))
    progress.end()
    columns = ["callers", "CPU of a request, us", "least", "most"]
    report.table(f"{stage}, hot", columns, [(n, median(each), min(each), max(each)) for n, each in runs.items()])
    others = np.ones(OTHERS_BYTES, np.uint8)
    pauses: dict[str, Callable[[], object]] = {
        "hot": lambda: None,
        "cold: 32 MiB were read": others.sum,
        "cold: 4 ms of sleep": lambda: time.sleep(0.004),
    }
    alone = [(name, *await alone_us(answer, data, pause, given.requests // 10)) for name, pause in pauses.items()]
    report.table(f"{stage}, one caller, time of a request", ["before it", "least", "p25, us", "p50, us"], alone)


async def cpu_us(answer: stubs.Answer, data: bytes, callers: int, requests: int) -> float:
    async def caller() -> None:
        for _ in range(requests // callers):
            await asyncio.create_task(answer(data))  # a task for each, as behind a server

    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - before) / (requests // callers * callers) * 1e6


async def alone_us(
    answer: stubs.Answer, data: bytes, pause: Callable[[], object], requests: int
) -> tuple[float, float, float]:
    """Minimum, lower quartile and median of the latency in microseconds; other load on the machine only adds to it."""
    took = []
    for _ in range(requests):
        pause()
        before = time.perf_counter()
        await answer(data)
        took.append((time.perf_counter() - before) * 1e6)
    return min(took), float(np.percentile(took, 25)), median(took)
