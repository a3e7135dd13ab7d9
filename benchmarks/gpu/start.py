"""Start on the bare machine: unpack the archives of `carry.py`, and run `python -m benchmarks.gpu`.

    python3 benchmarks/gpu/start.py --carried FOLDER [--place /tmp/triptych-gpu] -- --seconds 8 ...

Standard library only. Triton gets a separate Python environment with the numpy that it needs. Its models import PyTorch
and OpenCV from the Python that runs this program. The stages run in that Python, with the carried packages first. If it
has no shared library, Triton's environment is made from the carried Python.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VERSION = (3, 12)
LIBRARY = f"libpython{VERSION[0]}.{VERSION[1]}.so.1.0"
PACKAGES = f"lib/python{VERSION[0]}.{VERSION[1]}/site-packages"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 benchmarks/gpu/start.py", description=__doc__)
    parser.add_argument("--carried", type=Path, required=True, help="folder of the archives of carry.py")
    parser.add_argument("--place", type=Path, default=Path("/tmp/triptych-gpu"), help="where they are unpacked")
    parser.add_argument("more", nargs="*", help="after `--`: for python -m benchmarks.gpu")
    given = parser.parse_args()
    if sys.version_info[:2] != VERSION:
        raise SystemExit(f"start: want Python {VERSION[0]}.{VERSION[1]}, got {sys.version.split()[0]}")
    services = unpacked(given.carried / "services.tar.xz", given.place / "services")
    predictor = predictor_python(given.carried, given.place)
    variables = environment(services, predictor)
    there = sysconfig.get_path("purelib")
    words = ["--predictor", str(predictor), "--path", there, *given.more]
    os.chdir(ROOT)
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks.gpu", *words], variables)


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack an archive and return its folder."""
    if not archive.is_file():
        raise SystemExit(f"start: {archive}: no such file; `python3 -m benchmarks.gpu.carry` makes it")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


def predictor_python(carried: Path, place: Path) -> Path:
    """A Python with Triton, made from this Python, or from the carried one if this has no shared library."""
    folder = place / "predictor"
    made = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)]
    if not shared_library() or subprocess.run(made).returncode:
        print(f"start: this Python has no {LIBRARY}, or no venv; the carried one runs Triton", file=sys.stderr)
        moved(unpacked(carried / "python.tar.xz", folder))
    unpacked(carried / "predictor.tar.xz", folder / PACKAGES)
    return folder / "bin/python3"


def moved(folder: Path) -> None:
    """Correct the build-time folder that a moved Python has recorded."""
    for file in folder.glob("lib/python*/_sysconfigdata*.py"):
        text = file.read_text()
        if built := re.search(r"'prefix': '([^']+)'", text):
            file.write_text(text.replace(built[1], str(folder.resolve())))


def shared_library() -> bool:
    """Whether the stub of Triton's Python backend finds libpython in the folders that `predictor.wheel` searches."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = [sysconfig.get_config_var("LIBDIR") or "/usr/lib", "/usr/lib", "/lib", "/usr/lib64", "/usr/local/lib"]
    return any(Path(folder, under, LIBRARY).is_file() for folder in folders for under in ("", multiarch))


def environment(services: Path, predictor: Path) -> dict[str, str]:
    """Environment variables of the stages. Triton's Python comes first on PATH, so that the stub uses its library.

    A carried Python finds its library by the loader's path.
    """
    stages = [ROOT / "services" / name for name in ("common", "preprocess", "postprocess", "controller")]
    path: Sequence[Path] = [ROOT, *stages, services]
    library = predictor.parent.parent / "lib"
    loader = {"LD_LIBRARY_PATH": str(library)} if (library / LIBRARY).is_file() else {}
    return {
        **os.environ,
        **loader,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PATH": os.pathsep.join([str(predictor.parent), os.environ.get("PATH", "")]),
    }


if __name__ == "__main__":
    main()
