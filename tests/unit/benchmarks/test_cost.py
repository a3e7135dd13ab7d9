"""Costs: the number of models that are loaded at once, and their memory."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from benchmarks.cost import ProcessSizes, loaded_at_once, service_each, triptych
from benchmarks.placement.traces import shares

SIZES = ProcessSizes(
    country_server=50, triton_idle=10, triton_per_model=30, preprocess=40, postprocess=40, controller=60
)
GIVEN = argparse.Namespace(exponent=1.1, idle_s=900.0, places=50, replicas=2)


def test_models_loaded_at_once_are_those_asked_for_within_the_idle_time() -> None:
    """Compare with draws: the distinct models of many windows."""
    rng, rate, idle_s = np.random.default_rng(1), 0.5, 900.0
    windows = [rng.choice(300, rng.poisson(rate * idle_s), p=shares(300, 1.1)) for _ in range(300)]
    drawn = np.mean([len(set(window.tolist())) for window in windows])
    assert loaded_at_once(300, rate, 1.1, idle_s) == pytest.approx(drawn, rel=0.02)


def test_never_more_models_are_loaded_than_there_are() -> None:
    assert loaded_at_once(100, 1e6, 1.1, 900) == pytest.approx(100)
    assert loaded_at_once(100, 0.0, 1.1, 900) == 0


def test_a_service_for_each_country_grows_with_the_countries() -> None:
    footprint = service_each(50, replicas=2)(100)
    assert (footprint.mib, footprint.pods, footprint.loaded) == (10_000, 200, 100)


def test_the_stack_pays_for_its_stages_and_for_what_is_loaded() -> None:
    footprint = triptych(SIZES, GIVEN, rate=1e6)(100)
    assert footprint.loaded == 100
    assert footprint.pods == 2 + 2 + 1 + 2
    assert footprint.mib == 2 * 80 + 60 + 2 * 10 + 100 * 30


def test_a_triton_pod_is_added_when_the_slots_are_taken() -> None:
    assert triptych(SIZES, GIVEN, rate=1e9)(101).pods - triptych(SIZES, GIVEN, rate=1e9)(100).pods == 1
