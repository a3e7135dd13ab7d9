"""`python -m examples.own_models NAME FOLDER` writes NAME.onnx, and requests with the answers of the library."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

NAMES = ("churn", "characters", "sentences", "speech", "parts")


def main(arguments: list[str]) -> int:
    """Make one model. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.own_models", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("folder", type=Path, help="where the files go")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when a library is imported
    answered = import_module(f"examples.own_models.{given.name}").make(given.folder)
    import_module("examples.own_models.answers").write(given.folder / f"{given.name}.answers.json", answered)
    print(f"made: {given.folder}/{given.name}.onnx, and the answers of the library beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
