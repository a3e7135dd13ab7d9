"""Instructions of a request in the stages' Python code, by callgrind; independent of other load on the machine.

The request is alone, or one of `--at-once` to as many models. `hot` is a request that directly follows another. `cold`
is one after 8 MiB of other memory were written. Cache lines are the 64-byte lines, of instructions and data, that miss
a simulated cache of 1 MiB. The cost of an empty request is subtracted, so that the event loop and the measurement do
not count.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop

from benchmarks.report import Report
from benchmarks.stages import stubs
from local.environments import ROOT
from local.errors import LocalError
from triptych.contract import numpy_warnings

HELP = "instructions and cache lines of a request in each stage's own Python, by valgrind"
TITLE = "Instructions of a request"

CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64")
OTHERS_BYTES = 8 << 20
WARM = 100  # requests before the first is measured
PHASES = ("nothing, hot", "hot", "nothing, cold", "cold")
COUNTED = "_PySys_GetSizeOf"  # callgrind counts while `sys.getsizeof` calls `__sizeof__`


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=100, help="measured in each phase")
    parser.add_argument(
        "--at-once", type=int, default=1, help=f"requests at once, each to another model, 1 to {len(stubs.MODEL_NAMES)}"
    )
    parser.add_argument("--stages", default=",".join(stubs.STAGES), help="measured, separated by commas")
    parser.add_argument(
        "--hot", action="store_true", help="count hot requests alone, without caches: a tenth of the time"
    )
    parser.add_argument("--inside", choices=list(stubs.STAGES), help=argparse.SUPPRESS)


def main(given: argparse.Namespace, report: Report) -> int | None:
    if given.inside:
        return _inside(given.inside, given.requests, given.at_once, _phases(given))
    if shutil.which("valgrind") is None:
        raise LocalError("valgrind is not there; on Debian: apt-get install valgrind")
    rows = []
    for stage in given.stages.split(","):
        instructions, lines = zip(*_counted(stage, given), strict=True)
        figures = {"hot": instructions[1] - instructions[0]}
        if not given.hot:
            figures |= {"cold": instructions[3] - instructions[2], "cold lines": lines[3] - lines[2]}
        rows.append((stage, *figures.values()))
        report.figures(stage, figures)
    columns = ["stage", "instructions, hot", "cold", "cache lines, cold"]
    title = f"One of {given.at_once} requests at once, each to another model" if given.at_once > 1 else "A lone request"
    report.table(f"{title}, of W1", columns[: len(rows[0])], rows)
    return None


def _phases(given: argparse.Namespace) -> tuple[str, ...]:
    return PHASES[:2] if given.hot else PHASES


def _counted(stage: str, given: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Instructions and missed cache lines of a request, for each phase."""
    with tempfile.TemporaryDirectory(prefix="triptych-instructions-") as folder:
        inside = [
            sys.executable,
            "-m",
            "benchmarks",
            "instructions",
            "--inside",
            stage,
            "--requests",
            str(given.requests),
            "--at-once",
            str(given.at_once),
        ]
        inside, caches = ([*inside, "--hot"], ()) if given.hot else (inside, CACHES)
        watch = ["--instr-atstart=no", "--collect-atstart=no", f"--toggle-collect={COUNTED}"]
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", *watch, *caches, *inside]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise LocalError(f"valgrind ended with {done.returncode}: {done.stderr[-2000:]}")
        for number in range(1, len(_phases(given)) + 1):
            totals = _totals(Path(folder, f"out.{number}").read_text())
            fetched = sum(totals.get(event, 0) for event in ("ILmr", "DLmr", "DLmw"))
            requests = given.requests * given.at_once
            yield totals["Ir"] // requests, fetched // requests


def _totals(dump: str) -> dict[str, int]:
    """Total costs in a callgrind dump, by event."""
    events, totals = (re.search(rf"^{key}: (.*)$", dump, re.MULTILINE) for key in ("events", "(?:totals|summary)"))
    if events is None or totals is None:
        raise LocalError("callgrind's dump has no totals")
    return dict(zip(events[1].split(), map(int, totals[1].split()), strict=False))


class _Counted:
    """An object whose `__sizeof__` runs one request for each of the data, so that callgrind can count them alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, request: stubs.Answer, data: Sequence[bytes]):
        self._loop, self._request, self._data = loop, request, data

    def __sizeof__(self) -> int:
        if len(self._data) == 1:
            self._loop.run_until_complete(self._request(self._data[0]))
        else:
            self._loop.run_until_complete(self._together())
        return 0

    async def _together(self) -> None:
        await asyncio.gather(*map(self._request, self._data))


def _inside(stage: str, requests: int, at_once: int, phases: Sequence[str]) -> int:
    """Run all phases in sequence; valgrind runs this function."""
    numpy_warnings.turn_off()
    loop, contract = uvloop.new_event_loop(), stubs.contract()
    asyncio.set_event_loop(loop)

    async def build() -> stubs.Answer:
        return await stubs.STAGES[stage](contract)

    async def nothing(data: bytes) -> bytes:
        return data

    answer = loop.run_until_complete(build())
    data = [stubs.request_bytes(stage, contract, number) for number in range(at_once)]
    empty, request = _Counted(loop, nothing, data), _Counted(loop, answer, data)
    for _ in range(WARM):
        sys.getsizeof(request)
    others = ctypes.create_string_buffer(OTHERS_BYTES)
    _control_valgrind("instrumentation on")  # not earlier: simulating the imports would take a minute
    for phase in phases:
        for number in range(requests):
            if phase.endswith("cold"):
                ctypes.memset(others, number % 256, OTHERS_BYTES)
            sys.getsizeof(empty if phase.startswith("nothing") else request)
        _control_valgrind("dump")
    return 0


def _control_valgrind(command: str) -> None:
    client = subprocess.Popen(["vgdb", f"--pid={os.getpid()}", command], stdout=subprocess.DEVNULL)
    while client.poll() is None:  # valgrind listens while the program runs
        pass
