"""The two voices over HTTP, which probes hear where the door speaks TLS: each door, in a process as in production."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import urllib.error
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from local.endpoints import free_endpoints
from tests.contract.scripted.process import scripted
from tests.e2e.kubectl import wait_for
from triptych.door import DOORS, GrpcioDoor
from triptych.pages import pages
from triptych.settings import StageSettings


@pytest.fixture(params=sorted(DOORS))
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def status(port: int, path: str) -> int:
    """0 where nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_stage_that_starts_is_live_and_becomes_ready_with_its_door(door: str, tmp_path: Path) -> None:
    port = free_endpoints()["preprocess"].metrics_port
    said: list[tuple[int, int]] = []  # live and ready, from the start on
    with scripted(door, tmp_path, metrics_port=port, start_s=4):

        def look() -> bool:
            said.append((status(port, "/live"), status(port, "/ready")))
            return said[-1] == (200, 200)

        wait_for(look, "it is live and ready")
    assert (200, 503) in said


def test_a_stage_that_leaves_is_live_and_not_ready_and_its_metrics_stay(door: str, tmp_path: Path) -> None:
    port = free_endpoints()["preprocess"].metrics_port
    with scripted(door, tmp_path, metrics_port=port, drain_s=5) as stage:
        wait_for(lambda: status(port, "/ready") == 200, "it is ready")
        os.kill(stage.part.pid, signal.SIGTERM)
        wait_for(lambda: status(port, "/ready") == 503, "it is not ready")
        assert status(port, "/live") == 200
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            assert b"triptych_in_flight" in page.read()


def test_a_loop_that_does_not_turn_is_neither_live_nor_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.pages.TURN_S", 0.05)
    said: list[str] = []

    async def test() -> None:
        door = GrpcioDoor([], StageSettings())
        await door.set_ready(True)
        answer = pages(CollectorRegistry(), door, asyncio.get_running_loop())
        for path in ("/live", "/ready"):
            asking = threading.Thread(target=lambda path=path: answer({"PATH_INFO": path}, lambda s, _: said.append(s)))
            asking.start()
            asking.join()  # the loop stands still meanwhile

    asyncio.run(test())
    assert said == ["503 Service Unavailable"] * 2
