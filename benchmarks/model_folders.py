"""Generated model repositories: any number of copies of the sales forecast models, each with its own name and route."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from local.environments import ROOT
from local.errors import LocalError

FAMILY = "sales_forecast"
SOURCE = ROOT / "model-repository"


def name_of(number: int) -> str:
    """Name of the model, and of its folder."""
    return f"{FAMILY}_c{number:04d}"


def number_of(name: str) -> int:
    """Number of the model with this name."""
    return int(name.removeprefix(f"{FAMILY}_c"))


def route_of(number: int) -> str:
    """Route by which a caller addresses the model within its family."""
    return f"C{number:04d}"


def publish(folder: Path, count: int) -> Sequence[str]:
    """Write the models 0 to `count` - 1 into a new folder and return their names."""
    originals = sorted(SOURCE.glob(f"{FAMILY}_*"))
    if not originals:
        raise LocalError(f"{SOURCE}: no {FAMILY}_* to copy")
    for number in range(count):
        _copy(originals[number % len(originals)], folder / name_of(number), number)
    return [name_of(number) for number in range(count)]


def _copy(original: Path, target: Path, number: int) -> None:
    version = target / "1"
    version.mkdir(parents=True)
    config = (original / "config.pbtxt").read_text(encoding="utf-8")
    (target / "config.pbtxt").write_text(config.replace(f'"{original.name}"', f'"{target.name}"'), encoding="utf-8")
    contract = (original / "1/contract.yaml").read_text(encoding="utf-8")
    renamed, times = re.subn(r"(?m)^route: .*$", f"route: {route_of(number)}", contract)
    if times != 1:
        raise LocalError(f"{original / '1/contract.yaml'}: want one line 'route: ...', got {times}")
    (version / "contract.yaml").write_text(renamed, encoding="utf-8")
    try:
        os.link(original / "1/model.onnx", version / "model.onnx")
    except OSError:  # another file system
        shutil.copyfile(original / "1/model.onnx", version / "model.onnx")
