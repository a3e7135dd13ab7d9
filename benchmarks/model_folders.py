"""Generated model repositories: any number of copies of the example models, each with its own name and route."""

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
        original, target = originals[number % len(originals)], folder / name_of(number)
        _copy_config(original, target)
        _copy_version(original / "1", target / "1", number)
    return [name_of(number) for number in range(count)]


def publish_members(folder: Path, count: int) -> None:
    """Write `count` models into a new folder: all members of the model repository in turn, with all their versions."""
    originals = sorted(path for path in SOURCE.iterdir() if path.is_dir())
    for number in range(count):
        original = originals[number % len(originals)]
        target = folder / f"{original.name}_{number:04d}"
        _copy_config(original, target)
        for contract in original.glob("*/contract.yaml"):
            _copy_version(contract.parent, target / contract.parent.name, number)


def _copy_config(original: Path, target: Path) -> None:
    target.mkdir(parents=True)
    config = (original / "config.pbtxt").read_text(encoding="utf-8")
    (target / "config.pbtxt").write_text(config.replace(f'"{original.name}"', f'"{target.name}"'), encoding="utf-8")


def _copy_version(original: Path, target: Path, number: int) -> None:
    target.mkdir()
    contract = (original / "contract.yaml").read_text(encoding="utf-8")
    renamed, times = re.subn(r"(?m)^route: .*$", f"route: {route_of(number)}", contract)
    if times != 1:
        raise LocalError(f"{original / 'contract.yaml'}: want one line 'route: ...', got {times}")
    (target / "contract.yaml").write_text(renamed, encoding="utf-8")
    try:
        os.link(original / "model.onnx", target / "model.onnx")
    except OSError:  # another file system
        shutil.copyfile(original / "model.onnx", target / "model.onnx")
