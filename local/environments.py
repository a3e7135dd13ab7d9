"""The Python environments of the project, created once and kept outside the checkout.

    python3 -m local.environments services predictor

creates those that are missing and prints the path of each one's Python. Standard library only, because it runs
before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError
from local.prerequisites import check_libpython, check_venv
from local.uv_settings import uv_settings

ROOT = Path(__file__).resolve().parent.parent
UNREACHABLE = ("NewConnectionError", "name resolution", "dns error", "error sending request")  # of pip and uv
NO_REGISTRY = "-> the package registry is out of reach: connect this machine, or set PIP_INDEX_URL or HTTPS_PROXY"
OLDEST, NEWEST = (3, 11), (3, 12)  # numpy 1.26, which Triton's Python backend needs, has no wheels for 3.13


@dataclass(frozen=True)
class PythonEnvironment:
    """One environment: requirements files, packages of this checkout, options of the install."""

    name: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    needs_libpython: bool = False
    has_own_steps: bool = False

    def own_steps(self) -> tuple[str, ...]:
        """Folders below `steps` with packages of one's own, which `triptych steps new` makes."""
        if not self.has_own_steps:
            return ()
        return tuple(sorted(f"steps/{file.parent.name}" for file in (ROOT / "steps").glob("*/pyproject.toml")))

    def folder(self) -> Path:
        """The folder, named after a digest of the Python, the pins and, with packages of ours, the checkout."""
        digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {self.options}".encode())
        packages = (*self.packages, *self.own_steps())
        for file in (*self.requirements, *(f"{package}/pyproject.toml" for package in packages)):
            digest.update(_read(file))
        if self.packages:
            digest.update(str(ROOT).encode())
        return cache_folder() / f"{self.name}-{digest.hexdigest()[:12]}"

    def python(self) -> Path:
        """The path of its interpreter, which may not exist yet."""
        return self.folder() / "bin" / "python"


INSTALLER = "installer"  # has pip and uv; the other environments have neither
SERVICES = (
    "services/triptych/requirements.txt",
    "services/controller/requirements.txt",
    "client/requirements.txt",
    "services/jobs/requirements.txt",
    "tests/requirements.txt",
)
SERVICE_PACKAGES = (
    "services/triptych",
    "services/preprocess",
    "services/postprocess",
    "services/controller",
    "client",
    "services/jobs",
    "cli",
)

ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        PythonEnvironment(INSTALLER, ("local/requirements.txt",)),
        PythonEnvironment("services", SERVICES, SERVICE_PACKAGES, options=("--no-deps",), has_own_steps=True),
        PythonEnvironment("benchmarks", (*SERVICES, "benchmarks/requirements.txt"), SERVICE_PACKAGES),
        PythonEnvironment(
            "predictor",
            ("services/predictor/requirements.txt",),
            options=("--no-deps",),
            needs_libpython=True,
        ),
        PythonEnvironment(
            "ray", (*SERVICES, "services/jobs/requirements-ray.txt"), SERVICE_PACKAGES, options=("--no-deps",)
        ),
        PythonEnvironment(
            "spark", (*SERVICES, "services/jobs/requirements-spark.txt"), SERVICE_PACKAGES, options=("--no-deps",)
        ),
        PythonEnvironment("models", ("examples/models/requirements.txt",)),
        PythonEnvironment("own-models", ("examples/own_models/requirements.txt",), options=("--no-deps",)),
        PythonEnvironment(
            "converters", (*SERVICES, "tests/requirements-converters.txt"), SERVICE_PACKAGES, options=("--no-deps",)
        ),
        PythonEnvironment("transformers", ("tests/requirements-transformers.txt",), options=("--no-deps",)),
        PythonEnvironment("kserve", ("tests/requirements-kserve.txt",)),
        PythonEnvironment("backend", ("examples/backend/requirements.txt",)),
        PythonEnvironment("audit", ("tests/requirements-audit.txt",)),
        PythonEnvironment("bench-ray", ("benchmarks/requirements-ray.txt",)),
        PythonEnvironment("bench-kserve", ("tests/requirements-kserve.txt", "benchmarks/requirements-kserve.txt")),
        PythonEnvironment(
            "bench-ensemble",
            ("services/predictor/requirements.txt", "benchmarks/requirements-ensemble.txt"),
            options=("--no-deps",),
            needs_libpython=True,
        ),
    )
}


