"""The Open Inference Protocol's tensors to numpy and back. No gRPC, no contract: only what the message itself says.

BYTES tensors are numpy object arrays of `bytes`. Raw contents are little-endian and row-major; a raw BYTES element is
its length (uint32) and then its bytes (Triton, "Binary tensor data extension").
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import TO_NUMPY, Array, describe, name_of
from triptych.errors import InvalidInput, InvalidParameter, InvalidRequest

Parameter = int | float | bool | str

MAX_RANK = 8
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


def decode_request(request: pb.ModelInferRequest) -> dict[str, Array]:
    """The input tensors of a request by name. Raises `InvalidInput` or `InvalidRequest`."""
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise InvalidRequest(
            f"want one raw_input_contents for each of the {len(inputs)} inputs (or none), got {len(raw)}"
        )
    tensors: dict[str, Array] = {}
    for index, tensor in enumerate(inputs):
        if tensor.name in tensors:
            raise InvalidInput(tensor.name, "one tensor of that name", "a second one")
        tensors[tensor.name] = _decode_tensor(tensor, raw[index] if raw else None)
    return tensors


def decode_response(response: pb.ModelInferResponse) -> dict[str, Array]:
    """The output tensors of a response by name, raw or typed."""
    raw = response.raw_output_contents
    return {
        tensor.name: _decode_tensor(tensor, raw[index] if raw else None)
        for index, tensor in enumerate(response.outputs)
    }


def decode_parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Parameter]:
    """Request parameters as Python values. Raises `InvalidParameter` for one without a value."""
    values: dict[str, Parameter] = {}
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


def size_bytes(tensors: Mapping[str, Array]) -> int:
    """Bytes of the tensors' contents."""
    return sum(sum(map(len, array.flat)) if array.dtype == np.object_ else array.nbytes for array in tensors.values())


def to_raw(array: Array) -> bytes:
    """The raw contents of one tensor."""
    if array.dtype == np.object_:
        parts: list[bytes] = []
        for element in array.flat:
            parts += (struct.pack("<I", len(element)), element)
        return b"".join(parts)
    return array.tobytes()


def _decode_tensor(tensor: Any, raw: bytes | None) -> Array:
    """`tensor` is a ModelInferRequest.InferInputTensor or a ModelInferResponse.InferOutputTensor."""
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    dtype = TO_NUMPY.get(datatype)
    if dtype is None:
        raise InvalidInput(name, f"one of the datatypes {', '.join(TO_NUMPY)}", f"'{datatype}'")
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise InvalidInput(name, f"a shape of at most {MAX_RANK} sizes >= 0", str(list(shape)))
    if len(tensor.parameters) and "shared_memory_region" in tensor.parameters:
        raise InvalidInput(name, "its contents in the message", "a shared memory region")
    if raw is None:
        return _from_typed(tensor, name, datatype, shape)
    if datatype == "BYTES":
        return _from_raw_bytes(raw, name, shape)
    want = math.prod(shape) * dtype.itemsize
    if len(raw) != want:
        raise InvalidInput(name, f"{want} bytes for {describe(datatype, shape)}", f"{len(raw)} bytes")
    if datatype == "BOOL" and raw.strip(b"\x00\x01"):
        raise InvalidInput(name, "bytes that are 0 or 1 for BOOL", "others")
    return np.frombuffer(raw, dtype).reshape(shape)


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


def _from_typed(tensor: Any, name: str, datatype: str, shape: tuple[int, ...]) -> Array:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidInput(name, f"raw contents for {datatype}", "typed contents")
    values = getattr(tensor.contents, field)
    count = math.prod(shape)
    if len(values) != count:
        raise InvalidInput(name, f"{count} values in {field} for {describe(datatype, shape)}", f"{len(values)}")
    if datatype == "BYTES":
        return _objects(list(values), shape)
    try:
        return np.array(values, TO_NUMPY[datatype]).reshape(shape)
    except OverflowError:
        raise InvalidInput(name, f"values within {datatype}", "a value outside of it") from None


def _objects(elements: list[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)
