"""Requests with the answers of a library, as JSON, for the test that compares them with those of the served model."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Answered:
    """One request and the library's answer: arrays by name, the rows first."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def write(file: Path, answered: Sequence[Answered]) -> None:
    """Write them as a list of `{"inputs": {...}, "outputs": {...}}`, as `triptych try` reads a request."""
    document = [{"inputs": _lists(each.inputs), "outputs": _lists(each.outputs)} for each in answered]
    file.write_text(json.dumps(document))


def _lists(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _list(array) for name, array in arrays.items()}


def _list(value: Any) -> Any:
    if isinstance(value, list):  # not by numpy, which cuts the zero bytes at the end of a file off
        return [_list(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _list(value.tolist())
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
