"""Model for Triton's Python backend: the work before or after the model, for a whole batch of requests.

The `parameters` of its config.pbtxt set `side` and `kind`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# The stub's interpreter is isolated and reads no PYTHONPATH.
sys.path[:0] = [
    path for name in ("PYTHONPATH", "BENCH_PATH") for path in os.environ.get(name, "").split(os.pathsep) if path
]

import numpy as np
import triton_python_backend_utils as pb_utils

from benchmarks.serving.programs import work


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        side, self._kind = (config["parameters"][name]["string_value"] for name in ("side", "kind"))
        self._do = work.before if side == "before" else work.after
        self._inputs = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Join the rows of the requests, process them once, and split the result."""
        inputs = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]
            for request in requests
        ]
        rows = [len(arrays[0]) for arrays in inputs]
        joined = inputs[0] if len(inputs) == 1 else [np.concatenate(arrays) for arrays in zip(*inputs, strict=True)]
        results = self._do(self._kind, dict(zip(self._inputs, joined, strict=True)))
        responses, start = [], 0
        for count in rows:
            tensors = [
                pb_utils.Tensor(name, _two_dimensions(array[start : start + count])) for name, array in results.items()
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start += count
        return responses


def _two_dimensions(array: Any) -> Any:
    """Add a second dimension to a vector, since Triton has no outputs of one dimension."""
    return array[:, np.newaxis] if array.ndim == 1 else array
