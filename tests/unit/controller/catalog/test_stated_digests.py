"""Digests that a contract states: checked at publication by the scanner and by `triptych verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.catalog.integrity import stat_digest
from controller.catalog.scanner import Scanner, ScanOptions
from tests.onnx_files import linear
from tests.unit.controller.catalog.published_files import add, change_weights, folder
from triptych_cli.__main__ import main

Publish = Callable[..., Path]


def state(version: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Put the digests at the end of the contract, as the documentation describes."""
    assert main(["digests", str(version)]) == 0
    printed = capsys.readouterr().out
    contract = version / "contract.yaml"
    contract.write_text(contract.read_text() + printed)
    return printed


def test_digests_that_a_contract_states_are_checked_at_publication(
    models: Path, publish: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    version = publish("sales_de")
    (version / "model.onnx").write_bytes(linear())
    (version / "deep").mkdir()
    (version / "deep" / "a b: c").write_bytes(b"data")
    printed = state(version, capsys)
    assert '"deep/a b: c": sha256:' in printed
    assert set(folder(Scanner(models, None)).versions) == {1}
    assert main(["verify", str(models)]) == 0
    capsys.readouterr()
    for change in (change_weights, add, take_away_named):
        change(version)
        invalid = folder(Scanner(models, None, ScanOptions(digest_of=stat_digest))).invalid[1].splitlines()
        assert main(["verify", str(models)]) == 1
        printed = capsys.readouterr().out
        assert invalid
        assert all(line in printed for line in invalid)


def take_away_named(version: Path) -> None:
    (version / "deep" / "a b: c").unlink()


@pytest.mark.parametrize(
    "text", ["files: {}", "files: {model.onnx: sha256:12}", "files: {model.onnx: md5}", "files: []"]
)
def test_digests_that_are_none_are_refused(models: Path, publish: Publish, text: str) -> None:
    version = publish("sales_de")
    with (version / "contract.yaml").open("a") as file:
        file.write(text)
    assert "files" in folder(Scanner(models, None)).invalid[1]


def test_digests_of_a_folder_that_is_not_there_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digests", str(tmp_path / "none")]) == 1
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
