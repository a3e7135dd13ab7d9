"""Comparison of the planner with the chain on this machine: one replica of each stage, at half of a rate and at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.planning.costs import STAGES, WORKLOADS, Costs
from benchmarks.planning.plan import Target, p99_s
from benchmarks.report import Report
from benchmarks.serving import load, measure
from benchmarks.serving import workloads as serving
from benchmarks.serving.measure import Run
from benchmarks.serving.systems.triptych import Triptych
from local.perf import PerfAnalyzer, ensure_perf_analyzer

SHARES = (0.5, 1.0)


def run(known: Costs, workload: str, target: Target, seconds: float, report: Report) -> None:
    """Measure the chain and report planned and measured figures side by side."""
    asked = serving.WORKLOADS[WORKLOADS[workload]]
    program, system = ensure_perf_analyzer(), Triptych()
    with tempfile.TemporaryDirectory(prefix="triptych-plan-") as folder:
        root = Path(folder)
        try:
            system.start(root, [asked])
            prepared = measure.prepare(program, system, asked, root)
            rows = [_one(known, target.rate * share, prepared, asked, seconds, program) for share in SHARES]
        finally:
            system.stop()
    head = ["requests/s", *(f"cores of {stage}: planned, used" for stage in STAGES), "p99: planned, seen", "neighbours"]
    report.table(f"The rule against a run, {workload}, one replica of each", head, rows)


def _one(
    known: Costs,
    rate: float,
    prepared: measure.Prepared,
    asked: serving.Workload,
    seconds: float,
    program: PerfAnalyzer,
) -> list[str]:
    count = max(8, round(rate * seconds))
    seen = measure.observe(
        prepared.system, asked, f"{rate:g}/s", 0, lambda: load.poisson(program, prepared.ask, rate, count)
    )
    planned_ms = 1000 * p99_s(known.stages, dict.fromkeys(STAGES, 1), rate, known.rpc_overhead_s)
    cores = [f"{rate * known.stages[stage].at(rate):.2f}, {seen.rate * _used(seen, stage):.2f}" for stage in STAGES]
    return [f"{seen.rate:,.0f}", *cores, f"{planned_ms:.1f} ms, {seen.p99_ms:.1f} ms", f"{100 * seen.others:.0f} %"]


def _used(seen: Run, stage: str) -> float:
    """CPU seconds of one request in a stage and its children."""
    return sum(value for name, value in seen.cpu.items() if name == stage or name.startswith(f"{stage}:")) / 1000
