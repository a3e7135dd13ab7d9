"""The traces have the properties of their names."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.placement import traces
from benchmarks.placement.traces import KINDS, Traffic

TRAFFIC = Traffic(models=100, requests=10_000, rate_per_s=5.0)


def most_popular(models: list[int], count: int = 10) -> set[int]:
    return {model for model, _ in Counter(models).most_common(count)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_is_the_same_trace_and_another_is_another(kind: str) -> None:
    make = KINDS[kind]
    assert make(TRAFFIC, 1) == make(TRAFFIC, 1)
    assert make(TRAFFIC, 1).models != make(TRAFFIC, 2).models


@pytest.mark.parametrize("kind", KINDS)
def test_every_trace_has_its_models_its_length_and_its_rate(kind: str) -> None:
    trace = KINDS[kind](TRAFFIC, 1)
    assert len(trace) == TRAFFIC.requests
    assert set(trace.models) <= set(range(TRAFFIC.models))
    assert trace.times_s == sorted(trace.times_s)
    assert trace.times_s[-1] == pytest.approx(TRAFFIC.requests / TRAFFIC.rate_per_s, rel=0.05)


def test_shares_are_those_of_zipf() -> None:
    shares = traces.shares(1000, 1.1)
    assert shares.sum() == pytest.approx(1)
    assert shares[9] / shares[0] == pytest.approx(10**-1.1)
    counted = Counter(traces.steady(replace(TRAFFIC, models=1000, requests=50_000), 3).models)
    assert counted.most_common(1)[0][1] / 50_000 == pytest.approx(shares[0], rel=0.05)


def test_only_where_it_drifts_do_the_popular_ones_change() -> None:
    def kept(kind: str) -> int:
        models = KINDS[kind](replace(TRAFFIC, requests=40_000), 1).models
        return len(most_popular(models[:2_000]) & most_popular(models[-2_000:]))

    assert kept("steady") >= 8
    assert kept("drifting") <= 5


def test_a_burst_requests_rare_models_one_by_one() -> None:
    with_bursts, without = KINDS["bursts"](TRAFFIC, 1).models, KINDS["steady"](TRAFFIC, 1).models
    changed = [at for at in range(TRAFFIC.requests) if with_bursts[at] != without[at]]
    walked = [with_bursts[at] for at in changed]
    assert 0 < len(changed) <= traces.BURSTS * traces.BURST * TRAFFIC.requests / 2
    assert not set(walked) & most_popular(without)


def test_by_day_other_models_are_popular_than_by_night() -> None:
    traffic = replace(TRAFFIC, models=500, requests=40_000, rate_per_s=40_000 / traces.DAY_S)
    trace = KINDS["diurnal"](traffic, 1)
    hours = np.array(trace.times_s) // 3600
    first, later = (most_popular(np.array(trace.models)[hours == hour].tolist()) for hour in (2, 14))
    assert len(first & later) <= 3
