"""Short soak test, and a check that it reports a lost call."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.fakes.scripted.process import ScriptedStage, scripted
from tests.fuzz import soak


@pytest.mark.long
@pytest.mark.timeout(300)
def test_good_clients_beside_bad_ones_lose_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "RECOVERY_S", 5.0)
    with scripted("http2", tmp_path) as stage:
        faults = soak.soak(stage, seconds=20)
    assert [fault for fault in faults if fault.startswith("lost")] == []


def test_a_lost_call_is_reported(tmp_path: Path) -> None:
    def loses(stage: ScriptedStage) -> None:
        made.over.set()
        assert stage.infer("raise", error="Internal")

    with scripted("grpcio", tmp_path) as stage:
        made = soak.Soak(stage)
        client = threading.Thread(target=made.good, args=("loses", loses))
        client.start()
        client.join()
    assert len(made.lost) == 1
