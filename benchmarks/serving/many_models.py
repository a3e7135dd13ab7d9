"""W4: many countries (200) with Zipf popularity. Each country is a copy of a sales model.

One run of ghz sends the requests to all countries in drawn order; perf_analyzer calls one model per run. 200 models
take 6 GB in each Triton, so a peer runs only while it is compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import model_folders
from benchmarks.placement.traces import shares
from benchmarks.serving.bench import REFERENCE, Bench, make
from benchmarks.serving.figures import tables
from benchmarks.serving.figures.goals import Goal
from benchmarks.serving.measurement import cpu, ghz, measure
from benchmarks.serving.measurement.answers import Case, check_cases
from benchmarks.serving.measurement.ghz import GhzResult
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.systems.base import System
from benchmarks.serving.systems.triptych import Triptych
from benchmarks.serving.workloads import WORKLOADS, Arrays, ServingWorkload

EXPONENT = 1.1
MESSAGES = 4000  # drawn once, sent repeatedly
DEADLINE_S = 10.0
WORKLOAD = replace(WORKLOADS["W1"], name="W4", title=f"many countries, Zipf({EXPONENT:g})")


def workloads(count: int) -> list[ServingWorkload]:
    """One workload per country; the right answers are those of the model that it copies."""
    originals = [path.name for path in sorted(model_folders.SOURCE.glob(f"{model_folders.FAMILY}_*"))]
    return [
        replace(WORKLOAD, model=model_folders.name_of(number), original=originals[number % len(originals)])
        for number in range(count)
    ]


def run(bench: Bench) -> list[Goal]:
    """Measure Triptych in turns with each peer that has a Triton, and report the figures."""
    models = bench.root / "countries"
    model_folders.publish(models, bench.countries)
    each = workloads(bench.countries)
    others = [name for name in bench.systems if name != REFERENCE and not make(name, models).own_model]
    runs: list[Run] = []
    with bench.running("W4", each, [REFERENCE], models) as ours:
        for pair, name in enumerate(others or [""]):
            with ExitStack() as stack:
                systems = list(ours)
                if name:
                    systems += stack.enter_context(bench.running("W4", each, [name], models))
                runs += _turns(bench, systems, each, pair * bench.repeats)
    bench.progress.clear()
    title = f"{bench.countries} countries, Zipf({EXPONENT:g})"
    tables.add_to(bench.report, replace(WORKLOAD, title=title), runs, REFERENCE)
    bench.runs.extend(runs)
    return []


def _turns(bench: Bench, systems: Sequence[System], each: Sequence[ServingWorkload], first_round: int) -> Iterator[Run]:
    """Measure one pair of systems. Its rounds have distinct numbers, so that ratios stay within a round."""
    data = []
    for system in systems:
        bench.progress.show(f"W4: {system.name} answers for {len(each)} countries")
        _check(system, each)
        data.append(_messages(system, each, bench.root))
    protoset = ghz.write_protoset(bench.root / "oip.protoset")
    rates: dict[str, float] = {}
    for callers in (many for many in bench.callers if many > 1):
        names = [system.name for system in systems]
        for number, at in bench.rounds(f"W4, {callers} callers", names):
            system, key = systems[at], f"{names[at]} {callers}"
            if key not in rates:
                rates[key] = _shoot(system, data[at], protoset, callers, 10 * callers).rate
            total = max(callers, round(rates[key] * bench.seconds))
            found = observe(system, callers, first_round + number, data[at], protoset, total)
            rates[key] = found.rate
            yield found


def observe(system: System, callers: int, number: int, data: Path, protoset: Path, total: int) -> Run:
    """Measure one run with the CPU of every process."""
    before, machine, start = cpu.of_parts(system.pids()), cpu.of_machine(), time.monotonic()
    result = _shoot(system, data, protoset, callers, total)
    used, busy = cpu.difference(before, cpu.of_parts(system.pids())), cpu.of_machine() - machine
    seconds = time.monotonic() - start
    good = result.good
    return Run(
        *(system.name, WORKLOAD.name, f"{callers} callers", number, len(good), result.rate),
        *(result.ms(50, good), result.ms(90, good), result.ms(99, good)),
        errors=int((~good).sum()),
        seconds=seconds,
        cpu={name: 1000 * value / len(good) for name, value in used.items()},
        load_cpu=1000 * result.cpu_s / len(good),
        others=max(0.0, (busy - sum(used.values()) - result.cpu_s) / (seconds * measure.cores())),
    )


def _shoot(system: System, data: Path, protoset: Path, callers: int, total: int) -> GhzResult:
    return ghz.shoot(system.address, data, protoset, total, ["--concurrency", str(callers)], DEADLINE_S)


def _check(system: System, each: Sequence[ServingWorkload]) -> None:
    """Check the answer of every country once, which also loads cold models."""
    cases = [Case(system.model(one), system.requests(one)[0], system.answers(one)[0]) for one in each]
    check_cases(system, WORKLOAD.name, cases)


def _messages(system: System, each: Sequence[ServingWorkload], folder: Path) -> Path:
    """Write the drawn requests; the seed is the same for every system."""
    rng = np.random.default_rng(1)
    numbers = rng.choice(len(each), MESSAGES, p=shares(len(each), EXPONENT)).tolist()
    requests = [system.requests(workload) for workload in each]
    messages = (
        _message(system, each[number], requests[number][at % len(requests[number])], number)
        for at, number in enumerate(numbers)
    )
    return ghz.write_messages(messages, folder / f"{system.name}-countries.json")


def _message(system: System, workload: ServingWorkload, tensors: Arrays, number: int) -> dict[str, object]:
    """A request by family and route for Triptych, by the model's name for the others."""
    if isinstance(system, Triptych):
        return ghz.message(model_folders.FAMILY, tensors, model_folders.route_of(number))
    return ghz.message(system.model(workload), tensors)
