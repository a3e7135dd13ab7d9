"""Debian packages that the Python environments need: installed where possible, else named in an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from local.errors import LocalError

ROOT = Path(__file__).resolve().parent.parent
APT = ("apt-get", "--quiet", "--quiet")
OTHER_PYTHON = ", or choose a Python: make PYTHON=python3.11"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def check_venv() -> None:
    """Install Python's `venv` if it is missing. Raises `LocalError` if that fails."""
    if not _runs([sys.executable, "-c", "import ensurepip, venv"]):
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        install(package, f"{sys.executable} cannot make environments", OTHER_PYTHON)


def check_libpython(python: Path) -> None:
    """Install the shared library of Python, which Triton's Python backend links. Raises `LocalError` if that fails."""
    probe = [str(python), "-c", "from predictor.wheel import libpython_folder; libpython_folder()"]
    if not _runs(probe, PYTHONPATH=str(ROOT / "services/predictor")):
        name = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        install(name, f"{name}.so.1.0 is missing, which Triton's Python backend links", OTHER_PYTHON)


def browser() -> Path:
    """The path of Chromium, which is installed if it is missing. Raises `LocalError` if that fails."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    install("chromium", "there is no Chromium, which tests the controller's page")
    return Path(shutil.which("chromium") or "chromium")


def postgres() -> Path:
    """The path of Postgres's initdb, which is installed if it is missing. Raises `LocalError` if that fails."""
    if (found := _initdb()) is None:
        install("postgresql", "there is no Postgres, which tests the ledger of jobs")
        found = _initdb()
    return found or Path("initdb")


def _initdb() -> Path | None:
    """Debian keeps it off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found)
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)


def install(package: str, why: str, otherwise: str = "") -> None:
    """Install a package by apt-get. Raises `LocalError` if that is not allowed, or fails."""
    advice = f"{why}; install the Debian package {package}{otherwise}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LocalError(advice)
    print(f"{why}: installing the Debian package {package}", file=sys.stderr, flush=True)
    for arguments in (("update",), ("install", "--yes", "--no-install-recommends", package)):
        if not _runs([*APT, *arguments], DEBIAN_FRONTEND="noninteractive"):
            raise LocalError(f"apt-get {' '.join(arguments)} failed: {advice}")


def _runs(command: list[str], **variables: str) -> bool:
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0
