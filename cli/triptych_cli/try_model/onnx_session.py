"""The model by ONNX Runtime, with the shapes that Triton gives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.contract.trace import Predict
from triptych.contract.verification.triton_config import model_file
from triptych.datatypes import Array


class NoRuntime(RuntimeError):
    """The model cannot be run here; the text says what to do."""


def predict_by(config: Any, version: Path) -> Predict:
    """The function of the model of a version. Raises `NoRuntime` and the errors of ONNX Runtime."""
    if config.backend != "onnxruntime" and config.platform != "onnxruntime_onnx":
        raise NoRuntime(f"only models of the backend onnxruntime run here, not '{config.backend or config.platform}'")
    try:
        import onnxruntime
    except ImportError:
        raise NoRuntime("ONNX Runtime is not installed: pip install onnxruntime") from None
    name = model_file(config) or "model.onnx"
    session = onnxruntime.InferenceSession(str(version / name), providers=["CPUExecutionProvider"])
    wanted = [output.name for output in config.output]

    def predict(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        sent = {tensor.name: _reshaped(inputs[tensor.name], tensor) for tensor in config.input}
        outputs = session.run(wanted, {each: _texts(array) for each, array in sent.items()})
        rows = len(next(iter(inputs.values())))
        return {
            output.name: _encoded(array).reshape(rows, *output.dims) if output.HasField("reshape") else _encoded(array)
            for output, array in zip(config.output, outputs, strict=True)
        }

    return predict


def _reshaped(array: Array, tensor: Any) -> Array:
    return array.reshape(len(array), *tensor.reshape.shape) if tensor.HasField("reshape") else array


def _texts(array: Array) -> Array:
    if array.dtype != np.object_:
        return array
    return np.array([element.decode() for element in array.flat], np.object_).reshape(array.shape)


def _encoded(array: Array) -> Array:
    if array.dtype != np.object_:
        return array
    encoded = np.empty(array.size, np.object_)
    encoded[:] = [str(element).encode() for element in array.flat]
    return encoded.reshape(array.shape)
