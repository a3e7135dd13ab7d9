"""The trace of the measurement on a real Triton: cut into phases, nothing lost."""

from __future__ import annotations

import argparse
from collections import Counter

import pytest

from benchmarks.placement.real_triton import _trace

GIVEN = argparse.Namespace(seed=1, models=100, rate=20.0, seconds=300.0, phase_s=60.0, exponent=1.1)


def test_phases_hold_all_requests_at_times_of_their_own() -> None:
    phases, _ = _trace(GIVEN)
    assert sum(map(len, phases)) == 6_000
    assert len(phases) in (5, 6)
    for phase in phases:
        moments = [due.at_s for due in phase]
        assert moments == sorted(moments)
        assert moments[0] >= 0
        assert moments[-1] < 60.0


def test_the_models_come_in_the_order_of_their_popularity() -> None:
    phases, popular = _trace(GIVEN)
    asked = Counter(due.model for phase in phases for due in phase)
    assert asked.most_common(1)[0][0] == popular[0]
    assert sum(asked[model] for model in popular[:10]) / 6_000 == pytest.approx(0.67, abs=0.05)
