"""Readers of installed packages, by entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.readers import registry
from jobs.readers.errors import SourceRefused
from jobs.readers.parts import FileRef

MODULE = """
from jobs.readers.csv import CsvReader

class Semicolons(CsvReader):
    name = "{name}"
    suffixes = (".ssv",)

class NoReader:
    pass
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    registry.readers.cache_clear()
    yield tmp_path
    registry.readers.cache_clear()
    sys.modules.pop("acme_readers", None)


def install(folder: Path, value: str, name: str = "ssv") -> None:
    (folder / "acme_readers.py").write_text(MODULE.format(name=name))
    (folder / "acme-1.dist-info").mkdir()
    (folder / "acme-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (folder / "acme-1.dist-info/entry_points.txt").write_text(f"[triptych.readers]\nacme = acme_readers:{value}\n")


def test_a_reader_of_a_package_is_found_by_the_names_of_its_files(installed: Path) -> None:
    with pytest.raises(SourceRefused, match="its name tells no format"):
        registry.format_of([FileRef("a.ssv", 1, "")])
    registry.readers.cache_clear()
    install(installed, "Semicolons")
    assert registry.format_of([FileRef("a.ssv", 1, "")]) == "ssv"


def test_what_is_no_reader_and_a_second_one_of_a_name_are_refused(installed: Path) -> None:
    install(installed, "NoReader")
    with pytest.raises(registry.ReaderConflict, match="'acme' .* is no subclass of Reader"):
        registry.readers()


def test_a_second_reader_of_a_name_is_refused(installed: Path) -> None:
    install(installed, "Semicolons", name="csv")
    with pytest.raises(registry.ReaderConflict, match="there is a reader 'csv'"):
        registry.readers()
