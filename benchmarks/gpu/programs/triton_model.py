"""Model for Triton's Python backend. The parameter `step` in its config.pbtxt selects its work.

`predict` is the network alone. `grouped` is all three steps in one process: it decodes the pictures of a batch on
`threads` threads, runs the network once, and labels the classes.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# The stub's interpreter is isolated and reads no PYTHONPATH.
sys.path[:0] = [
    path for name in ("PYTHONPATH", "BENCH_PATH") for path in os.environ.get(name, "").split(os.pathsep) if path
]

import numpy as np
import triton_python_backend_utils as pb_utils

from benchmarks.gpu.programs import network


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        given = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in given.items()}
        self._run = network.make(parameters)
        self._grouped = parameters["step"] == "grouped"
        self._pool = ThreadPoolExecutor(int(parameters["threads"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Join the rows of the requests, process them once, and split the result."""
        name = "image" if self._grouped else "pixels"
        arrays = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
        if self._grouped:
            words, scores = network.named(self._run(self._decoded(arrays)))
            results = {"label": words, "score": scores}
        else:
            results = {"logits": self._run(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))}
        responses, start = [], 0
        for array in arrays:
            rows = slice(start, start + len(array))
            tensors = [pb_utils.Tensor(key, value[rows]) for key, value in results.items()]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start = rows.stop
        return responses

    def _decoded(self, arrays: list[Any]) -> Any:
        files = [file for array in arrays for file in array.ravel().tolist()]
        return np.stack(list(self._pool.map(decoded, files)))


def decoded(file: bytes) -> Any:
    """Decode and resize a picture to UINT8 [224,224,3], like the contract's steps."""
    import cv2

    cv2.setNumThreads(1)
    picture = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError("not a picture")
    return cv2.resize(picture, (network.SIDE, network.SIDE), interpolation=cv2.INTER_AREA)
