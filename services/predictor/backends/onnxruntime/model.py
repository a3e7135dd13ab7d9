"""The backend `onnxruntime` for a Triton that has only the Python backend, as the one in the wheel.

It serves the same `config.pbtxt` and `model.onnx` as the backend of that name in NVIDIA's image.
Triton starts one process for each instance of each model version and runs this file in it, so imports and
memory here count by the dozen, and what a load takes is taken from requests to other models. Therefore:
- OpenBLAS, which nothing here uses, starts no threads: each would spin for as long as numpy is imported.
- Parts of numpy that nothing here uses are imported at their first use.
- So is asyncio, of which the stub wants to know after each request whether `execute` returned a coroutine.
- Imports and the session are made on a thread of low priority, which then ends.
- The process ends without unloading its modules: Triton has released it by then.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import CoroutineType, ModuleType
from typing import Any

gc.disable()  # until everything is imported: nothing of it will ever be garbage
# Triton's stub starts an isolated interpreter, which does not read PYTHONPATH.
sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

NICE = 5  # of a load: requests that come meanwhile have three quarters of a core that both want


class _Lazily:
    """Finds modules that are read when something of them is used first."""

    names = frozenset({"numpy.ctypeslib", "numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random"})

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in cls.names else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


class _Asyncio(ModuleType):
    """The one function of asyncio that Triton's stub calls; who asks for anything else gets asyncio itself."""

    def iscoroutine(self, value: object) -> bool:
        return isinstance(value, CoroutineType)

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get("asyncio") is self:
            del sys.modules["asyncio"]
        return getattr(import_module("asyncio"), name)


def _unhurried(work: Callable[[], Any]) -> Any:
    """The result of some work, done on a thread of low priority: on Linux a thread has its own."""
    outcome: list[Any] = []

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


sys.meta_path.insert(0, _Lazily)
_unhurried(lambda: [import_module(name) for name in ("numpy", "onnxruntime")])
sys.meta_path.remove(_Lazily)
sys.modules.setdefault("asyncio", _Asyncio("asyncio"))

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

gc.freeze()
gc.enable()

# onnxruntime's names for the element types that Triton writes as TYPE_*.
ONNX_TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_UINT16": "tensor(uint16)",
    "TYPE_UINT32": "tensor(uint32)",
    "TYPE_UINT64": "tensor(uint64)",
    "TYPE_INT8": "tensor(int8)",
    "TYPE_INT16": "tensor(int16)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
    "TYPE_STRING": "tensor(string)",
}

Arrays = dict[str, Any]


