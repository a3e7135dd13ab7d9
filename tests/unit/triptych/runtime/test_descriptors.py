"""Connections within the file descriptors of a process."""

from __future__ import annotations

import resource

import pytest

from triptych.runtime.descriptors import connections_within


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(resource.RLIM_INFINITY, 10_000), (20_000, 10_000), (10_100, 9_844), (1_024, 768), (300, 150), (1, 1)],
)
def test_connections_leave_descriptors_for_other_things(
    limit: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert connections_within(10_000) == connections
