"""Two replicas of the controller with a real Triton: the leader stops during loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.lease_server import LeaseServer
from tests.integration.leader_change import Goes, change_leader_under_load
from tests.integration.replicas import Replicas


@pytest.fixture
def replicas(tmp_path: Path, predictor_python: Path) -> Iterator[Replicas]:
    with LeaseServer() as server, Replicas(tmp_path, predictor_python, server.kubeconfig(tmp_path / "config")) as made:
        yield made


@pytest.mark.parametrize("goes", ["killed", pytest.param("stopped", marks=pytest.mark.long)])
def test_when_the_leader_stops_during_loads_none_is_repeated_and_no_request_is_lost(
    replicas: Replicas, goes: Goes
) -> None:
    change_leader_under_load(replicas, goes)
