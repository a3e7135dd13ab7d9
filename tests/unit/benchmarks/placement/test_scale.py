"""The benchmark of placement at scale, small: both processes start, speak HTTP/2 with each other, and end."""

from __future__ import annotations

import argparse
import asyncio

import psutil
import pytest

from benchmarks.placement import scale
from benchmarks.placement.fleet import FleetProcess
from local.errors import LocalError


def given(**changed: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    scale.arguments(parser)
    small = {"models": 60, "predictors": 3, "slots": 6, "watchers": 4, "loads": 3, "changes": 2, "quiet_s": 1}
    return parser.parse_args(
        [word for name, n in (small | changed).items() for word in (f"--{name.replace('_', '-')}", str(n))]
    )


async def test_every_stage_gets_the_catalog_and_each_change_and_cold_requests_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scale, "PROBED_S", 0.5)
    monkeypatch.setattr(scale, "tune_garbage_collector", lambda: None)  # of this process
    children = set(psutil.Process().children())
    figures = await scale.measure(given())
    assert figures["streams_refused"] == 0
    assert figures["small_requests"]["calls"] > 0
    assert len(figures["changes_ms"]) == 2
    assert min(figures["changes_ms"]) > 0
    assert 0 < figures["decisions"]["answered_p50"] <= figures["decisions"]["complete_p50"]
    assert set(psutil.Process().children()) <= children


def test_more_models_than_there_are_is_a_sentence() -> None:
    with pytest.raises(LocalError, match="want 1021 models to fill the predictors and to load, got 60"):
        scale.check(given(loads=1003))


async def test_the_end_of_the_other_process_is_a_sentence() -> None:
    async with FleetProcess() as fleet:
        with pytest.raises(LocalError, match="the process of predictors and stages ended at 'nonsense'"):
            await asyncio.wait_for(fleet.ask("nonsense"), 60)
