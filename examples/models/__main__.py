"""`python -m examples.models build` trains the example models; `evaluate` measures them through a running stack."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit status."""
    given = _parser().parse_args(arguments)
    if given.command == "evaluate":
        from examples.models.digits.evaluate import evaluate

        return evaluate(given.address, given.pictures)
    _one_thread_each()
    from examples.models.build import build

    return build(given.only, given.out)


def _one_thread_each() -> None:
    """Use one thread, so that sums have one order and files are reproducible. Call it before numpy is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="train all models and write them, their pictures and their report")
    build.add_argument(
        "--only", default="*", metavar="PATTERN", help="models to train, such as 'digits_*'; default all"
    )
    build.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="output folder; default: here")
    evaluate = commands.add_parser("evaluate", help="accuracy of the digits models through the running stack")
    evaluate.add_argument("--address", default="127.0.0.1:9000", help="address of preprocess; default %(default)s")
    evaluate.add_argument("--pictures", type=int, default=450, help="for each model version; default %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
