"""Lower bound of a request's time on this machine: preprocessing in a bare loop on each core, and Triton alone.

Each is measured with all cores. A request that takes both in sequence needs 1 / loops + 1 / Triton of the machine's
time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.serving.measurement.measure import Run, cores
from benchmarks.serving.systems.predictor import Triton
from benchmarks.serving.workloads import ServingWorkload
from local.environments import ROOT

LOOPS, BOUND = "bare loops", "bare loops + triton"
NONE = float("nan")
PROGRAM = "benchmarks.serving.programs.bare_loop"


def bare_loops(workload: ServingWorkload, round_: int, seconds: float, folder: Path) -> Run:
    """Run one loop per core at once. The run has no latencies, since no caller waits."""
    file = folder / f"{workload.name}.npz"
    if not file.exists():
        np.savez(file, allow_pickle=True, kind=np.array(workload.kind), **workload.requests[0])
    command = [sys.executable, "-m", PROGRAM, str(file), str(seconds)]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(cores())
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [_end(process) for process in running]
    rate = sum(count / took for count, took, _ in ended)
    count, used = sum(each[0] for each in ended), sum(each[2] for each in ended)
    return Run(
        *(LOOPS, workload.name, "", round_, int(count), rate, NONE, NONE, NONE),
        errors=0,
        seconds=seconds,
        cpu={"loop": 1000 * used / count},
        load_cpu=0.0,
        others=0.0,
    )


def _end(process: subprocess.Popen[str]) -> tuple[float, float, float]:
    said, _ = process.communicate()
    count, seconds, cpu_s = map(float, said.split())
    return count, seconds, cpu_s


def combined(bare: Sequence[Run], runs: Sequence[Run]) -> list[Run]:
    """Lower bound of each round, from the run of Triton alone and the loops of that round."""
    by_round = {run.round: run for run in bare}
    return [_combined(by_round[run.round], run) for run in runs if run.system == Triton.name and run.round in by_round]


def _combined(bare: Run, triton: Run) -> Run:
    """Add the times per request (reciprocal rates) and the CPU."""
    rate = 1 / (1 / bare.rate + 1 / triton.rate)
    cpu = {**bare.cpu, **triton.cpu}
    return replace(triton, system=BOUND, rate=rate, cpu=cpu, p50_ms=NONE, p90_ms=NONE, p99_ms=NONE)
