"""Swaps of folders, and second names of files."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.durable_files import exchange, place, sync_tree


@pytest.mark.parametrize("has_call", [True, False])
def test_two_folders_swap_their_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_call: bool) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    if not has_call:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    exchange(tmp_path / "new", tmp_path / "old")
    assert [(tmp_path / name / "file").read_text() for name in ("new", "old")] == ["old", "new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_a_swap_with_nothing_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "new", tmp_path / "gone")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_file_gets_a_second_name_or_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_text("data")
    place(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one").samefile(tmp_path / "two")

    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    place(tmp_path / "one", tmp_path / "three")
    assert (tmp_path / "three").read_text() == "data"
    assert not (tmp_path / "one").samefile(tmp_path / "three")
    sync_tree(tmp_path)
