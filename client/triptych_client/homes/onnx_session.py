"""The model by ONNX Runtime, with the shapes that Triton gives it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from triptych.contract.trace import Predict
from triptych.contract.verification.triton_config import model_file
from triptych.datatypes import Array

_PARAMETERS: Final = (
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
)


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
    session = onnxruntime.InferenceSession(str(version / name), _options(config), providers=["CPUExecutionProvider"])
    wanted = [output.name for output in config.output]
    scalars = {tensor.name for tensor in session.get_inputs() if not tensor.shape}
    is_batching = config.max_batch_size > 0

    def predict(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        rows = [len(next(iter(inputs.values())))] if is_batching else []
        given = [tensor for tensor in config.input if tensor.name in inputs]  # the contract may leave optional ones out
        sent = {tensor.name: _for_file(inputs[tensor.name], tensor, rows, scalars) for tensor in given}
        outputs = session.run(wanted, {each: _texts(array) for each, array in sent.items()})
        return {
            tensor.name: _of_file(_encoded(np.asarray(array)), tensor, rows)
            for tensor, array in zip(config.output, outputs, strict=True)
        }

    return predict


def _options(config: Any) -> Any:
    """The parameters of the backend `onnxruntime`, with the defaults of the one that Triptych brings."""
    import onnxruntime as ort

    given = {name: int(value.string_value) for name, value in config.parameters.items() if name in _PARAMETERS}
    options = ort.SessionOptions()
    options.intra_op_num_threads = given.get("intra_op_thread_count", 1)
    options.inter_op_num_threads = given.get("inter_op_thread_count", 1)
    is_parallel = given.get("execution_mode", 0) == 1
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if is_parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = given.get("enable_mem_arena", 0) == 1
    options.enable_mem_pattern = given.get("enable_mem_pattern", 0) == 1
    options.log_severity_level = 3
    return options


def _for_file(array: Array, tensor: Any, rows: list[int], scalars: Collection[str]) -> Array:
    """An input in the shape of the file; `rows` is empty if config.pbtxt has all dimensions."""
    if tensor.name in scalars:
        return array.reshape(())
    if not tensor.HasField("reshape"):
        return array
    return array.reshape(*rows, *_filled(tensor.reshape.shape, tensor.dims, array.shape[len(rows) :]))


def _of_file(array: Array, tensor: Any, rows: list[int]) -> Array:
    """An output in the shape of config.pbtxt."""
    if not array.ndim:
        return array.reshape(1)
    if not tensor.HasField("reshape"):
        return array
    return array.reshape(*rows, *_filled(tensor.dims, tensor.reshape.shape, array.shape[len(rows) :]))


def _filled(dims: Sequence[int], other: Sequence[int], shape: Sequence[int]) -> list[int]:
    """`dims` with their open ones filled by those of `other`, in their order, which has that shape."""
    sizes = iter([size for dim, size in zip(other, shape, strict=True) if dim == -1])
    return [next(sizes, -1) if dim == -1 else dim for dim in dims]


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
