"""Lines that the terminal of `make run` shows from the controller's log."""

from __future__ import annotations

import json
from pathlib import Path

from controller.catalog.digests import DIFFERS
from local.notices import ControllerNotices

FOLDER = Path("served-models")


def line(message: str, **fields: object) -> bytes:
    return json.dumps({"level": "INFO", "message": message} | fields).encode() + b"\n"


def test_faults_hints_and_counts_are_shown_once_each(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    notices = ControllerNotices(log, FOLDER)
    assert notices.new() == []  # the process has not written yet
    log.write_bytes(line("catalog built", models=2, versions=3) + line("catalog fault", fault="sales: no contract"))
    assert notices.new() == ["models served: 2, versions: 3", "sales: no contract"]
    assert notices.new() == []
    with log.open("ab") as file:
        file.write(line("version without traffic", hint="sales version 2: write a ServedModel"))
    assert notices.new() == ["sales version 2: write a ServedModel, as a file in the folder served-models"]


def test_an_edit_of_a_published_version_is_noticed(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    notices = ControllerNotices(log, FOLDER)
    log.write_bytes(line("catalog fault", fault="sales: no contract"))
    assert (notices.new(), notices.edited) == (["sales: no contract"], False)
    with log.open("ab") as file:
        file.write(line("catalog fault", fault=f"sales/1/contract.yaml: {DIFFERS}"))
    notices.new()
    assert notices.edited


def test_a_line_that_is_half_written_waits(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    notices = ControllerNotices(log, FOLDER)
    whole = line("catalog fault", fault="sales: no contract")
    log.write_bytes(whole[:20])
    assert notices.new() == []
    log.write_bytes(whole)
    assert notices.new() == ["sales: no contract"]


def test_other_lines_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    log.write_bytes(
        b"Traceback\n[]\n1\n\xff\n" + line("started") + line("catalog fault") + line("catalog fault", fault="x")
    )
    assert ControllerNotices(log, FOLDER).new() == ["x"]
