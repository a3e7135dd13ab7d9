"""Reports of benchmarks name command, machine and versions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.report import Report


def test_results_name_command_machine_versions_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "policy", "--places", "7"])
    report = Report("policy", "Title", {"places": 7, "results": tmp_path}, tmp_path / "policy")
    report.table("A table", ["rule", "rate"], [["ours", 0.123456], ["count", 12345]])
    report.figures("rates", {"ours": 0.123456})
    report.write()
    made = json.loads((tmp_path / "policy/results.json").read_text())
    assert made["command"] == "python -m benchmarks policy --places 7"
    assert made["machine"]["cores"] > 0
    assert {"python", "triptych", "grpcio"} <= made["versions"].keys()
    assert made["arguments"]["places"] == 7
    assert made["results"] == {"rates": {"ours": 0.123456}}
    text = (tmp_path / "policy/results.md").read_text()
    assert "`python -m benchmarks policy --places 7`" in text
    assert "| ours | 0.123 |\n| count | 12,345 |" in text


def test_no_absolute_path_gets_into_results(tmp_path: Path) -> None:
    Report("policy", "Title", {"results": tmp_path}, tmp_path / "policy").write()
    assert str(tmp_path.parent) not in json.dumps(
        json.loads((tmp_path / "policy/results.json").read_text())["arguments"]
    )


def test_a_copy_without_git_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    Report("policy", "Title", {"results": tmp_path}, tmp_path / "policy").write()
    assert json.loads((tmp_path / "policy/results.json").read_text())["versions"]["triptych"] == "unknown"
