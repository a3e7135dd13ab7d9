"""The Open Inference Protocol's tensors to numpy and back. No gRPC, no contract: only what the message itself says.

BYTES tensors are numpy object arrays of `bytes`. Raw contents are little-endian and row-major; a raw BYTES element is
its length (uint32) and then its bytes (Triton, "Binary tensor data extension").
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import TO_NUMPY, Array, describe, name_of
from triptych.errors import InvalidInput, InvalidParameter, InvalidRequest

Parameter = int | float | bool | str

MAX_RANK = 8
KEPT = 4096  # declarations that are remembered
LARGEST_KEPT = 512  # bytes; a tensor's name and shape take a few dozen
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(frozen=True, slots=True)
class Declared:
    """What a message says about a tensor beside its contents. `size_bytes` is None for BYTES, which differ in size.

    `alike` is the same for tensors that differ in their rows alone.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int
    size_bytes: int | None
    alike: str


class Tensors:
    """A message's tensors: numbers stay as they came, so that those of many messages can become one array at once.

    `contents` has raw contents for numbers, arrays for BYTES.
    """

    __slots__ = ("contents", "declared")

    def __init__(self, declared: Sequence[Declared], contents: Sequence[bytes | Array]) -> None:
        self.declared, self.contents = declared, contents

    @property
    def rows(self) -> int:
        """The rows of all tensors; 0 when they differ, or there are none."""
        rows = {each.rows for each in self.declared}
        return rows.pop() if len(rows) == 1 else 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the contents; for BYTES those of the elements."""
        return sum([sum(map(len, data.flat)) if isinstance(data, np.ndarray) else len(data) for data in self.contents])

    @property
    def alike(self) -> tuple[str, ...]:
        """The same for all whose rows may be `joined`."""
        return tuple([each.alike for each in self.declared])

    def arrays(self) -> dict[str, Array]:
        """The tensors by name."""
        return {
            each.name: data if isinstance(data, np.ndarray) else np.frombuffer(data, each.dtype).reshape(each.shape)
            for each, data in zip(self.declared, self.contents, strict=True)
        }

    def raw(self, start: int, end: int) -> list[bytes]:
        """The raw contents of the rows from `start` to `end`, of each tensor."""
        return [
            data[start * (len(data) // each.rows) : end * (len(data) // each.rows)]
            if isinstance(data, bytes)
            else to_raw(data[start:end])
            for each, data in zip(self.declared, self.contents, strict=True)
        ]


def joined(parts: Sequence[Tensors]) -> dict[str, Array]:
    """The rows of all, in order, by name; `parts` are alike, and the tensors of each have the same rows."""
    if len(parts) == 1:
        return parts[0].arrays()
    rows = sum([part.declared[0].rows for part in parts])
    arrays: dict[str, Array] = {}
    for each, *columns in zip(parts[0].declared, *[part.contents for part in parts], strict=True):
        if each.size_bytes is None:
            arrays[each.name] = np.concatenate(columns)
        else:
            arrays[each.name] = np.frombuffer(b"".join(columns), each.dtype).reshape(rows, *each.shape[1:])
    return arrays


def request_tensors(request: pb.ModelInferRequest) -> Tensors:
    """The input tensors of a request. Raises `InvalidInput` or `InvalidRequest`."""
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise InvalidRequest(
            f"want one raw_input_contents for each of the {len(inputs)} inputs (or none), got {len(raw)}"
        )
    tensors = _tensors(inputs, raw)
    names = [each.name for each in tensors.declared]
    if len(set(names)) != len(names):
        doubled = next(name for at, name in enumerate(names) if name in names[:at])
        raise InvalidInput(doubled, "one tensor of that name", "a second one")
    return tensors


def response_tensors(response: pb.ModelInferResponse) -> Tensors:
    """The output tensors of a response, raw or typed."""
    return _tensors(response.outputs, response.raw_output_contents)


def decode_request(request: pb.ModelInferRequest) -> dict[str, Array]:
    """The input tensors of a request by name. Raises `InvalidInput` or `InvalidRequest`."""
    return request_tensors(request).arrays()


def decode_response(response: pb.ModelInferResponse) -> dict[str, Array]:
    """The output tensors of a response by name, raw or typed."""
    return response_tensors(response).arrays()


def decode_parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Parameter]:
    """Request parameters as Python values. Raises `InvalidParameter` for one without a value."""
    values: dict[str, Parameter] = {}
    if not parameters:
        return values
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidParameter(name, "a value", "none")
        values[name] = getattr(parameter, kind)
    return values


def encode_parameter(value: Parameter) -> pb.InferParameter:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=value)


def encode_request(request: pb.ModelInferRequest, tensors: Mapping[str, Array]) -> pb.ModelInferRequest:
    """Adds the tensors to a request, as raw contents."""
    for name, array in tensors.items():
        request.inputs.add(name=name, datatype=name_of(array.dtype), shape=array.shape)
        request.raw_input_contents.append(to_raw(array))
    return request


def encode_response(response: pb.ModelInferResponse, tensors: Mapping[str, Array]) -> pb.ModelInferResponse:
    """Adds the tensors to a response, as raw contents."""
    for name, array in tensors.items():
        response.outputs.add(name=name, datatype=name_of(array.dtype), shape=array.shape)
        response.raw_output_contents.append(to_raw(array))
    return response


def wanted_outputs(request: pb.ModelInferRequest, known: Sequence[str]) -> Sequence[str]:
    """The outputs that the request names; all of `known` when it names none. Raises `InvalidRequest`."""
    names = [output.name for output in request.outputs]
    for name in names:
        if name not in known:
            raise InvalidRequest(f"unknown output '{name}'; there are: {', '.join(known)}")
    return names or known


def to_raw(array: Array) -> bytes:
    """The raw contents of one tensor."""
    if array.dtype == np.object_:
        parts: list[bytes] = []
        for element in array.flat:
            parts += (struct.pack("<I", len(element)), element)
        return b"".join(parts)
    return array.tobytes()


def _tensors(tensors: Sequence[Any], raw: Sequence[bytes]) -> Tensors:
    """`tensors` are ModelInferRequest.InferInputTensor or ModelInferResponse.InferOutputTensor: they encode alike."""
    if not raw:
        typed = [_declared(tensor) for tensor in tensors]
        return Tensors(typed, [_from_typed(tensor, each) for tensor, each in zip(tensors, typed, strict=True)])
    declared: list[Declared] = []
    contents: list[bytes | Array] = []
    for tensor, data in zip(tensors, raw, strict=False):  # what a response lacks, its contract misses
        encoded = tensor.SerializeToString()
        each = _remembered(encoded) if len(encoded) <= LARGEST_KEPT else _declared(tensor)
        declared.append(each)
        contents.append(_from_raw(data, each))
    return Tensors(declared, contents)


@lru_cache(KEPT)
def _remembered(encoded: bytes) -> Declared:
    return _declared(pb.ModelInferRequest.InferInputTensor.FromString(encoded))


def _declared(tensor: Any) -> Declared:
    name, shape = tensor.name, tuple(tensor.shape)
    dtype = TO_NUMPY.get(tensor.datatype)
    if dtype is None:
        raise InvalidInput(name, f"one of the datatypes {', '.join(TO_NUMPY)}", f"'{tensor.datatype}'")
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise InvalidInput(name, f"a shape of at most {MAX_RANK} sizes >= 0", str(list(shape)))
    if "shared_memory_region" in tensor.parameters:
        raise InvalidInput(name, "its contents in the message", "a shared memory region")
    size_bytes = None if dtype == np.object_ else math.prod(shape) * dtype.itemsize
    alike = f"{name}\0{tensor.datatype}\0{shape[1:] if shape else None}"
    return Declared(name, dtype, shape, shape[0] if shape else 0, size_bytes, alike)


def _described(tensor: Declared) -> str:
    return describe(name_of(tensor.dtype), tensor.shape)


def _from_raw(raw: bytes, declared: Declared) -> bytes | Array:
    if declared.size_bytes is None:
        return _from_raw_bytes(raw, declared.name, declared.shape)
    if len(raw) != declared.size_bytes:
        want = f"{declared.size_bytes} bytes for {_described(declared)}"
        raise InvalidInput(declared.name, want, f"{len(raw)} bytes")
    if declared.dtype == np.bool_ and raw.strip(b"\x00\x01"):
        raise InvalidInput(declared.name, "bytes that are 0 or 1 for BOOL", "others")
    return raw


def _from_raw_bytes(raw: bytes, name: str, shape: tuple[int, ...]) -> Array:
    count, position, elements = math.prod(shape), 0, []
    if count * 4 > len(raw):
        raise InvalidInput(name, f"{count} elements of BYTES, each with its length", f"{len(raw)} bytes")
    for index in range(count):
        end = position + 4
        if end > len(raw):
            raise InvalidInput(name, f"{count} elements of BYTES", f"{index}")
        (length,) = struct.unpack_from("<I", raw, position)
        position = end + length
        if position > len(raw):
            raise InvalidInput(name, f"{length} bytes in element {index}", f"{len(raw) - end}")
        elements.append(raw[end:position])
    if position != len(raw):
        raise InvalidInput(name, f"{count} elements of BYTES", f"{len(raw) - position} bytes more")
    return _objects(elements, shape)


def _from_typed(tensor: Any, declared: Declared) -> bytes | Array:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise InvalidInput(declared.name, f"raw contents for {tensor.datatype}", "typed contents")
    values = getattr(tensor.contents, field)
    count = math.prod(declared.shape)
    if len(values) != count:
        want = f"{count} values in {field} for {_described(declared)}"
        raise InvalidInput(declared.name, want, f"{len(values)}")
    if declared.size_bytes is None:
        return _objects(list(values), declared.shape)
    try:
        return np.array(values, declared.dtype).tobytes()
    except OverflowError:
        raise InvalidInput(declared.name, f"values within {tensor.datatype}", "a value outside of it") from None


def _objects(elements: list[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)
