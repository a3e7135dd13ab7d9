"""What is asked: requests, the tensors that the model gets of them, and the right answers.

The right answers come from the plain ONNX model and the few lines of `programs.work`, with no server anywhere.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.programs import work
from local.environments import ROOT
from triptych.datatypes import Array, name_of
from triptych.protocol.tensors import to_raw

MODELS = ROOT / "model-repository"
PICTURE = ROOT / "examples/data/seven_640x480.jpg"
BOX = (367, 4, 183, 219)  # of the digit in it, pixels
EXAMPLES = 32  # different requests, so that a mixed-up answer shows
SALES, DIGITS = "sales_forecast_de", "digits_de"

Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Workload:
    """One kind of request to one model, of so many rows each."""

    name: str
    title: str
    model: str
    rows: int
    original: str = ""  # whose ONNX file it is, where the model is not one of the examples

    @property
    def kind(self) -> str:
        return work.kind_of(self.model)

    @functools.cached_property
    def requests(self) -> Sequence[Arrays]:
        """What callers send."""
        make = _sales if self.kind == "sales" else _digits
        return [make(np.random.default_rng(seed), self.rows) for seed in range(EXAMPLES)]

    @functools.cached_property
    def prepared(self) -> Sequence[Arrays]:
        """What the model gets."""
        return [work.before(self.kind, dict(request)) for request in self.requests]

    @functools.cached_property
    def predicted(self) -> Sequence[Arrays]:
        """What the model says."""
        import onnxruntime

        file = MODELS / (self.original or self.model) / "1/model.onnx"
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(names, dict(tensors)), strict=True)) for tensors in self.prepared]

    @functools.cached_property
    def answers(self) -> Sequence[Arrays]:
        """What callers get."""
        return [work.after(self.kind, dict(outputs)) for outputs in self.predicted]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "one row of sales_forecast: RPCs dominate", SALES, 1),
        Workload("W2", "a 640x480 JPEG of digits with a box: preprocess dominates", DIGITS, 1),
        Workload("W3", "16 rows of sales_forecast per request", SALES, 16),
    )
}


def differences(got: Arrays, want: Arrays) -> Iterator[str]:
    """A sentence for each tensor that is not what it should be; shapes [n] and [n,1] are one."""
    for name, expected in want.items():
        if name not in got:
            yield f"no output '{name}'"
        elif got[name].size != expected.size:
            yield f"output '{name}': want shape {list(expected.shape)}, got {list(got[name].shape)}"
        elif not _equal(got[name].reshape(expected.shape), expected):
            yield f"output '{name}': want {expected.ravel()[:4].tolist()}..., got {got[name].ravel()[:4].tolist()}..."


def _equal(got: Array, want: Array) -> bool:
    if want.dtype.kind == "f":
        return bool(np.allclose(got, want, rtol=1e-4, atol=1e-5))
    return bool((got == want).all())


def write_data(requests: Sequence[Arrays], file: Path, batched: bool) -> Path:
    """The requests as perf_analyzer reads them: a step for each row where the server batches, else for each request."""
    if batched:
        steps = [
            {name: _content(array[row : row + 1], array.shape[1:]) for name, array in request.items()}
            for request in requests
            for row in _rows(request)
        ]
    else:
        steps = [{name: _content(array, array.shape) for name, array in request.items()} for request in requests]
    file.write_text(json.dumps({"data": steps}))
    return file


def _rows(request: Arrays) -> range:
    return range(len(next(iter(request.values()))))


def _content(array: Array, shape: Sequence[int]) -> Any:
    """Bytes as they travel, in base64: exact, and read fast."""
    return {"content": {"b64": base64.b64encode(to_raw(array)).decode()}, "shape": list(shape) or [1]}


def _sales(rng: np.random.Generator, rows: int) -> Arrays:
    return {
        "history": rng.poisson(rng.uniform(5, 400, (rows, 1)), (rows, 28)).astype(np.float32),
        "price": rng.uniform(2, 5, (rows, 7)).astype(np.float32).round(2),
        "promotion": rng.random((rows, 7)) < 0.2,
    }


def _digits(rng: np.random.Generator, rows: int) -> Arrays:
    """The same picture; boxes that differ by a few pixels."""
    box = np.array(BOX, np.int32) + np.column_stack([rng.integers(0, 9, (rows, 2)), rng.integers(-8, 1, (rows, 2))])
    return {
        "image": np.array([PICTURE.read_bytes()] * rows, np.object_),
        "box": box.astype(np.int32),
    }


def tensor_specs(tensors: Arrays) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and the dimensions behind the rows."""
    return [(name, name_of(array.dtype), list(array.shape[1:])) for name, array in tensors.items()]
