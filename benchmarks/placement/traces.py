"""Traffic traces: which model is requested at which time. Pure; equal seeds give equal traces.

All traces are Zipf: the model of rank r has a share proportional to r^-exponent. They differ in how ranks change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

DAY_S = 86_400.0
ZONES = 24
NIGHT = 0.05  # of a country's traffic at noon, what is left at night
DRIFT_REQUESTS = 2_000  # after so many requests ranks change ...
DRIFTING = 0.1  # ... of that share of all models
BURSTS = 4
BURST = 0.02  # of a trace, each; half of the requests in it walk once through models that nobody else asks for

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Traffic:
    """Parameters of a trace. Arrivals are a Poisson process."""

    models: int = 1_000
    exponent: float = 1.1
    requests: int = 50_000
    rate_per_s: float = 1.0


@dataclass(frozen=True)
class Trace:
    """Requests in order of time: model numbers, and seconds from the start."""

    models: list[int]
    times_s: list[float]

    def __len__(self) -> int:
        return len(self.models)


def shares(models: int, exponent: float) -> Array:
    """Share of the requests of each rank by Zipf's law, the most popular first."""
    weights = np.arange(1, models + 1, dtype=np.float64) ** -exponent
    parts: Array = weights / weights.sum()
    return parts


def steady(traffic: Traffic, seed: int) -> Trace:
    """Trace whose ranks never change."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(traffic.models)
    return _trace(names[_ranks(traffic, rng)], _times(traffic, rng))


def drifting(traffic: Traffic, seed: int) -> Trace:
    """Trace in which a tenth of all models exchange ranks after every 2,000 requests, as by a season or a campaign."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(traffic.models)
    ranks = _ranks(traffic, rng)
    asked = np.empty_like(ranks)
    for start in range(0, traffic.requests, DRIFT_REQUESTS):
        part = slice(start, start + DRIFT_REQUESTS)
        asked[part] = names[ranks[part]]
        moving = rng.choice(traffic.models, max(2, int(DRIFTING * traffic.models)), replace=False)
        names[moving] = names[rng.permutation(moving)]
    return _trace(asked, _times(traffic, rng))


def bursts(traffic: Traffic, seed: int) -> Trace:
    """Trace with scans over rare models, each model once, as by a nightly report over all countries."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(traffic.models)
    asked = names[_ranks(traffic, rng)]
    length = int(BURST * traffic.requests)
    rare = names[traffic.models // 4 :]
    for start in np.linspace(0.3, 0.9, BURSTS) * traffic.requests:
        places = np.arange(int(start), int(start) + length, 2)
        asked[places] = rng.permutation(np.resize(rng.permutation(rare), len(places)))
    return _trace(asked, _times(traffic, rng))


def diurnal(traffic: Traffic, seed: int) -> Trace:
    """Trace in which each model has a time zone and little traffic at night, so that the popular models change."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(traffic.models)
    zone_s = rng.integers(0, ZONES, traffic.models) * DAY_S / ZONES
    times_s = _times(traffic, rng)
    base = shares(traffic.models, traffic.exponent)
    asked = np.empty(traffic.requests, dtype=np.int64)
    hours = (times_s // (DAY_S / ZONES)).astype(np.int64)
    for hour in np.unique(hours):
        at = np.flatnonzero(hours == hour)
        sun = np.cos(2 * np.pi * (hour * DAY_S / ZONES - zone_s) / DAY_S)
        weights = base * np.maximum(NIGHT, sun)
        asked[at] = names[rng.choice(traffic.models, len(at), p=weights / weights.sum())]
    return _trace(asked, times_s)


KINDS: dict[str, Callable[[Traffic, int], Trace]] = {
    "steady": steady,
    "drifting": drifting,
    "bursts": bursts,
    "diurnal": diurnal,
}


def _ranks(traffic: Traffic, rng: np.random.Generator) -> Array:
    chosen: Array = rng.choice(traffic.models, traffic.requests, p=shares(traffic.models, traffic.exponent))
    return chosen


def _times(traffic: Traffic, rng: np.random.Generator) -> Array:
    return np.cumsum(rng.exponential(1 / traffic.rate_per_s, traffic.requests))


def _trace(models: Array, times_s: Array) -> Trace:
    return Trace(models.tolist(), times_s.tolist())