class TritonPythonModel:
    """One instance of one model version."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the session. What is raised here becomes the answer to the load request."""
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or "model.onnx"
        path = os.path.join(args["model_repository"], args["model_version"], file)
        if not os.path.isfile(path):
            raise pb_utils.TritonModelException(f"{path}: no such file")
        try:
            self._session = _session(path, _options(config))
        except Exception as error:
            raise pb_utils.TritonModelException(f"{path}: {error}") from error
        faults = _faults(config, self._session)
        if faults:
            raise pb_utils.TritonModelException(f"{path} does not fit config.pbtxt: " + "; ".join(faults))
        self._outputs = [output["name"] for output in config["output"]]
        self._batches = config.get("max_batch_size", 0) > 0
        self._scalars = [tensor.name for tensor in self._session.get_inputs() if not tensor.shape]
        atexit.register(_end)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers the requests that Triton has grouped, in order, in as few runs as their shapes allow."""
        inputs = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        responses: list[Any] = [None] * len(requests)
        for group in self._groups(inputs):
            answers = self._run_group([inputs[index] for index in group])
            for index, answer in zip(group, answers, strict=True):
                responses[index] = _response(answer, requests[index].requested_output_names())
        return responses

    def finalize(self) -> None:
        """Frees the session before the process ends."""
        del self._session

    def _groups(self, inputs: list[Arrays]) -> list[list[int]]:
        """Positions of the requests that differ in nothing but their number of rows."""
        if not self._batches:
            return [[index] for index in range(len(inputs))]
        groups: dict[Any, list[int]] = {}
        for index, arrays in enumerate(inputs):
            shapes = tuple((name, array.shape[1:]) for name, array in sorted(arrays.items()))
            groups.setdefault(shapes, []).append(index)
        return list(groups.values())

    def _run_group(self, group: list[Arrays]) -> list[Arrays | Exception]:
        """One run for the whole group; one for each request if that fails, so that a bad one stands alone."""
        try:
            return list(self._run_joined(group))
        except Exception as error:
            return [error] if len(group) == 1 else [self._run_group([arrays])[0] for arrays in group]

    def _run_joined(self, group: list[Arrays]) -> list[Arrays]:
        """Rows of all requests one after the other, the outputs cut at the same places."""
        if len(group) == 1:
            return [self._run(group[0])]
        outputs = self._run({name: np.concatenate([arrays[name] for arrays in group]) for name in group[0]})
        rows = [len(next(iter(arrays.values()))) for arrays in group]
        for name, array in outputs.items():
            if len(array) != sum(rows):
                raise ValueError(f"output '{name}': want {sum(rows)} rows, got {len(array)}")
        ends = np.cumsum(rows)
        return [
            {name: array[end - count : end] for name, array in outputs.items()}
            for count, end in zip(rows, ends, strict=True)
        ]

    def _run(self, arrays: Arrays) -> Arrays:
        values = {name: _texts(name, array) if array.dtype == np.object_ else array for name, array in arrays.items()}
        values |= {name: values[name].reshape(()) for name in self._scalars if name in values}
        outputs = self._session.run(self._outputs, values)
        return {name: array if array.ndim else array[None] for name, array in zip(self._outputs, outputs, strict=True)}


def _texts(name: str, array: Any) -> Any:
    """BYTES as the strings of ONNX, which are UTF-8. Of bytes onnxruntime would take Python's spelling, "b'a'".

    NVIDIA's backend ends a string at a zero byte; here such an element is refused.
    """
    texts = np.empty(array.size, np.object_)
    for index, element in enumerate(array.flat):
        try:
            texts[index] = element.decode()
        except UnicodeDecodeError:
            raise ValueError(f"input '{name}', element {index}: want text in UTF-8, got {element!r:.80}") from None
        if b"\0" in element:
            raise ValueError(f"input '{name}', element {index}: want text without a zero byte, got {element!r:.80}")
    return texts.reshape(array.shape)


def _session(path: str, options: Any) -> Any:
    def make() -> Any:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    # Threads that a session starts keep the priority of the thread that made it.
    alone = options.intra_op_num_threads == options.inter_op_num_threads == 1
    return _unhurried(make) if alone else make()


def _end() -> None:
    """End the process after the stub has reported to Triton: unloading modules would take a third of a load's time."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _response(answer: Arrays | Exception, wanted: list[str]) -> Any:
    if isinstance(answer, Exception):
        return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(answer)))
    tensors = [pb_utils.Tensor(name, array) for name, array in answer.items() if not wanted or name in wanted]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _options(config: dict[str, Any]) -> Any:
    """The parameters of NVIDIA's backend; what is left out is set for dozens of models on few cores."""
    given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(given.get("intra_op_thread_count", 1))
    options.inter_op_num_threads = int(given.get("inter_op_thread_count", 1))
    parallel = int(given.get("execution_mode", 0)) == 1
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = int(given.get("enable_mem_arena", 0)) == 1
    options.enable_mem_pattern = int(given.get("enable_mem_pattern", 0)) == 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _faults(config: dict[str, Any], session: Any) -> list[str]:
    """Differences between the tensors in `config.pbtxt` and those in the file."""
    faults, batches = [], config.get("max_batch_size", 0) > 0
    for kind, wanted, found in (
        ("input", config["input"], session.get_inputs()),
        ("output", config["output"], session.get_outputs()),
    ):
        there = {tensor.name: tensor for tensor in found}
        for tensor in wanted:
            name, want = tensor["name"], ONNX_TYPES.get(tensor["data_type"], tensor["data_type"])
            if name not in there:
                faults.append(f"{kind} '{name}' is not in the file, which has {', '.join(sorted(there))}")
            elif there[name].type != want:
                faults.append(f"{kind} '{name}': want {want}, got {there[name].type}")
            elif not _fits(shape := _shape(tensor, batches), found_shape := _sizes(there[name]), kind):
                faults.append(f"{kind} '{name}': want shape {shape}, got {found_shape}")
        if kind == "input" and (missing := sorted(there.keys() - {tensor["name"] for tensor in wanted})):
            faults.append(f"the file also wants input {', '.join(missing)}")
    return faults


def _shape(tensor: dict[str, Any], batches: bool) -> list[int]:
    """The shape that a configuration wants of the file; -1 is open."""
    dims = tensor["reshape"]["shape"] if "reshape" in tensor else tensor["dims"]
    return [-1] * batches + [int(dim) for dim in dims]


def _sizes(tensor: Any) -> list[int]:
    """The shape of a tensor of the file, in which an open dimension has a name or None; -1 is open."""
    return [size if isinstance(size, int) else -1 for size in tensor.shape]


def _fits(wanted: list[int], there: list[int], kind: str) -> bool:
    """Whether a shape of the file fits, by the rules of NVIDIA's backend (CompareDimsSupported).

    An open dimension of an input takes any size. An output has to be equal. A file without dimensions takes only ones.
    """
    if not there:
        return all(size in (-1, 1) for size in wanted[:1]) and all(size == 1 for size in wanted[1:])
    return len(wanted) == len(there) and all(
        want == size or (size == -1 and kind == "input") for want, size in zip(wanted, there, strict=True)
    )
