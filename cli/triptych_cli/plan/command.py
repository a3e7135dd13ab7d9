"""The command line of `triptych plan`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych_cli.arguments import argument_type, command_parser, number_between, whole_number
from triptych_cli.plan import costs
from triptych_cli.plan.costs import STAGES, WORKLOADS, Costs, CostsError
from triptych_cli.plan.replicas import LoadTarget, ReplicaPlan, alternatives

UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
HEAD = [
    "",
    "replicas (utilisation)",
    "cores",
    "GPUs",
    "models' memory",
    "p99 at most",
    "price in cores",
    "to the first",
]

DESCRIPTION = """\
Compute how many replicas of each stage a load needs, with separate stages, with postprocess in process, and grouped in
one pod, and the price of each. Costs of a request are measured ones: those of the project's example models, which come
with this command, or those of --costs.
"""
EPILOG = """\
examples:
  triptych plan --requests 500 --p99 50ms --workload sales
  triptych plan --requests 200 --p99 30ms --workload digits --gpu 2ms --gpu-price 20
  triptych plan --requests 500 --costs benchmarks/results/serving/results.json    measured by: make bench

exit status: 0, 1 if no plan meets the target or there are no costs, 2 for wrong options
"""


def main(arguments: Sequence[str]) -> int:
    """Print the plans, the cheapest first. Returns 1 if none meets the target."""
    options = command_line().parse_args(arguments)
    try:
        known = costs.read(options.costs, options.workload)
    except CostsError as error:
        sys.stderr.write(f"plan: {error}\n")
        return 1
    target = target_of(options)
    plans = alternatives(known, target)
    title = f"{target.rate:g} requests/s of {options.workload}, p99 within {1000 * target.p99_s:g} ms"
    table = markdown_table(title, HEAD, [row(plan, plans[0]) for plan in plans])
    print("\n\n".join([costs_sentence(known, options.workload), table, conclusion(plans)]))
    return 0 if plans[0].meets_target else 1


def command_line() -> argparse.ArgumentParser:
    """The options of `triptych plan`."""
    made = command_parser("plan", DESCRIPTION, EPILOG)
    made.add_argument("--costs", type=Path, default=costs.FILE, metavar="FILE", help="results.json of make bench")
    made.add_argument("--workload", choices=sorted(WORKLOADS), default="sales", help="costs of which; default sales")
    add_target(made)
    return made


def add_target(made: argparse.ArgumentParser) -> None:
    """Add the options of the load, of the hardware and of its prices."""
    seconds, price = argument_type(duration_s), number_between(0, 1e6, "a price in cores")
    made.add_argument(
        "--requests", type=number_between(0.001, 1e7, "requests/s"), default=500.0, metavar="N", help="peak requests/s"
    )
    made.add_argument("--p99", type=seconds, default="50ms", metavar="TIME", help="latency target; default 50ms")
    made.add_argument("--gpu", type=seconds, metavar="TIME", help="the model runs on a GPU, for that time per request")
    made.add_argument("--gpu-price", type=price, default=10.0, metavar="N", help="price of a GPU in cores; default 10")
    made.add_argument(
        "--models-gib", type=price, default=1.5, metavar="N", help="GiB of models in each predictor; default 1.5"
    )
    made.add_argument("--gib-price", type=price, default=0.15, metavar="N", help="price of a GiB; default 0.15 cores")
    made.add_argument(
        "--max-utilisation", type=number_between(0.01, 1, "a share"), default=0.7, metavar="N", help="default 0.7"
    )
    made.add_argument("--min-replicas", type=whole_number(1, "replicas"), default=1, metavar="N", help="default 1")


def target_of(options: argparse.Namespace) -> LoadTarget:
    """The target from the options of `add_target`."""
    return LoadTarget(
        rate=options.requests,
        p99_s=options.p99,
        gpu_s=options.gpu or 0.0,
        gpu_price=options.gpu_price,
        models_gib=options.models_gib,
        gib_price=options.gib_price,
        max_utilisation=options.max_utilisation,
        min_replicas=options.min_replicas,
    )


def duration_s(text: str) -> float:
    """Parse `50ms`, `200us`, `0.05s` or `0.05` to seconds. Raises `ValueError`."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|us|s|)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"want a time such as 50ms or 0.05s, got '{text}'")
    return float(found[1]) * UNITS[found[2]]


def row(plan: ReplicaPlan, first: ReplicaPlan) -> list[str]:
    """The cells of one plan."""
    replicas = ", ".join(
        f"{name} {count} ({100 * plan.utilisation[name]:.0f} %)" for name, count in plan.replicas.items()
    )
    missed = "" if plan.meets_target else ", out of reach"
    return [
        *(plan.name, replicas, str(plan.cores), str(plan.gpus), f"{plan.gib:.1f} GiB"),
        *(f"{1000 * plan.p99_s:.1f} ms{missed}", f"{plan.price:.1f}", f"{plan.price / first.price:.2f}"),
    ]


def costs_sentence(known: Costs, workload: str) -> str:
    """The measured points that the plans are computed from."""
    stages = "; ".join(
        f"{stage} "
        + ", ".join(f"{1e6 * cost:.0f} us at {rate:,.0f}/s" for rate, cost in known.separate.stages[stage].points)
        for stage in STAGES
    )
    text = f"CPU of one request ({workload}): {stages}. RPC overhead: {1e3 * known.separate.rpc_overhead_s:.2f} ms."
    if known.in_process is None:
        text += f" Postprocess in process was not measured (system {costs.IN_PROCESS}): grouped costs less than shown."
    return text


def conclusion(plans: Sequence[ReplicaPlan]) -> str:
    """The cheapest plan, and the price of the others by comparison."""
    first, target = plans[0], plans[0].target
    if not first.meets_target:
        return f"No plan keeps p99 within {1000 * target.p99_s:g} ms: the best comes to {1000 * first.p99_s:.1f} ms."
    others = [f"{plan.name} costs {plan.price / first.price:.2f} times that" for plan in plans[1:] if plan.meets_target]
    return f"**{first.name}**: the price of {first.price:.1f} cores" + "".join(f"; {other}" for other in others) + "."


def markdown_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A heading and a Markdown table with aligned columns."""
    widths = [max(len(cells[at]) for cells in (head, *rows)) for at in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([f"### {title}", "", *(f"| {line} |" for line in cells)])
