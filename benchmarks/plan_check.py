"""The rule of `triptych plan` against Triptych on this machine: one replica of each stage, at two rates."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.report import Report
from benchmarks.serving import workloads as serving
from benchmarks.serving.measurement import load, measure
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.systems.triptych import Triptych
from local.errors import LocalError
from local.programs.perf import PerfAnalyzer, ensure_perf_analyzer
from triptych_cli.plan import command as plan
from triptych_cli.plan import costs
from triptych_cli.plan.costs import STAGES, WORKLOADS, Costs, CostsError
from triptych_cli.plan.replicas import p99_s

HELP = "planned and measured cores and p99 of Triptych, at half and all of a rate"
TITLE = "Plan against a run"
SHARES = (0.5, 1.0)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--costs", type=Path, default=costs.FILE, help="results.json of the benchmark")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="sales", help="costs and requests of which")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    plan.add_target(parser)


def main(given: argparse.Namespace, report: Report) -> int:
    """Measure at both rates, and print planned and measured figures side by side."""
    try:
        known = costs.read(given.costs, given.workload)
    except CostsError as error:
        raise LocalError(str(error)) from None
    asked = serving.WORKLOADS[WORKLOADS[given.workload]]
    program, system = ensure_perf_analyzer(), Triptych()
    with tempfile.TemporaryDirectory(prefix="triptych-plan-") as folder:
        root = Path(folder)
        try:
            system.start(root, [asked])
            prepared = measure.prepare(program, system, asked, root)
            rates = [given.requests * share for share in SHARES]
            rows = [_row(known, rate, prepared, asked, given.seconds, program) for rate in rates]
        finally:
            system.stop()
    head = ["requests/s", *(f"cores of {stage}: planned, used" for stage in STAGES), "p99: planned, seen", "neighbours"]
    report.text(plan.costs_sentence(known, given.workload))
    report.table(f"The rule against a run, {given.workload}, one replica of each", head, rows)
    return 0


def _row(
    known: Costs,
    rate: float,
    prepared: measure.Prepared,
    asked: serving.ServingWorkload,
    seconds: float,
    program: PerfAnalyzer,
) -> list[str]:
    count = max(8, round(rate * seconds))
    seen = measure.observe(
        prepared.system, asked, f"{rate:g}/s", 0, lambda: load.poisson(program, prepared.target, rate, count)
    )
    separate = known.separate
    planned_ms = 1000 * p99_s(separate.stages, dict.fromkeys(STAGES, 1), rate, separate.rpc_overhead_s)
    cores = [f"{rate * separate.stages[stage].at(rate):.2f}, {seen.rate * _cpu_s(seen, stage):.2f}" for stage in STAGES]
    return [f"{seen.rate:,.0f}", *cores, f"{planned_ms:.1f} ms, {seen.p99_ms:.1f} ms", f"{100 * seen.others:.0f} %"]


def _cpu_s(seen: Run, stage: str) -> float:
    """CPU seconds of one request."""
    return sum(value for name, value in seen.cpu.items() if name == stage or name.startswith(f"{stage}:")) / 1000
