"""Workloads: requests, the model's inputs and outputs, and the right answers.

The right answers are computed with the ONNX model and `programs.work`, without a server.
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
EXAMPLES = 32  # distinct requests, so that swapped answers are noticed
SALES, DIGITS = "sales_forecast_de", "digits_de"

Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class ServingWorkload:
    """Requests of `rows` rows to one model."""

    name: str
    title: str
    model: str
    rows: int
    original: str = ""  # the model whose ONNX file it uses, if it is not one of the examples

    @property
    def kind(self) -> str:
        return work.kind_of(self.model)

    @functools.cached_property
    def requests(self) -> Sequence[Arrays]:
        """Inputs of the requests."""
        make = _sales if self.kind == "sales" else _digits
        return [make(np.random.default_rng(seed), self.rows) for seed in range(EXAMPLES)]

    @functools.cached_property
    def prepared(self) -> Sequence[Arrays]:
        """Inputs of the model."""
        return [work.before(self.kind, dict(request)) for request in self.requests]

    @functools.cached_property
    def predicted(self) -> Sequence[Arrays]:
        """Outputs of the model."""
        import onnxruntime

        file = MODELS / (self.original or self.model) / "1/model.onnx"
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(names, dict(tensors)), strict=True)) for tensors in self.prepared]

    @functools.cached_property
    def answers(self) -> Sequence[Arrays]:
        """Right answers to the requests."""
        return [work.after(self.kind, dict(outputs)) for outputs in self.predicted]


WORKLOADS = {
    workload.name: workload
    for workload in (
        ServingWorkload("W1", "one row of sales_forecast: RPCs dominate", SALES, 1),
        ServingWorkload("W2", "a 640x480 JPEG of digits with a box: preprocess dominates", DIGITS, 1),
        ServingWorkload("W3", "16 rows of sales_forecast per request", SALES, 16),
    )
}


def differences(got: Arrays, want: Arrays) -> Iterator[str]:
    """A sentence for each tensor that differs; shapes [n] and [n,1] are equal."""
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
    """Write the requests for perf_analyzer: one step per row if the server batches, else one per request."""
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
    """Raw contents in base64, which are exact and fast to read."""
    return {"content": {"b64": base64.b64encode(to_raw(array)).decode()}, "shape": list(shape) or [1]}


def _sales(rng: np.random.Generator, rows: int) -> Arrays:
    return {
        "history": rng.poisson(rng.uniform(5, 400, (rows, 1)), (rows, 28)).astype(np.float32),
        "price": rng.uniform(2, 5, (rows, 7)).astype(np.float32).round(2),
        "promotion": rng.random((rows, 7)) < 0.2,
    }


def _digits(rng: np.random.Generator, rows: int) -> Arrays:
    """Requests with the same picture and boxes that differ by a few pixels."""
    box = np.array(BOX, np.int32) + np.column_stack([rng.integers(0, 9, (rows, 2)), rng.integers(-8, 1, (rows, 2))])
    return {
        "image": np.array([PICTURE.read_bytes()] * rows, np.object_),
        "box": box.astype(np.int32),
    }


def tensor_specs(tensors: Arrays) -> list[tuple[str, str, list[int]]]:
    """Name, datatype, and dimensions after the rows, of each tensor."""
    return [(name, name_of(array.dtype), list(array.shape[1:])) for name, array in tensors.items()]
