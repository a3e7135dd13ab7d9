"""Hit rate of the controller's rule against least recently used and against the best possible, on the same traces."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Any, TypeVar

from benchmarks.placement import traces
from benchmarks.placement.caches import Belady, Cache, Lru, Ours, hit_rate
from benchmarks.placement.traces import Trace, Traffic
from benchmarks.report import Report
from controller.placement.settings import PlacementSettings
from examples.models.progress import TaskProgress

Given = TypeVar("Given")
Found = TypeVar("Found")

HELP = "hit rate: the controller's rule, least recently used, the best possible; simulated"
TITLE = "Eviction policies: hit rates"

WARM_UP = 1 / 3  # of a trace, not counted
HALF_LIFE_S = 300.0
PER_SLOT = 10.0
SLOTS = (10, 25, 50, 100, 150, 200)
TURN_S = 1.65  # a load and an unload, as measured by `python -m benchmarks placement`
HEADROOM_RATES = (0.5, 1.0, 3.0, 10.0)
HEADROOMS = {
    "none": {"headroom_percent": 0, "headroom_max_percent": 0},
    "5 % of the slots": {"headroom_max_percent": 0},
    "20 % of the slots": {"headroom_percent": 20, "headroom_max_percent": 0},
    "as many as loads come in a turn": {"headroom_percent": 0, "headroom_bursts": 0},
    "the same and a reserve for bursts (ours)": {},
}


@dataclass(frozen=True)
class Rule:
    """A rule of eviction. `make` gets the number of slots and the trace."""

    name: str
    make: Callable[[int, Trace], Cache]


def _ours(half_life_s: float, per_slot: float = 0.0) -> Callable[[int, Trace], Cache]:
    return lambda slots, trace: Ours(slots, half_life_s, requests_per_slot=per_slot)


def _deployed(slots: int, trace: Trace) -> Cache:
    """The defaults of the controller: the half-life, slots kept free for the loads that come, 15 minutes of idling."""
    return _with_defaults(slots, PlacementSettings())


def _with_defaults(slots: int, settings: PlacementSettings) -> Ours:
    return Ours(
        slots,
        settings.half_life_s,
        idle_ttl_s=settings.idle_ttl_s,
        requests_per_slot=settings.half_life_requests,
        settings=settings,
        turn_s=TURN_S,
    )


LRU = Rule("least recently used", lambda slots, trace: Lru(slots))
BEST = Rule("best possible (Belady)", lambda slots, trace: Belady(slots, trace.models))
OURS = Rule("ours, half-life 300 s", _ours(HALF_LIFE_S))
PACED = Rule("ours, 300 s or 10 requests a slot", _ours(HALF_LIFE_S, PER_SLOT))
RULES = (
    LRU,
    Rule("ours, half-life 60 s", _ours(60.0)),
    OURS,
    Rule("ours, half-life 1800 s", _ours(1800.0)),
    Rule("ours, half-life 4 h", _ours(14_400.0)),
    PACED,
    Rule("ours, 300 s or 10, with headroom and idle timeout", _deployed),
    BEST,
)
BY_NAME = {rule.name: rule for rule in RULES}


@dataclass(frozen=True)
class PolicyCase:
    """One trace of one kind through one number of slots."""

    kind: str
    traffic: Traffic
    slots: int
    seed: int
    rules: tuple[str, ...]


@dataclass(frozen=True)
class HeadroomCase:
    """One way to keep slots free, on one steady trace."""

    name: str
    traffic: Traffic
    slots: int
    seed: int


@dataclass(frozen=True)
class HeadroomOutcome:
    """Its cost and its gain: hit rate, and the share of the loads that found no slot free."""

    name: str
    rate_per_s: float
    seed: int
    hit_rate: float
    waited: float


@dataclass(frozen=True)
class Outcome:
    """Hit rate by the name of the rule."""

    case: PolicyCase
    rates: dict[str, float]


def run(case: PolicyCase) -> Outcome:
    """Replays the trace of the case through each of its rules."""
    trace = traces.KINDS[case.kind](case.traffic, case.seed)
    warm_up = int(WARM_UP * len(trace))
    return Outcome(case, {name: hit_rate(BY_NAME[name].make(case.slots, trace), trace, warm_up) for name in case.rules})


def headroom(case: HeadroomCase) -> HeadroomOutcome:
    """Replays a steady trace with slots kept free in one way."""
    trace = traces.steady(case.traffic, case.seed)
    cache = _with_defaults(case.slots, PlacementSettings.model_validate(HEADROOMS[case.name]))
    rate = hit_rate(cache, trace, int(WARM_UP * len(trace)))
    return HeadroomOutcome(case.name, case.traffic.rate_per_s, case.seed, rate, cache.waited / cache.loads)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--slots", type=int, default=50, help="models that are loaded at once, in the table")
    parser.add_argument("--exponent", type=float, default=1.1, help="of Zipf's law")
    parser.add_argument("--requests", type=int, default=30_000, help="in each trace; the first third is not counted")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 5.0, 50.0], help="requests per second")
    parser.add_argument("--repeats", type=int, default=3, help="traces of each kind, by seeds 1, 2, ...")
    parser.add_argument("--workers", type=int, default=2, help="processes")


def main(given: argparse.Namespace, report: Report) -> None:
    """The table over kinds of traffic and rates, then the plot over slots."""
    seeds = range(1, given.repeats + 1)
    with ProcessPoolExecutor(given.workers) as pool:
        headrooms = list(_over(pool, "headroom", headroom, _headroom_cases(given, seeds)))
        outcomes = list(_all(pool, "kinds and rates", _table_cases(given, seeds)))
        over_slots = list(_all(pool, "slots", _slot_cases(given, seeds)))
    for kind in traces.KINDS:
        _report(report, kind, [each for each in outcomes if each.case.kind == kind], given)
    _report_gains(report, outcomes)
    _report_headroom(report, headrooms, given)
    _draw(report, over_slots, given)
    report.figures("by_kind_and_rate", [_plain(outcome) for outcome in outcomes])
    report.figures("headroom", [asdict(each) for each in headrooms])
    report.figures("over_slots", [_plain(outcome) for outcome in over_slots])


def _table_cases(given: argparse.Namespace, seeds: Sequence[int]) -> list[PolicyCase]:
    names = tuple(BY_NAME)
    return [
        PolicyCase(kind, _traffic(given, rate), given.slots, seed, names)
        for kind, rate, seed in product(traces.KINDS, given.rates, seeds)
    ]


def _slot_cases(given: argparse.Namespace, seeds: Sequence[int]) -> list[PolicyCase]:
    names = (LRU.name, OURS.name, PACED.name, BEST.name)
    rate = sorted(given.rates)[len(given.rates) // 2]
    return [
        PolicyCase(kind, _traffic(given, rate), slots, seed, names)
        for kind, slots, seed in product(traces.KINDS, SLOTS, seeds)
    ]


def _headroom_cases(given: argparse.Namespace, seeds: Sequence[int]) -> list[HeadroomCase]:
    return [
        HeadroomCase(name, _traffic(given, rate), given.slots, seed)
        for name, rate, seed in product(HEADROOMS, HEADROOM_RATES, seeds)
    ]


def _traffic(given: argparse.Namespace, rate: float) -> Traffic:
    return Traffic(given.models, given.exponent, given.requests, rate)


def _all(pool: ProcessPoolExecutor, name: str, cases: list[PolicyCase]) -> Iterator[Outcome]:
    return _over(pool, name, run, cases)


def _over(
    pool: ProcessPoolExecutor, name: str, work: Callable[[Given], Found], cases: Sequence[Given]
) -> Iterator[Found]:
    return TaskProgress().over(f"policy: {name}", iter(pool.map(work, cases)), len(cases))


def _report(report: Report, kind: str, outcomes: list[Outcome], given: argparse.Namespace) -> None:
    meaning = (traces.KINDS[kind].__doc__ or "").split("\n")[0].strip()
    head = ["rule", *(f"{rate:g}/s" for rate in given.rates)]
    rows = [
        [name, *(_spread([o.rates[name] for o in outcomes if o.case.traffic.rate_per_s == r]) for r in given.rates)]
        for name in BY_NAME
    ]
    title = f"{kind}: hit rate in %, {given.models} models, {given.slots} slots, {given.repeats} traces each"
    report.text(f"**{kind}**: {meaning}")
    report.table(title, head, rows)


def _report_gains(report: Report, outcomes: list[Outcome]) -> None:
    """A rule against least recently used on the same trace: its gain, and its worst case."""
    rows = []
    for name in BY_NAME:
        gains = [(100 * (o.rates[name] - o.rates[LRU.name]), o.case) for o in outcomes]
        worst, case = min(gains, key=lambda each: each[0])
        share = fmean((o.rates[name] - o.rates[LRU.name]) / (o.rates[BEST.name] - o.rates[LRU.name]) for o in outcomes)
        where = f"{case.kind}, {case.traffic.rate_per_s:g}/s"
        mean = fmean(gain for gain, _ in gains)
        rows.append([name, f"{mean:+.1f}", f"{worst:+.1f} ({where})", f"{100 * share:.0f} %"])
    head = ["rule", "mean", "worst single trace", "of the way from LRU to the best possible"]
    report.table("Points of hit rate gained over least recently used, over all traces", head, rows)


def _report_headroom(report: Report, outcomes: list[HeadroomOutcome], given: argparse.Namespace) -> None:
    """Free slots are not used, and a load that finds none waits for an unload, which takes Triton a second."""
    rows = []
    for name in HEADROOMS:
        row = [name]
        for rate in HEADROOM_RATES:
            found = [each for each in outcomes if (each.name, each.rate_per_s) == (name, rate)]
            hits, waited = fmean(each.hit_rate for each in found), fmean(each.waited for each in found)
            row.append(f"{100 * hits:.1f} % hits, {100 * waited:.1f} % wait")
        rows.append(row)
    title = f"Slots kept free of {given.slots}, steady traffic: hit rate, and loads that wait for an unload"
    report.table(title, ["free", *(f"{rate:g}/s" for rate in HEADROOM_RATES)], rows)


def _draw(report: Report, outcomes: list[Outcome], given: argparse.Namespace) -> None:
    from benchmarks import plots

    figure, axes = plots.panels(len(traces.KINDS))
    names = (BEST.name, PACED.name, OURS.name, LRU.name)
    for kind, axis in zip(traces.KINDS, axes, strict=True):
        for name, colour in zip(names, plots.COLOURS, strict=False):
            points = [_rates(outcomes, kind, slots, name) for slots in SLOTS]
            mean = [100 * fmean(each) for each in points]
            low, high = [100 * min(each) for each in points], [100 * max(each) for each in points]
            axis.plot(SLOTS, mean, "o-", color=colour, ms=3, label=name)
            axis.fill_between(SLOTS, low, high, color=colour, alpha=0.2, lw=0)
        plots.dress(axis, kind, f"slots for {given.models} models", "hit rate, %")
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    plots.save(figure, report.plot("hit-rate.png", "hit rate over the number of slots, by kind of traffic"))


def _rates(outcomes: list[Outcome], kind: str, slots: int, name: str) -> list[float]:
    return [o.rates[name] for o in outcomes if o.case.kind == kind and o.case.slots == slots]


def _spread(rates: list[float]) -> str:
    spread = f" ± {100 * stdev(rates):.1f}" if len(rates) > 1 else ""
    return f"{100 * fmean(rates):.1f}{spread}"


def _plain(outcome: Outcome) -> dict[str, Any]:
    case = outcome.case
    return {
        "kind": case.kind,
        "rate_per_s": case.traffic.rate_per_s,
        "slots": case.slots,
        "seed": case.seed,
        "hit_rate": {name: round(rate, 5) for name, rate in outcome.rates.items()},
    }
