"""The backend directory: the wheel's Python backend with a stub that a script of ours starts, and our `onnxruntime`."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from predictor.wheel import PYTHON, Wheel

OURS = Path(__file__).parent.parent / "backends"


def cache_folder() -> Path:
    """Folder for files that are kept between starts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triptych"


def assemble(wheel: Wheel, cache: Path) -> Path:
    """The backend directory for this wheel, this Python and these backends; made once.

    It has to be writable (the Python backend sets the stub's permissions), so it is neither in the wheel nor
    in a checkout. Two processes may make it at the same time: the first rename wins, and both are equal.
    """
    folder = cache / f"backends-{_key(wheel)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache))
    try:
        shutil.copytree(wheel.python_backend, draft / "python", ignore=shutil.ignore_patterns("__pycache__"))
        _copy_stub(wheel, draft / "python/stub")
        shutil.copytree(OURS, draft, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        draft.chmod(0o700)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _key(wheel: Wheel) -> str:
    digest = hashlib.sha256(f"{wheel.version()} {PYTHON}".encode())
    for file in sorted(file for file in OURS.rglob("*") if file.is_file() and "__pycache__" not in file.parts):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _copy_stub(wheel: Wheel, folder: Path) -> None:
    """Copy the program that the script of the same name, in the folder above, starts."""
    folder.mkdir()
    Path(shutil.copy(wheel.stub, folder)).chmod(0o755)
