"""Ratios of transports."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks import transport


def test_each_round_asks_every_transport_and_begins_with_another() -> None:
    asked: list[tuple[str, int, int]] = []

    def measure(name: str, callers: int, calls: int) -> float:
        asked.append((name, callers, calls))
        return {"grpcio": 2e-4, "http2": 1e-4}[name]

    given = Namespace(callers=[1, 16], calls=400, rounds=2)
    used = transport.interleaved(given, ["grpcio", "http2"], measure)
    assert asked[:2] == [("grpcio", 1, 100), ("http2", 1, 100)]
    assert asked[4:6] == [("http2", 1, 100), ("grpcio", 1, 100)]
    assert used["http2", 16] == pytest.approx([100, 100])
    assert transport.ratio(used, "http2", 16).median == pytest.approx(0.5)


def test_a_ratio_is_made_within_a_round() -> None:
    used = {("grpcio", 1): [100.0, 300.0, 100.0], ("http2", 1): [50.0, 300.0, 200.0]}
    found = transport.ratio(used, "http2", 1)
    assert (found.median, found.least, found.most) == (1.0, 0.5, 2.0)
