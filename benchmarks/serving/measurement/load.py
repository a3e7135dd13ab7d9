"""Load by `perf_analyzer`: a number of requests at a concurrency or a rate, and the measured latencies."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from local.errors import LocalError
from local.programs.perf import PerfAnalyzer
from triptych.datatypes import Array

TIMEOUT_S = 60.0  # on top of the expected duration
TRIES = 3
# One thread sends, whatever the number of callers: with more threads, 2.49 with a request count hangs in
# 7 of 100 runs (25 runs each of 1,000 requests, 64 callers, against Triton alone; with one in none of 85, 2026-11-21).
ONE_THREAD = ("--max-threads", "1")
SENT = re.compile(rb'"timestamp":\s*(\d+)')
ANSWERED = re.compile(rb'"response_timestamps":\s*\[([\d,\s]+)\]')


@dataclass(frozen=True)
class RequestTarget:
    """Target of a load: address, model, and the file with the requests' data."""

    address: str
    model: str
    data: Path
    rows: int = 1
    options: Sequence[str] = ()


@dataclass(frozen=True)
class LoadResult:
    """Result of one run; `cpu_s` is the CPU time of the load generator. Times count from the first sending."""

    sent_s: Array
    took_s: Array
    seconds: float
    cpu_s: float

    @property
    def requests(self) -> int:
        return len(self.sent_s)

    @property
    def rate(self) -> float:
        """Requests/s, from the first sending to the last answer."""
        return self.requests / float((self.sent_s + self.took_s).max() - self.sent_s.min())

    def ms(self, percentile: float) -> float:
        return 1000 * float(np.percentile(self.took_s, percentile))


def closed(program: PerfAnalyzer, target: RequestTarget, callers: int, requests: int) -> LoadResult:
    """Closed loop: each caller sends its next request after the answer to the one before."""
    requests = max(requests, callers)
    return _run(program, target, requests, ["-a", "--concurrency-range", str(callers)])


def poisson(program: PerfAnalyzer, target: RequestTarget, rate: float, requests: int) -> LoadResult:
    """Open loop with Poisson arrivals."""
    words = ["-a", "--request-rate-range", f"{rate:.1f}", "--request-distribution", "poisson"]
    return _run(program, target, requests, words)


def at_intervals(program: PerfAnalyzer, target: RequestTarget, intervals_us: Path, requests: int) -> LoadResult:
    """Open loop with the intervals of a file, in microseconds, repeated."""
    return _run(program, target, requests, ["-a", "--request-intervals", str(intervals_us)])


def _run(program: PerfAnalyzer, target: RequestTarget, requests: int, words: Sequence[str]) -> LoadResult:
    report = target.data.with_suffix(".profile.json")
    command = [
        *(str(program.path), "-m", target.model, "-i", "grpc", "-u", target.address),
        *("--input-data", str(target.data), "-b", str(target.rows), "--request-count", str(requests), *ONE_THREAD),
        *("--profile-export-file", str(report), *words, *target.options),
    ]
    for _ in range(TRIES):
        report.unlink(missing_ok=True)
        before, start = os.times(), time.monotonic()
        try:
            done = subprocess.run(command, env=program.variables, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        seconds, after = time.monotonic() - start, os.times()
        if done.returncode or not report.exists():
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-6:]
            raise LocalError("\n".join([f"{target.model}: perf_analyzer ended with {done.returncode}:", *said]))
        cpu_s = (after.children_user - before.children_user) + (after.children_system - before.children_system)
        return read(report.read_bytes(), seconds, cpu_s)
    raise LocalError(
        f"{target.model} at {target.address}: perf_analyzer came to no end in {TIMEOUT_S:.0f} s, {TRIES} times"
    )


def read(profile: bytes, seconds: float, cpu_s: float) -> LoadResult:
    """Send and answer times from a profile of perf_analyzer, in nanoseconds.

    The profile holds raw request bytes and is not valid JSON for pictures, so it is searched by patterns.
    """
    sent = np.array([int(each) for each in SENT.findall(profile)], np.int64)
    answered = np.array([int(each.split(b",")[-1]) for each in ANSWERED.findall(profile)], np.int64)
    if not len(sent) or len(sent) != len(answered):
        raise LocalError(f"perf_analyzer's profile has {len(sent)} requests and {len(answered)} answers")
    return LoadResult((sent - sent.min()) / 1e9, (answered - sent) / 1e9, seconds, cpu_s)
