"""Environments: the conditions for another one. Every test that runs in one shows that they can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from local import environments
from local.environments import ENVIRONMENTS, PythonEnvironment
from local.errors import LocalError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pins.txt").write_text("numpy==1.26.4\n")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    return tmp_path


def test_another_pin_is_another_folder(checkout: Path) -> None:
    before = PythonEnvironment("e", ("pins.txt",)).folder()
    assert PythonEnvironment("e", ("pins.txt",)).folder() == before
    (checkout / "pins.txt").write_text("numpy==2.4.6\n")
    assert PythonEnvironment("e", ("pins.txt",)).folder() != before


def test_only_an_environment_with_our_packages_belongs_to_one_checkout(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "service").mkdir()
    (checkout / "service/pyproject.toml").write_text("")
    theirs, ours = PythonEnvironment("a", ("pins.txt",)), PythonEnvironment("b", ("pins.txt",), ("service",))
    before = theirs.folder(), ours.folder()
    other = checkout.parent / f"{checkout.name}-other"
    checkout.rename(other)
    monkeypatch.setattr(environments, "ROOT", other)
    assert theirs.folder() == before[0]
    assert ours.folder() != before[1]


def test_a_step_of_ones_own_is_part_of_the_environment_and_of_its_renewal(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = PythonEnvironment("e", ("pins.txt",), has_own_steps=True)
    before = environment.folder()
    project = checkout / "steps/clamp/pyproject.toml"
    project.parent.mkdir(parents=True)
    project.write_text("[project]")
    assert environment.folder() != before
    assert PythonEnvironment("e", ("pins.txt",)).folder() == before
    ran: list[list[str]] = []
    monkeypatch.setattr(environments, "_run", lambda command, variables=None: ran.append(command))
    environments._install(Path(sys.executable), environment, ["--requirement", "pins.txt"])
    install = ran[-1]
    assert install[-2:] == ["--editable", f"{checkout}/steps/clamp"]
    assert "--no-deps" not in install
    assert install[install.index("--constraint") + 1] == f"{checkout}/pins.txt"


def test_pins_that_are_not_there_are_named(checkout: Path) -> None:
    with pytest.raises(LocalError, match="other.txt: no such file"):
        PythonEnvironment("e", ("other.txt",)).folder()


def test_every_requirement_is_pinned_and_no_index_is_named() -> None:
    for environment in ENVIRONMENTS.values():
        for file in environment.requirements:
            for line in (environments.ROOT / file).read_text().splitlines():
                assert not line or line.startswith("#") or "==" in line, f"{file}: {line}"
                assert "://" not in line, f"{file}: {line}"


def test_what_trains_the_models_has_what_their_contracts_are_read_with() -> None:
    """The environment of `make models` has pins of its own, and takes the contract from the services."""
    imported_names = subprocess.run(
        [sys.executable, "-c", "import sys, triptych.contract; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(environments.ROOT / "services/triptych")},
        capture_output=True,
        text=True,
        check=True,
    )
    known = packages_distributions()
    imported = {package for name in imported_names.stdout.split() for package in known.get(name.split(".")[0], [])}
    needed = {package for package in imported if not package.startswith("triptych")} - {"setuptools"}
    assert "numpy" in needed
    pins = (environments.ROOT / "examples/models/requirements.txt").read_text().splitlines()
    assert not {f"{package}=={version(package)}" for package in needed} - set(pins)


def test_an_environment_that_is_complete_is_only_found(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(checkout))
    environment = PythonEnvironment("services", ("pins.txt",))
    monkeypatch.setitem(environments.ENVIRONMENTS, "services", environment)
    environment.folder().mkdir(parents=True)
    (environment.folder() / "complete").touch()
    assert environments.ensure("services") == environment.python()


def test_a_step_that_fails_is_reported_with_its_last_lines() -> None:
    with pytest.raises(LocalError, match=r"(?s)python.* ended with 3:\nno such package"):
        environments._run([sys.executable, "-c", "print('no such package'); raise SystemExit(3)"])
    with pytest.raises(LocalError, match=r"name resolution\n-> the package registry is out of reach"):
        environments._run([sys.executable, "-c", "raise SystemExit('failure in name resolution')"])


def test_an_old_python_is_answered_with_the_wanted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "NEWEST", (3, 10))
    with pytest.raises(LocalError, match=r"want Python 3.11 or 3.10, got .*make PYTHON="):
        environments.ensure("services")
