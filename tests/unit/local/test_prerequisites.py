"""Debian packages: installed where that is possible, else named in one line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local import prerequisites
from local.errors import LocalError

SetRuns = Callable[[Callable[[list[str]], bool]], list[list[str]]]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> SetRuns:
    """Record commands without running them, and return whether each succeeded."""

    def set_answer(answer: Callable[[list[str]], bool]) -> list[list[str]]:
        ran: list[list[str]] = []

        def runs(command: list[str], **variables: str) -> bool:
            ran.append(command)
            return answer(command)

        monkeypatch.setattr(prerequisites, "_runs", runs)
        return ran

    return set_answer


def test_nothing_is_installed_when_nothing_is_missing(commands: SetRuns) -> None:
    ran = commands(lambda command: True)
    prerequisites.check_venv()
    prerequisites.check_libpython(Path(sys.executable))
    assert not [command for command in ran if "apt-get" in command]


def test_root_gets_the_package_after_an_update(commands: SetRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    ran = commands(lambda command: "apt-get" in command)
    prerequisites.check_libpython(Path(sys.executable))
    _, update, install = ran
    assert update[-1] == "update"
    assert install[-1] == f"libpython{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(("user", "apt"), [(1000, "/usr/bin/apt-get"), (0, None)])
def test_anyone_else_is_reported_which_package_to_install(
    commands: SetRuns, monkeypatch: pytest.MonkeyPatch, user: int, apt: str | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda name: apt)
    commands(lambda command: False)
    with pytest.raises(LocalError, match="missing.*; install the Debian package libpython3"):
        prerequisites.check_libpython(Path(sys.executable))
    with pytest.raises(LocalError, match="cannot make environments; install the Debian package python3"):
        prerequisites.check_venv()


def test_an_apt_get_that_fails_is_reported(commands: SetRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    commands(lambda command: False)
    with pytest.raises(LocalError, match="apt-get update failed"):
        prerequisites.check_venv()
