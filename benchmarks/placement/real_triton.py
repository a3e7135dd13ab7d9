"""1,000 models on a real Triton with 50 slots: the cost of a request to a loaded model, and to another.

Phases alternate. In the first kind the trace goes through the whole stack. In the second its hits, at the same moments,
go through a stack whose Triton has all their models loaded and whose controller is stopped. In the third it is the
same, and that Triton loads and unloads the cold models of the first at the same moments, by plain calls: what loading
costs the neighbours on this machine with no controller anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.load import Answer, ScheduledRequest
from benchmarks.model_folders import name_of, publish
from benchmarks.placement import controller_log
from benchmarks.placement.controller_log import Loads, PlacementEvent
from benchmarks.placement.replay import replay_events
from benchmarks.placement.traces import Array, shares
from benchmarks.report import Report
from examples.models.progress import TaskProgress
from local.endpoints import free_endpoints
from local.environments import ensure
from local.errors import LocalError
from local.stack import LocalStack

HELP = "1,000 models in 50 slots of a real Triton, against a Triton that has every requested model loaded"
TITLE = "Placement on a real Triton"

TRIPTYCH, LOADED, LOADING = "triptych", "all loaded", "all loaded, same loads by hand"
AT_ONCE = 2  # loads while stacks are prepared
LOG_S = 0.3  # until the last decision of a phase is in the log


@dataclass
class TraceAnswers:
    """Answers by kind of phase, with the data that distinguishes hits from loads."""

    answers: dict[str, list[Answer]] = field(default_factory=lambda: {TRIPTYCH: [], LOADED: [], LOADING: []})
    hits: list[Answer] = field(default_factory=list)
    cold: list[tuple[Answer, PlacementEvent]] = field(default_factory=list)
    events: list[PlacementEvent] = field(default_factory=list)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--places", type=int, default=50)
    parser.add_argument("--exponent", type=float, default=1.1, help="of Zipf's law")
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the trace; all takes about four times as long")
    parser.add_argument("--phase-s", type=float, default=60.0, help="before the other stack has its turn")
    parser.add_argument("--seed", type=int, default=1)


def main(given: argparse.Namespace, report: Report) -> None:
    """Prepare both stacks, measure them in turns, and report."""
    progress = TaskProgress()
    with tempfile.TemporaryDirectory(prefix="triptych-placement-") as folder, ExitStack() as started:
        root = Path(folder)
        progress.begin(f"placement: {given.models} model folders")
        publish(root / "models", given.models)
        (root / "documents").mkdir()
        progress.begin("placement: two stacks start")
        ours = started.enter_context(_stack(root, "ours", CONTROLLER_MAX_MODELS=str(given.places)))
        other = started.enter_context(_stack(root, "other", CONTROLLER_IDLE_TTL_S="0"))
        seen = asyncio.run(_alternate(ours, other, given, progress))
        progress.end()
    _report(seen, given, report)


def _stack(root: Path, name: str, **variables: str) -> LocalStack:
    return LocalStack(
        free_endpoints(),
        root / name,
        ensure("predictor"),
        model_repository=root / "models",
        served_models=root / "documents",
        variables=variables,
    )


async def _alternate(
    ours: LocalStack, other: LocalStack, given: argparse.Namespace, progress: TaskProgress
) -> TraceAnswers:
    phases, popular = _trace(given)
    progress.begin("placement: the most popular models are loaded in both")
    _all_good(await load.send_all(ours.address("preprocess"), popular[: given.places], AT_ONCE))
    _all_good(await load.send_all(other.address("preprocess"), popular[: given.places], AT_ONCE))
    loaded = set(popular[: given.places])
    other.stop_component("controller")
    seen = TraceAnswers()
    for number, phase in enumerate(phases, start=1):
        progress.begin(f"placement: phase {number} of {len(phases)}")
        hits, events = await _ours(ours, phase, seen)
        other.start_component("controller")
        missing = sorted({due.model for due in hits} - loaded)
        _all_good(await load.send_all(other.address("preprocess"), missing, AT_ONCE))
        loaded |= set(missing)
        other.stop_component("controller")
        seen.answers[LOADED] += await load.send(other.address("preprocess"), hits)
        start_s = seen.answers[TRIPTYCH][-1].sent_s - phase[-1].at_s
        by_hand = asyncio.create_task(replay_events(other, events, start_s, loaded, given.models))
        seen.answers[LOADING] += await load.send(other.address("preprocess"), hits)
        await by_hand
    return seen


async def _ours(
    stack: LocalStack, phase: list[ScheduledRequest], seen: TraceAnswers
) -> tuple[list[ScheduledRequest], list[PlacementEvent]]:
    """The phase through the whole stack; its hits, and what was loaded and unloaded meanwhile."""
    before = len(seen.events)
    answers = await load.send(stack.address("preprocess"), phase)
    await asyncio.sleep(LOG_S)
    seen.events = controller_log.read(stack.log("controller"))
    events = [event for event in seen.events[before:] if event.ended_s >= answers[0].sent_s]
    loads, hits = Loads(events), []
    for answer in answers:
        waited = loads.waited_for(name_of(answer.due.model), answer.sent_s, answer.sent_s + answer.seconds)
        if waited is not None:
            seen.cold.append((answer, waited))
        elif not answer.error:
            seen.hits.append(answer)
            hits.append(answer.due)
    seen.answers[TRIPTYCH] += answers
    return hits, events


def _trace(given: argparse.Namespace) -> tuple[list[list[ScheduledRequest]], list[int]]:
    """Phases of a steady trace, each with times of its own; and the models, the most popular first."""
    rng = np.random.default_rng(given.seed)
    names: Array = rng.permutation(given.models)
    count = int(given.rate * given.seconds)
    at_s = np.cumsum(rng.exponential(1 / given.rate, count))
    asked = names[rng.choice(given.models, count, p=shares(given.models, given.exponent))]
    phases: list[list[ScheduledRequest]] = [[] for _ in range(int(at_s[-1] // given.phase_s) + 1)]
    for moment, model in zip(at_s.tolist(), asked.tolist(), strict=True):
        number = int(moment // given.phase_s)
        phases[number].append(ScheduledRequest(moment - number * given.phase_s, model))
    return [phase for phase in phases if phase], names.tolist()


def _all_good(answers: Sequence[Answer]) -> None:
    if errors := [answer.error for answer in answers if answer.error]:
        raise LocalError(f"{len(errors)} of {len(answers)} models could not be loaded: {errors[0]}")


def _report(seen: TraceAnswers, given: argparse.Namespace, report: Report) -> None:
    everything = [answer for answers in seen.answers.values() for answer in answers]
    errors = [answer.error for answer in seen.answers[TRIPTYCH] if answer.error]
    asked, hits = len(seen.answers[TRIPTYCH]), len(seen.hits)
    report.table(
        f"{given.models} models, {given.places} places, Zipf({given.exponent:g}), {given.rate:g} requests/s",
        ["what", "measured", "goal"],
        [
            ["requests", f"{asked}", ""],
            ["not answered", f"{len(errors)}", "0"],
            ["found their model loaded", f"{hits} ({100 * hits / asked:.1f} %)", ""],
            ["loads", str(sum(event.action == "load" for event in seen.events)), ""],
        ],
    )
    _report_hits(seen, report)
    _report_cold(seen, report)
    report.figures("errors", sorted({answer.error for answer in everything if answer.error})[:10])
    report.figures("unanswered", {kind: sum(bool(a.error) for a in answers) for kind, answers in seen.answers.items()})
    _draw(seen, report)


def _report_hits(seen: TraceAnswers, report: Report) -> None:
    columns = {TRIPTYCH: _ms(seen.hits), LOADED: _ms(seen.answers[LOADED]), LOADING: _ms(seen.answers[LOADING])}
    rows, figures = [], {}
    for q in (50, 90, 99):
        values = {kind: float(np.percentile(ms, q)) for kind, ms in columns.items()}
        figures[f"p{q}_ms"] = values
        ratios = [values[TRIPTYCH] / values[kind] for kind in (LOADED, LOADING)]
        rows.append([f"p{q}", *(f"{value:.1f} ms" for value in values.values()), *(f"{each:.2f}" for each in ratios)])
    head = ["", *columns, "to all loaded (goal 1.2)", "to the same loads by hand (goal 1.2)"]
    report.table("Requests to models that were loaded", head, rows)
    report.figures("resident", figures)


def _report_cold(seen: TraceAnswers, report: Report) -> None:
    if not seen.cold:
        report.text("No request met a cold model.")
        return
    rows, figures = [], {}
    for name, ms in _cold_times(seen).items():
        if len(ms):
            figures[name] = {f"p{q}_ms": float(np.percentile(ms, q)) for q in (50, 90, 99)} | {"requests": len(ms)}
            rows.append([name, str(len(ms)), *(f"{np.percentile(ms, q):.0f} ms" for q in (50, 90, 99))])
    report.table("Requests that met a cold model (goal: 50 ms beyond the load)", ["", "n", "p50", "p90", "p99"], rows)
    report.text(
        "A Triton loads two models at once (`CONTROLLER_MAX_CONCURRENT_LOADS`): a third waits in the queue. Headroom "
        "has slots for the loads that come during one unload, and more for bursts. Once they are taken, a load waits "
        "for an unload, which takes Triton a second. The time of a load ends when Triton's index has the version as "
        "ready; everything else is beyond the load, the first inference too."
    )
    report.figures("cold", figures)


def _cold_times(seen: TraceAnswers) -> dict[str, Array]:
    """Parts of the latency of cold requests, in milliseconds."""
    loads = Loads(seen.events)
    beyond = np.array([1000 * (answer.seconds - event.seconds) for answer, event in seen.cold])
    before = np.array([1000 * (event.began_s - answer.sent_s) for answer, event in seen.cold])
    waits_for_unload = np.array(
        [controller_log.waited_for_unload(seen.events, event, answer.sent_s) for answer, event in seen.cold]
    )
    turn = np.array([loads.running(answer.sent_s) >= AT_ONCE for answer, _ in seen.cold]) & ~waits_for_unload
    return {
        "Triton's load": np.array([1000 * event.seconds for _, event in seen.cold]),
        "beyond it, with capacity and a slot free": beyond[~waits_for_unload & ~turn],
        "beyond it, with the wait for a turn": beyond[turn],
        "beyond it, with the wait for an unload": beyond[waits_for_unload],
        "beyond it, all": beyond,
        "of that, before the load began": before,
        "of that, after it had ended": beyond - before,
    }


def _ms(answers: Sequence[Answer]) -> Array:
    return np.array([1000 * answer.seconds for answer in answers if not answer.error])


def _draw(seen: TraceAnswers, report: Report) -> None:
    from benchmarks import plots

    figure, (left, right) = plots.panels(2, 5.2, 3.8)
    curves: dict[str, Any] = {
        f"{TRIPTYCH}, resident": _ms(seen.hits),
        LOADED: _ms(seen.answers[LOADED]),
        LOADING: _ms(seen.answers[LOADING]),
    }
    for (name, ms), colour in zip(curves.items(), plots.COLOURS, strict=False):
        left.plot(np.sort(ms), 100 * (np.arange(len(ms)) + 1) / len(ms), color=colour, label=name)
    left.set_xscale("log")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    plots.dress(left, "requests to models that are loaded", "ms", "share of requests, %")
    for name, values, colour in (
        ("Triton's load", [1000 * event.seconds for _, event in seen.cold], plots.COLOURS[5]),
        ("whole request", [1000 * answer.seconds for answer, _ in seen.cold], plots.COLOURS[0]),
    ):
        right.plot(np.sort(values), 100 * (np.arange(len(values)) + 1) / max(1, len(values)), color=colour, label=name)
    right.legend(frameon=False, fontsize=8, loc="lower right")
    plots.dress(right, "requests that met a cold model", "ms", "share of requests, %")
    plots.save(figure, report.plot("latency.png", "latency of resident and cold requests"))
