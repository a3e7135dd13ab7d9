"""The document of a rollout is rewritten atomically, with its comments, and never over another client's change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from controller.catalog.served_model import Document, read_documents
from triptych.protocol import controller_pb2 as cp
from triptych_cli.controller_client import ControllerClient, ControllerUnavailable
from triptych_cli.rollout.targets.document import DocumentTarget, rewrite_traffic
from triptych_cli.rollout.targets.target import ConcurrentChange, TargetError

TEXT = """\
# two documents in one file
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata:
  name: first
spec:
  model: first
  traffic:
    - {version: 1, percent: 100}
---
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata:
  name: second  # in words
spec:
  model: second
  traffic:
    # the old one
    - {version: 3, percent: 100}  # since May
  placement: {pin: true}
"""


class FakeController:
    """A controller client with replies of the test."""

    def __init__(self, traffic: dict[int, int], reasons: dict[str, str] | None = None) -> None:
        self.traffic, self._reasons = traffic, reasons or {}

    def models(self) -> dict[str, cp.Model]:
        versions = [cp.Version(version=version, percent=percent) for version, percent in self.traffic.items()]
        return {"second": cp.Model(name="second", versions=versions)} if versions else {}

    def reasons(self, _model: str) -> dict[str, str]:
        return self._reasons

    def close(self) -> None:
        """Nothing is open."""


class UnreachableController(FakeController):
    def models(self) -> dict[str, cp.Model]:
        raise ControllerUnavailable("the controller at x:1 does not answer: UNAVAILABLE")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "both.yaml").write_text(TEXT)
    return tmp_path


def target(folder: Path, controller: FakeController | None = None, model: str = "second") -> DocumentTarget:
    return DocumentTarget(folder, model, cast(ControllerClient, controller or FakeController({3: 100, 4: 0})))


def shares(path: Path, model: str) -> Any:
    (found,) = [item.traffic for item in read_documents(path) if isinstance(item, Document) and item.model == model]
    return found


def test_only_the_traffic_of_the_one_document_changes(folder: Path) -> None:
    target(folder).write({"3": 95, "4": 5})
    lines = (folder / "both.yaml").read_text().splitlines()
    expected = TEXT.splitlines()
    at = expected.index("    - {version: 3, percent: 100}  # since May")
    expected[at : at + 1] = ["    - {version: 3, percent: 95}   # since May", "    - {version: 4, percent: 5}"]
    assert [" ".join(line.split()) for line in lines] == [" ".join(line.split()) for line in expected]
    assert shares(folder / "both.yaml", "first") == {1: 100}


def test_a_rollout_moves_no_alias(folder: Path) -> None:
    path = folder / "both.yaml"
    path.write_text(TEXT + "  aliases: {production: 3, next: 4}  # of the registry\n")
    target(folder).write({"3": 50, "4": 50})
    assert path.read_text().endswith("  aliases: {production: 3, next: 4}  # of the registry\n")
    assert shares(path, "second") == {3: 50, 4: 50}


def test_there_and_back_is_the_same_file(folder: Path) -> None:
    there = target(folder)
    there.write({"3": 95, "4": 5})
    there.write({"3": 0, "4": 100})
    there.write({"3": 100})
    assert (folder / "both.yaml").read_text() == TEXT


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_of_windows_stay(folder: Path, mark: str) -> None:
    """A rewrite with other line ends changes every line of the file in Git."""
    file = folder / "both.yaml"
    before = TEXT.replace("\n", "\r\n").encode()
    file.write_bytes(mark.encode() + before)
    there = target(folder)
    there.write({"3": 95, "4": 5})
    assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n") == TEXT.count("\n") + 1
    there.write({"3": 100})
    assert file.read_bytes() == before


def test_an_empty_document_at_the_end_stays_none(folder: Path) -> None:
    (folder / "both.yaml").write_text(TEXT + "---\n")
    target(folder).write({"3": 90, "4": 10})
    assert "null" not in (folder / "both.yaml").read_text()


def test_traffic_in_one_line_stays_in_one_line() -> None:
    text = "spec:\n  model: m\n  traffic: [{version: 1, percent: 100}]\n"
    assert rewrite_traffic(text, "m", {"1": 90, "2": 10}) == (
        "spec:\n  model: m\n  traffic: [{version: 1, percent: 90}, {version: 2, percent: 10}]\n"
    )


def test_a_file_that_another_client_changed_is_left_alone(folder: Path) -> None:
    there = target(folder)
    changed = TEXT.replace("{version: 3, percent: 100}", "{version: 2, percent: 100}")
    (folder / "both.yaml").write_text(changed)
    with pytest.raises(ConcurrentChange, match="changed by someone else, to 2: 100 %"):
        there.write({"3": 95, "4": 5})
    assert (folder / "both.yaml").read_text() == changed


def test_permissions_and_a_link_survive_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    real, linked = tmp_path / "real", tmp_path / "linked"
    real.mkdir()
    linked.mkdir()
    (real / "both.yaml").write_text(TEXT)
    (real / "both.yaml").chmod(0o640)
    (linked / "both.yaml").symlink_to(real / "both.yaml")
    target(linked).write({"3": 95, "4": 5})
    assert (linked / "both.yaml").is_symlink()
    assert shares(real / "both.yaml", "second") == {3: 95, 4: 5}
    assert (real / "both.yaml").stat().st_mode & 0o777 == 0o640
    assert os.listdir(real) == ["both.yaml"]


def test_in_force_is_what_the_controller_reports(folder: Path) -> None:
    controller = FakeController({3: 100, 4: 0})
    there = target(folder, controller)
    there.write({"3": 95, "4": 5})
    assert there.effective_traffic().traffic == {"3": 100, "4": 0}
    assert not there.effective_traffic().refused
    controller.traffic = {3: 95, 4: 5}
    assert there.effective_traffic().traffic == {"3": 95, "4": 5}


def test_a_load_that_failed_is_a_refusal_with_its_reason(folder: Path) -> None:
    there = target(folder, FakeController({3: 100, 4: 0}, {"4": "failed to load: no model.onnx"}))
    there.write({"3": 95, "4": 5})
    assert (there.effective_traffic().refused, there.effective_traffic().reason) == (
        True,
        "failed to load: no model.onnx",
    )


def test_a_version_that_has_not_been_loaded_yet_is_no_refusal(folder: Path) -> None:
    there = target(folder, FakeController({3: 100, 4: 0}, {"4": "not loaded; it is when asked for"}))
    there.write({"3": 95, "4": 5})
    assert not there.effective_traffic().refused


def test_an_unknown_version_is_named_with_the_reason(folder: Path) -> None:
    with pytest.raises(TargetError, match="'second' has no version 7 that can be served: no such file"):
        target(folder, FakeController({3: 100}, {"7": "no such file"})).check_version("7")
    with pytest.raises(TargetError, match="x:1 does not answer: UNAVAILABLE; --controller names it"):
        target(folder, UnreachableController({})).check_version("4")


def test_what_cannot_be_found_says_what_to_write(folder: Path) -> None:
    with pytest.raises(TargetError, match="no document about 'third'.*\n.*traffic: .{version: 1, percent: 100}"):
        target(folder, model="third")
    (folder / "again.yml").write_text(TEXT)
    with pytest.raises(TargetError, match="'second' is in .*again.yml and .*both.yaml; want one document"):
        target(folder)


def test_a_document_with_a_fault_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(TEXT.replace("percent: 100}  #", "percent: 90}  #"))
    with pytest.raises(TargetError, match="percents must sum to 100, got 90"):
        target(tmp_path)
