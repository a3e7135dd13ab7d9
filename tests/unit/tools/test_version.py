"""The version: every file states the same one, and one command sets it everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import triptych
from tools import version
from tools.version import PLACES, ROOT, VersionError, agreed, set_version, stated


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that state the version, and nothing else."""
    for name in PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_all_files_state_the_version_of_the_package() -> None:
    assert agreed() == triptych.__version__


def test_every_package_of_the_project_is_among_the_files() -> None:
    files = [file.relative_to(ROOT) for file in ROOT.glob("*/**/pyproject.toml")]
    packages = {str(file) for file in files if file.parts[0] != "examples"}  # those are other people's packages
    assert packages <= PLACES.keys()


def test_manifests_have_the_version_as_the_tag_of_their_images() -> None:
    for file in (ROOT / "manifests").glob("*/triptych.yaml"):
        assert f'"triptych/controller:{triptych.__version__}"\n' in file.read_text(), f"{file}: make manifests"


@pytest.mark.parametrize("new", ["0.2.0", "1.0.0-rc.1"])
def test_one_call_sets_it_everywhere(checkout: Path, new: str) -> None:
    before = {name: (checkout / name).read_text() for name in PLACES}
    set_version(new, checkout)
    assert agreed(checkout) == new
    for name, text in before.items():
        assert (checkout / name).read_text() == text.replace(triptych.__version__, new)


@pytest.mark.parametrize("new", ["", "2", "v0.2.0", "0.2", "0.2.0 "])
def test_a_version_that_is_not_semantic_changes_nothing(checkout: Path, new: str) -> None:
    with pytest.raises(VersionError, match="want a semantic version"):
        set_version(new, checkout)
    assert agreed(checkout) == triptych.__version__


def test_files_that_disagree_are_listed_with_what_they_state(checkout: Path) -> None:
    chart = checkout / "helm/triptych/Chart.yaml"
    chart.write_text(chart.read_text().replace("appVersion: ", "appVersion: 9."))
    with pytest.raises(VersionError, match=r"several versions.*\n(.*\n)*.*Chart.yaml: .*, 9\."):
        agreed(checkout)


def test_a_file_without_a_version_is_named(checkout: Path) -> None:
    (checkout / "cli/pyproject.toml").write_text("[project]\n")
    with pytest.raises(VersionError, match="cli/pyproject.toml: want 1 lines with a version, got 0"):
        stated(checkout)


def test_the_command_prints_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["version"])
    assert version.main() == 0
    assert capsys.readouterr().out == f"{triptych.__version__}\n"
