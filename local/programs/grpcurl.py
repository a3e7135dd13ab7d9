"""`grpcurl`, the usual command line for gRPC: the one on PATH, else one that Go builds into the cache.

    python -m local.programs.grpcurl

prints its path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from local.environments import cache_folder, locked
from local.errors import LocalError

VERSION = "v1.9.3"
MODULE = "github.com/fullstorydev/grpcurl/cmd/grpcurl"
BUILD_TIMEOUT_S = 900.0
WITHOUT = "the tests that call it are skipped, and nothing else needs it"


def find_grpcurl() -> Path | None:
    """The path of grpcurl on PATH or in the cache, or None."""
    for found in (shutil.which("grpcurl"), shutil.which("grpcurl", path=str(_folder()))):
        if found:
            return Path(found)
    return None


def ensure_grpcurl() -> Path:
    """The path of grpcurl, which is built if it is missing. Raises `LocalError` if that fails."""
    with locked("grpcurl"):
        return find_grpcurl() or _build()


def _folder() -> Path:
    return cache_folder() / f"grpcurl-{VERSION}"


def _build() -> Path:
    go = shutil.which("go")
    if go is None:
        raise LocalError(f"not on PATH, and there is no Go to build it with; {WITHOUT}")
    print(f"building grpcurl {VERSION} in {_folder()} (once)", file=sys.stderr, flush=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{_folder().name}.", dir=cache_folder()))
    try:
        _install(go, draft)
        shutil.rmtree(_folder(), ignore_errors=True)
        draft.rename(_folder())
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _folder() / "grpcurl"


def _install(go: str, folder: Path) -> None:
    variables = {**os.environ, "GOBIN": str(folder)}
    command = [go, "install", f"{MODULE}@{VERSION}"]
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise LocalError(f"not built within {BUILD_TIMEOUT_S:.0f} s; {WITHOUT}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        raise LocalError(f"could not be built: {last}; {WITHOUT}")


def main() -> None:
    """Print the path, for a shell: `$(python -m local.programs.grpcurl) --help`."""
    try:
        print(ensure_grpcurl())
    except LocalError as error:
        raise SystemExit(f"grpcurl: {error}") from None


if __name__ == "__main__":
    main()