def cache_folder() -> Path:
    """The folder of everything that is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triptych"


def ensure(name: str) -> Path:
    """The interpreter of an environment, which is created if it is missing. Raises `LocalError`."""
    _check_python()
    environment = ENVIRONMENTS[name]
    stamp = environment.folder() / "complete"
    if not stamp.exists():
        with locked(name):
            if not stamp.exists():
                _create(environment)
                stamp.write_text(f"{ROOT}\n" if environment.packages else "")
                _remove_stale(environment)
    return environment.python()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock file of that name; other processes wait for it."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _create(environment: PythonEnvironment) -> None:
    """Create an environment: `INSTALLER` by venv and pip, every other one by uv."""
    python = None if environment.name == INSTALLER else ensure(INSTALLER)
    folder, start = environment.folder(), time.monotonic()
    _log(f"creating the environment '{environment.name}' in {folder} (once)")
    shutil.rmtree(folder, ignore_errors=True)
    pins = [argument for file in environment.requirements for argument in ("--requirement", str(ROOT / file))]
    if python is None:
        check_venv()
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(environment.python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins])
    else:
        _install(python, environment, pins)
    if environment.needs_libpython:
        check_libpython(environment.python())
    _log(f"environment '{environment.name}' ready after {time.monotonic() - start:.1f} s")


def _install(python: Path, environment: PythonEnvironment, pins: Sequence[str]) -> None:
    uv, settings = str(python.with_name("uv")), uv_settings(python, os.environ)
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(environment.folder())], settings)
    install = [uv, "pip", "install", "--quiet", "--python", str(environment.python())]
    _run([*install, *environment.options, *pins], settings)
    build = ("--no-build-isolation", "--config-settings", "editable_mode=compat")
    if environment.packages:
        _run([*install, *build, "--no-deps", *_editable(environment.packages)], settings)
    if own := environment.own_steps():  # with what they need, of which the pins above stay as they are
        constraints = [argument for file in environment.requirements for argument in ("--constraint", str(ROOT / file))]
        _run([*install, *build, *constraints, *_editable(own)], settings)


def _editable(packages: Sequence[str]) -> list[str]:
    return [argument for package in packages for argument in ("--editable", str(ROOT / package))]


def _remove_stale(environment: PythonEnvironment) -> None:
    """Remove environments of an earlier state of this checkout, or of a checkout that is gone."""
    if not environment.packages:
        return
    for stamp in cache_folder().glob(f"{environment.name}-*/complete"):
        checkout = Path(stamp.read_text().strip())
        if stamp.parent != environment.folder() and (checkout == ROOT or not checkout.exists()):
            shutil.rmtree(stamp.parent, ignore_errors=True)


def _run(command: list[str], variables: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, env=variables, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-15:]
        advice = [NO_REGISTRY] if any(sign in line for line in last for sign in UNREACHABLE) else []
        raise LocalError("\n".join([f"{' '.join(command)} ended with {done.returncode}:", *last, *advice]))


def _check_python() -> None:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        wanted = " or ".join(".".join(map(str, version)) for version in (OLDEST, NEWEST))
        raise LocalError(
            f"want Python {wanted}, got {sys.version.split()[0]} ({sys.executable}); "
            "name another one as in: make PYTHON=python3.11"
        )


def _read(file: str) -> bytes:
    try:
        return (ROOT / file).read_bytes()
    except FileNotFoundError:
        raise LocalError(f"{file}: no such file in {ROOT}") from None


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Print one line for each environment named."""
    if not sys.argv[1:] or not set(sys.argv[1:]) <= ENVIRONMENTS.keys():
        raise SystemExit(f"usage: python3 -m local.environments NAME...; names: {', '.join(ENVIRONMENTS)}")
    try:
        for name in sys.argv[1:]:
            print(ensure(name))
    except LocalError as error:
        raise SystemExit(f"environments: {error}") from None


if __name__ == "__main__":
    main()
