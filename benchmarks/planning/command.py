"""Replicas of each stage for a target, grouped and separate, with their price, from measured costs.

Example: `--requests 500 --p99 50ms --workload sales`. Costs are read from the results of the last `make bench`. The
model is described at the top of benchmarks/planning/plan.py. `--check` compares it with the running chain at two rates.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from benchmarks.planning import check, costs
from benchmarks.planning.costs import STAGES, WORKLOADS, Costs
from benchmarks.planning.plan import Plan, Target, alternatives
from benchmarks.report import RESULTS, Report
from local.environments import ROOT

HELP = "replicas of each stage for a target, grouped or separate, from measured costs"
TITLE = "Plan"
FILE = ROOT / RESULTS / "serving/results.json"
UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def seconds(text: str) -> float:
    """Parse `50ms`, `0.05s` or `0.05` into seconds."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|us|s|)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"want a time such as 50ms or 0.05s, got '{text}'")
    return float(found[1]) * UNITS[found[2]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=float, default=500.0, help="a second, at the peak")
    parser.add_argument("--p99", type=seconds, default="50ms", help="99 of 100 requests take at most that long")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="sales", help="whose costs")
    parser.add_argument("--gpu", type=seconds, default=None, help="the model runs on a GPU, that long a request")
    parser.add_argument("--gpu-price", type=float, default=10.0, help="of one GPU, in cores")
    parser.add_argument("--models-gib", type=float, default=1.5, help="memory of the models in each predictor")
    parser.add_argument("--gib-price", type=float, default=0.15, help="of one GiB of memory, in cores")
    parser.add_argument("--cap", type=float, default=0.7, help="no replica is busier than that")
    parser.add_argument("--least", type=int, default=1, help="replicas of everything at least")
    parser.add_argument("--costs", type=Path, default=FILE, help="results of the benchmark")
    parser.add_argument("--check", action="store_true", help="run the chain at half and at all of the requests")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run of --check")


def main(given: argparse.Namespace, report: Report) -> int:
    """Print the plans, the cheapest first. Return 1 if no plan reaches the target."""
    known = costs.read(given.costs, given.workload)
    target = Target(
        *(given.requests, given.p99, given.gpu or 0.0, given.gpu_price),
        *(given.models_gib, given.gib_price, given.cap, given.least),
    )
    report.text(sentence(known, given.workload))
    if given.check:
        check.run(known, given.workload, target, given.seconds, report)
        return 0
    plans = alternatives(known, target)
    title = f"{target.rate:g} requests/s of {given.workload}, p99 within {1000 * target.p99_s:g} ms"
    report.table(title, HEAD, [row(plan, plans[0]) for plan in plans])
    report.text(verdict(plans))
    return 0 if plans[0].reached else 1


HEAD = ["", "replicas (busy)", "cores", "GPUs", "models' memory", "p99 at most", "price in cores", "to the first"]


def row(plan: Plan, first: Plan) -> list[str]:
    """Table row of a plan, with its price relative to the first plan."""
    replicas = ", ".join(f"{name} {count} ({100 * plan.busy[name]:.0f} %)" for name, count in plan.replicas.items())
    reached = "" if plan.reached else ", out of reach"
    return [
        *(plan.name, replicas, str(plan.cores), str(plan.gpus), f"{plan.gib:.1f} GiB"),
        *(f"{1000 * plan.p99_s:.1f} ms{reached}", f"{plan.price:.1f}", f"{plan.price / first.price:.2f}"),
    ]


def sentence(known: Costs, workload: str) -> str:
    """The measured costs that the plans are computed from."""
    stages = "; ".join(
        f"{stage} " + ", ".join(f"{1e6 * cost:.0f} us at {rate:,.0f}/s" for rate, cost in known.stages[stage].points)
        for stage in STAGES
    )
    text = f"CPU of one request ({workload}): {stages}. RPC overhead alone: {1e3 * known.rpc_overhead_s:.2f} ms."
    if known.in_process is None:
        text += f" The chain in process was not measured (system {costs.IN_PROCESS}): grouped costs less than shown."
    return text


def verdict(plans: list[Plan]) -> str:
    """The cheapest plan that reaches the target, and the price of the others relative to it."""
    first, target = plans[0], plans[0].target
    if not first.reached:
        return f"No plan keeps p99 within {1000 * target.p99_s:g} ms: the best comes to {1000 * first.p99_s:.1f} ms."
    others = [f"{plan.name} costs {plan.price / first.price:.2f} times that" for plan in plans[1:] if plan.reached]
    return f"**{first.name}**: {first.price:.1f} cores' worth" + "".join(f"; {other}" for other in others) + "."
