"""`triptych steps new`: a package that installs, passes its own test, and joins the vocabulary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.environments import INSTALLER, ensure
from triptych_cli.__main__ import main


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["steps", "new", "halve_all"]) == 0
    assert capsys.readouterr().out == "steps/halve_all: a package with the step 'halve_all' and a test\n"
    return tmp_path / "steps/halve_all"


def run(*command: str, path: Path, cwd: Path) -> str:
    """The output of a command that finds packages in `path`."""
    variables = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_step_is_good_code_with_a_test_that_passes(package: Path) -> None:
    run(sys.executable, "-m", "pytest", "-q", "--rootdir", str(package), str(package), path=package, cwd=package)
    rules = ("--isolated", "--line-length", "120", "--select", "E,F,UP,B,SIM,C4,PT")
    run(sys.executable, "-m", "ruff", "check", *rules, ".", path=package, cwd=package)


def test_the_folder_of_the_images_brings_the_step(package: Path) -> None:
    """The Dockerfile copies the folder `installed` to a place where Python looks for packages."""
    uv = str(ensure(INSTALLER).with_name("uv"))
    options = ("--python", sys.executable, "--no-build-isolation", "--no-deps", "--target", "installed")
    run(uv, "pip", "install", "--quiet", *options, ".", path=package, cwd=package)
    assert {file.name.partition("-")[0] for file in (package / "installed").glob("[!_.]*")} == {
        "halve_all_step.py", "triptych_halve_all_step",
    }  # fmt: skip
    text = run(sys.executable, "-m", "triptych_cli", "steps", path=package / "installed", cwd=package)
    assert "### `halve_all`" in text
    text = run(sys.executable, "-m", "triptych_cli", "steps", "--built-in", path=package / "installed", cwd=package)
    assert "### `halve_all`" not in text
    dockerfile = (package / "Dockerfile").read_text().splitlines()
    assert [line for line in dockerfile if not line.startswith("#")] == [
        "ARG IMAGE",
        "FROM ${IMAGE}",
        "COPY installed /app",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Halve", "want small letters, digits and single _"),
        ("a" * 41, "at most 40"),
        ("class", "want small letters"),
        ("resize", "there is a step 'resize'"),
    ],
)
def test_a_name_that_cannot_be_a_new_step_is_refused(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["steps", "new", name])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_files_that_are_there_are_never_overwritten(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (package / "halve_all_step.py").read_text()
    assert main(["steps", "new", "halve_all"]) == 1
    assert "want a folder that is new or empty" in capsys.readouterr().err
    assert (package / "halve_all_step.py").read_text() == before
    assert main(["steps", "new", "other", "--into", str(package / "pyproject.toml/x")]) == 1
    assert "cannot be written" in capsys.readouterr().err
