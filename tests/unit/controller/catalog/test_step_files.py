"""Files that steps read: their digests in the catalog, and their content as it was published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.catalog.entities import NO_FILES, Version
from controller.catalog.scanner import Scanner
from controller.catalog.step_files import StepFileReader
from controller.server import scan_options
from controller.settings import Settings
from controller.store.location import ModelSource
from tests.model_folders import publish_with_vocabulary
from triptych.contract import StepFile
from triptych.errors import InvalidRequest, Unavailable

WORDS = b"Bonn\nUlm\n"


def version_of(scanner: Scanner) -> Version:
    found = scanner.scan(settle=False)
    assert found is not None
    return found.folders[0].versions[1]


def test_a_version_has_the_digests_of_the_files_that_its_steps_read(scanner: Scanner, models: Path) -> None:
    publish_with_vocabulary(models, "sales_de", WORDS)
    assert version_of(scanner).step_files == {"cities.txt": StepFile.of(WORDS).digest}


def test_versions_without_such_files_share_one_empty_table(scanner: Scanner, publish: Callable[..., Path]) -> None:
    publish("sales_de")
    assert version_of(scanner).step_files is NO_FILES


def test_a_file_is_read_as_it_was_published_or_not_at_all(scanner: Scanner, models: Path) -> None:
    folder = publish_with_vocabulary(models, "sales_de", WORDS)
    version, reader = version_of(scanner), StepFileReader(models)
    assert reader.read("sales_de", version, "cities.txt").content == WORDS
    assert "city" in reader.plan("sales_de", version).contract.preprocess[0].reads().__next__()
    (folder / "cities.txt").write_bytes(b"Bonn\nRom\n")
    with pytest.raises(Unavailable, match="cities.txt of sales_de version 1 differs from what was published"):
        reader.read("sales_de", version, "cities.txt")
    (folder / "cities.txt").unlink()
    with pytest.raises(Unavailable, match="cities.txt of sales_de version 1 cannot be read: No such file or directory"):
        reader.read("sales_de", version, "cities.txt")


@pytest.mark.parametrize("path", ["contract.yaml", "model.onnx", "../../sales_de/1/cities.txt", "", "x" * 10_000])
def test_no_other_file_is_read(scanner: Scanner, models: Path, path: str) -> None:
    publish_with_vocabulary(models, "sales_de", WORDS)
    with pytest.raises(InvalidRequest, match="no step of sales_de version 1 reads '.*'; known: cities.txt"):
        StepFileReader(models).read("sales_de", version_of(scanner), path)


def test_a_version_whose_file_changes_is_not_what_was_published(scanner: Scanner, models: Path) -> None:
    folder = publish_with_vocabulary(models, "sales_de", WORDS)
    published = version_of(scanner)
    (folder / "cities.txt").write_bytes(b"Bonn\nRom\n")
    changed = version_of(scanner)
    assert changed.removed
    assert "cities.txt changed" in changed.fault
    assert changed.step_files == published.step_files


def test_the_limit_of_a_file_is_a_setting(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLLER_MAX_STEP_FILE_BYTES", "1024")
    options = scan_options(Settings(), ModelSource(models))
    publish_with_vocabulary(models, "sales_de", b"x" * 1025)
    found = Scanner(models, None, options).scan(settle=False)
    assert found is not None
    assert "cities.txt larger than 1024 bytes" in found.folders[0].invalid[1]
