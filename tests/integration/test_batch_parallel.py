"""`parallelParts` of a batch: so many parts are in work at once, and never more."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from jobs.batch.part_work import PartCounts, PartWork
from tests.integration.batch_runs import Batch
from triptych_cli.__main__ import main

WAIT_S = 60.0


class Meeting:
    """Lets the first parts of a run begin only once so many are in work, and counts the most at once."""

    def __init__(self, parts: int) -> None:
        self._barrier, self._lock = threading.Barrier(parts), threading.Lock()
        self._begun, self._at_once, self.most, self._parts = 0, 0, 0, parts

    def enter(self) -> None:
        with self._lock:
            self._begun, self._at_once = self._begun + 1, self._at_once + 1
            self.most, is_first = max(self.most, self._at_once), self._begun <= self._parts
        if is_first:
            self._barrier.wait(WAIT_S)

    def leave(self) -> None:
        with self._lock:
            self._at_once -= 1


@pytest.mark.parametrize(("given", "wanted"), [(None, 2), (1, 1), (3, 3)])
def test_so_many_parts_are_in_work_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int | None, wanted: int
) -> None:
    batch, meeting = Batch(tmp_path, {} if given is None else {"parallelParts": given}), Meeting(wanted)
    batch.write_data(1000)  # in five parts
    do = PartWork.do

    def counted(self: PartWork, *arguments: Any) -> PartCounts:
        meeting.enter()
        try:
            return do(self, *arguments)
        finally:
            meeting.leave()

    monkeypatch.setattr(PartWork, "do", counted)
    assert main(["batch", "run", str(batch.write_document()), "--quiet"]) == 0
    assert meeting.most == wanted
    assert batch.records()["number"].to_pylist() == list(range(1000))
