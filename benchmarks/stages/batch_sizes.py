"""Requests in a batch when many models are called at once, by the slots of their Triton. Simulated, on preprocess's own
batcher, in time that passes only while it waits: independent of other load on the machine.

Callers draw a model by Zipf, wait for the answer, and draw again, as in W4. A simulated Triton has some cores. A call
takes one of them for `--call-ms`, and for `--row-ms` more by each request; calls beyond the cores wait in their order.
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
from collections.abc import Sequence
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.placement.traces import shares
from benchmarks.report import Report
from benchmarks.serving.many_models import EXPONENT
from preprocess.batching import Batch, Batcher, BatchLimits
from preprocess.settings import Settings
from preprocess.slots import Slots

HELP = "requests in a batch when many models are called at once, by slots; simulated"
TITLE = "Batches of many models"

TIMEOUT_S = 30.0
ROWS = 256
TURN_S = 1e-6  # of the loop


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--callers", default="16,64")
    parser.add_argument("--slots", default="0,4,8,16,32", help="0: no limit")
    parser.add_argument("--requests", type=int, default=10_000, help="of one run")
    parser.add_argument("--cores", type=int, default=2, help="of the simulated Triton")
    parser.add_argument("--call-ms", type=float, default=2.4, help="CPU of a call in all stages")
    parser.add_argument("--row-ms", type=float, default=0.06, help="CPU of a request more in a call")


def main(given: argparse.Namespace, report: Report) -> None:
    rows = []
    for callers in map(int, given.callers.split(",")):
        for slots in map(int, given.slots.split(",")):
            loop = _VirtualLoop()
            with mock.patch("time.monotonic", loop.time):
                rows.append((callers, slots or "no limit", *loop.run_until_complete(_run(given, callers, slots))))
            loop.close()
    columns = ["callers", "slots", "requests in a batch", "requests/s", "p50, ms", "p99, ms"]
    report.table(f"{given.models} models, Zipf({EXPONENT:g})", columns, rows)


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it waits."""

    def __init__(self) -> None:
        super().__init__(_Skipping(self))
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s


class _Skipping(selectors.SelectSelector):
    """Lets the time of a wait pass at once, and a little in each turn: timers compare times for less and not equal."""

    def __init__(self, loop: _VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        self._loop.now_s += max(timeout or 0.0, TURN_S)
        return super().select(0)


class _Request:
    rows = size_bytes = 1


async def _run(given: argparse.Namespace, callers: int, slots: int) -> tuple[float, float, float, float]:
    """Mean requests of a batch, requests/s, and the median and 99th percentile of the time of a request in ms."""
    loop, cores, calls, took_s = asyncio.get_running_loop(), asyncio.Semaphore(given.cores), [0], list[float]()
    settings = Settings()
    limits = BatchLimits(
        settings.max_in_flight_batches,
        settings.batch_max_wait_s,
        ROWS,
        settings.max_batch_bytes,
        Slots(slots, settings.batch_slot_s) if slots else None,
    )

    async def execute(batch: Batch[_Request]) -> Sequence[None]:
        calls[0] += 1
        async with cores:
            await asyncio.sleep((given.call_ms + given.row_ms * len(batch.requests)) / 1000)
        return [None] * len(batch.requests)

    batcher = Batcher[_Request, None](execute, lambda _: limits)
    drawn = iter(np.random.default_rng(1).choice(given.models, given.requests, p=shares(given.models, EXPONENT)))

    async def caller() -> None:
        for model in drawn:
            begun_s = loop.time()
            await batcher.submit(int(model), _Request(), TIMEOUT_S)
            took_s.append(loop.time() - begun_s)

    await asyncio.gather(*(caller() for _ in range(callers)))
    p99 = float(np.percentile(took_s, 99))
    return given.requests / calls[0], given.requests / loop.time(), 1000 * median(took_s), 1000 * p99
