"""Packing of the dependencies for a bare GPU machine: `python3 -m benchmarks.gpu.carry FOLDER`.

The machine has Python 3.12, PyTorch with CUDA, numpy and OpenCV, and no network. Archives are made of Triton, of the
stages' packages, and of a Python 3.12 for a machine whose Python has no shared library. The archives and this tree stay
within `--limit-mib`; an archive that does not fit is left out and named. `start.py` unpacks them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local.environments import INSTALLER, ROOT, ensure
from local.errors import LocalError

MIB = 1 << 20
VERSION = "3.12"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 26, 27, 28, 31, 34, 35)] + ["manylinux2014_x86_64"]
COMMON, TRITON = "services/triptych/requirements.txt", "services/predictor/requirements.txt"
TESTS, OF_TESTS = "tests/requirements.txt", ("psutil",)  # needed by the measurement in addition to the stages
# Pins that are not packed, with the reason.
THERE = "the machine has it"
LEFT_OUT = {
    "numpy": THERE,
    "opencv-python-headless": THERE,
}
NOT_FOR_TRITON = {"onnxruntime": "the network is PyTorch's"}
# Files of Triton's wheel for other Python versions, 19 of its 55 MB.
OTHER_PYTHONS = re.compile(r"python_backend_stubs/3\.(?!12/)|libpython3-[0-9a-f]+\.13\.")
NEEDLESS = re.compile(r"/(tests?|__pycache__|idlelib|ensurepip|turtledemo|tkinter|lib2to3)/|\.pyi$|\.a$")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.gpu.carry", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the archives are written")
    parser.add_argument("--limit-mib", type=float, default=64.0, help="of the archives and this tree together")
    parser.add_argument("--python", type=Path, help=f"a Python {VERSION} built with --enable-shared, to be carried too")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="triptych-carry-") as name:
            left_bytes = given.limit_mib * MIB - tree_bytes()
            for archive in gathered(Path(name), given.python):
                left_bytes -= keep(archive, given.folder, left_bytes)
    except LocalError as error:
        print(f"carry: {error}", file=sys.stderr)
        return 1
    for package, why in {**LEFT_OUT, **NOT_FOR_TRITON}.items():
        print(f"left out: {package} ({why})")
    print(f"{left_bytes / MIB:.1f} of {given.limit_mib:g} MiB are left")
    return 0


def gathered(draft: Path, python: Path | None) -> Sequence[Path]:
    """Build the archives, the most important first."""
    triton, services = pins(TRITON, NOT_FOR_TRITON), pins(COMMON, LEFT_OUT)
    services += [pin for pin in pins(TESTS, {}) if pin.startswith(OF_TESTS)]
    archives = [
        packed(installed(draft / "predictor", triton)),
        packed(installed(draft / "services", services)),
    ]
    return [*archives, packed(python_of(draft / "python", python))] if python else archives


def pins(file: str, left_out: dict[str, str]) -> list[str]:
    """Pins `name==version` of a requirements file, except those left out."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return [line for line in lines if line and line.partition("==")[0] not in left_out]


def installed(folder: Path, wanted: Sequence[str]) -> Path:
    """These wheels, unpacked for the Python of the other machine. Raises `LocalError`."""
    words = [
        str(ensure(INSTALLER)),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--target",
        str(folder),
    ]
    words += ["--only-binary=:all:", "--implementation=cp", f"--python-version={VERSION}"]
    done = subprocess.run(
        [*words, *(f"--platform={platform}" for platform in PLATFORMS), *wanted], capture_output=True, text=True
    )
    if done.returncode:
        raise LocalError("\n".join(["pip:", *done.stderr.splitlines()[-5:]]))
    return folder


def python_of(folder: Path, program: Path) -> Path:
    """Copy a Python installation without its packages. Raises `LocalError`."""
    library = program.resolve().parent.parent / "lib"
    if not (library / f"libpython{VERSION}.so.1.0").is_file():
        raise LocalError(f"--python {program}: want one with lib/libpython{VERSION}.so.1.0, got none")
    shutil.copytree(library / f"python{VERSION}", folder / f"lib/python{VERSION}", ignore=_no_packages, symlinks=True)
    shutil.copy(library / f"libpython{VERSION}.so.1.0", folder / "lib")
    (folder / "bin").mkdir()
    shutil.copy(program.resolve(), folder / "bin/python3")
    stripped = [folder / f"lib/libpython{VERSION}.so.1.0", *folder.rglob("lib-dynload/*.so")]
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", *map(str, stripped)], check=True)
    return folder


def _no_packages(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("site-packages", "test") or name.startswith("config-")]


def packed(folder: Path) -> Path:
    """Pack a folder into `FOLDER.tar.xz`, without needless files."""

    def needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = f"/{entry.name}/" if entry.isdir() else f"/{entry.name}"
        return None if NEEDLESS.search(path) or OTHER_PYTHONS.search(path) else entry

    archive = folder.with_suffix(".tar.xz")
    with tarfile.open(archive, "w:xz", preset=6) as made:
        made.add(folder, arcname=".", filter=needed)
    return archive


def tree_bytes() -> int:
    """Size of the tracked files of this checkout in bytes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise LocalError("want a git checkout, for its size; git ls-files failed")
    return sum((ROOT / name).lstat().st_size for name in listed.stdout.split("\0") if name and (ROOT / name).exists())


def keep(archive: Path, folder: Path, left_bytes: float) -> int:
    """Move an archive to the folder if it fits, and return its size in bytes, else 0."""
    size, name = archive.stat().st_size, archive.name
    if size > left_bytes:
        print(f"does not fit: {name} of {size / MIB:.1f} MiB, {left_bytes / MIB:.1f} are left; left out")
        (folder / name).unlink(missing_ok=True)
        return 0
    shutil.move(archive, folder / name)
    print(f"{name}: {size / MIB:.1f} MiB")
    return size


if __name__ == "__main__":
    sys.exit(main())
