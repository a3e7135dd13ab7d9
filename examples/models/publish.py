"""Model folders in Triton's layout, with a check of each file against its trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Two orders of summation of the same FP32 numbers; measured up to 4e-6.
_TOLERANCE: Final = 1e-4


class Differs(RuntimeError):
    """The ONNX file computes something else than the trained network."""


def write_model(repository: Path, name: str, config: str, versions: dict[int, tuple[bytes, str]]) -> None:
    """Write a model; `versions` maps a number to (model.onnx, contract.yaml)."""
    folder = repository / name
    for number, (graph, contract) in versions.items():
        version = folder / str(number)
        version.mkdir(parents=True, exist_ok=True)
        (version / "model.onnx").write_bytes(graph)
        (version / "contract.yaml").write_text(contract, encoding="utf-8")
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")


def run(graph: bytes, source: Floats) -> Floats:
    """Run a model with onnxruntime, like Triton."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: source})[0])


def check_same(name: str, graph: bytes, source: Floats, expected: Floats) -> None:
    """Raise `Differs` unless the file computes the trained function's output, for one row and for all."""
    scale = np.abs(expected).max()
    for rows in (1, len(source)):
        worst = float(np.abs(run(graph, source[:rows]) - expected[:rows]).max() / scale)
        if not worst < _TOLERANCE:
            raise Differs(f"{name}: for {rows} rows the ONNX file is off by {worst:.2e} of the largest value")
