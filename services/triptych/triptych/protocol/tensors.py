"""Codec between tensors of the Open Inference Protocol and numpy arrays. It knows neither gRPC nor contracts.

BYTES tensors are numpy object arrays of `bytes`. Raw contents are little-endian and row-major; a raw BYTES element is
its length (uint32) and then its bytes (Triton, "Binary tensor data extension").
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import Array, describe, name_of
from triptych.errors import InvalidInput, InvalidRequest
from triptych.protocol.tensor_layout import (
    BINARY_DATA_SIZE,
    LAYOUT_CACHE_SIZE,
    MAX_CACHED_BYTES,
    MessageLayout,
    TensorDeclaration,
    declaration_of,
    layout_of,
    read_layout,
)

CONTENTS_FIELDS = {
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


Check = Callable[[TensorDeclaration], None]  # raises `InvalidInput` for a tensor outside of the contract


def _any(_declared: TensorDeclaration) -> None:
    pass


class Tensors:
    """Tensors of a message. Numbers stay encoded, so that those of many messages become one array at once.

    `contents` holds raw bytes for numbers, arrays for BYTES.
    """

    __slots__ = ("contents", "layout")

    def __init__(self, layout: MessageLayout, contents: Sequence[bytes | Array]) -> None:
        self.layout, self.contents = layout, contents

    @property
    def rows(self) -> int:
        """Rows of each tensor; 0 if they differ, or without tensors."""
        return self.layout.rows

    @property
    def row_signature(self) -> tuple[str, ...]:
        """Messages with equal signatures can be `joined`."""
        return self.layout.row_signature

    @property
    def size_bytes(self) -> int:
        """Bytes of the contents; for BYTES the sum of the elements."""
        if self.layout.size_bytes is not None:
            return self.layout.size_bytes
        return sum([sum(map(len, data.flat)) if isinstance(data, np.ndarray) else len(data) for data in self.contents])

    def arrays(self) -> dict[str, Array]:
        """The tensors by name."""
        arrays: dict[str, Array] = {}
        for each, data in zip(self.layout.declared, self.contents, strict=True):
            arrays[each.name] = data if isinstance(data, np.ndarray) else np.ndarray(each.shape, each.dtype, data)
        return arrays

    def raw(self, start: int, end: int) -> list[bytes]:
        """Raw contents of rows `start` to `end` of each tensor."""
        return [
            data[start * (len(data) // each.rows) : end * (len(data) // each.rows)]
            if isinstance(data, bytes)
            else to_raw(data[start:end])
            for each, data in zip(self.layout.declared, self.contents, strict=True)
        ]


def joined(parts: Sequence[Tensors]) -> dict[str, Array]:
    """Rows of all parts in order, by name. The parts have the same `row_signature`, and `rows` is not 0 in any."""
    if len(parts) == 1:
        return parts[0].arrays()
    rows = sum([part.layout.rows for part in parts])
    arrays: dict[str, Array] = {}
    for each, *columns in zip(parts[0].layout.declared, *[part.contents for part in parts], strict=True):
        if each.size_bytes is None:
            arrays[each.name] = np.concatenate(columns)
        else:
            arrays[each.name] = np.frombuffer(b"".join(columns), each.dtype).reshape(rows, *each.shape[1:])
    return arrays


def request_tensors(request: pb.ModelInferRequest, check: Check = _any) -> Tensors:
    """The input tensors of a request. Raises `InvalidInput` or `InvalidRequest`.

    `check` runs before contents are decoded element by element, so that the contract bounds their number.
    """
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        _refuse_count(inputs, raw)
    tensors = _tensors(inputs, raw, check, of_caller=True)
    if tensors.layout.duplicate is not None:
        raise InvalidInput(tensors.layout.duplicate, "one tensor of that name", "a second one")
    return tensors


def _refuse_count(inputs: Sequence[Any], raw: Sequence[bytes]) -> None:
    """Refuse a wrong number of raw contents. An input in shared memory has none: then the error names that."""
    for tensor in inputs:
        declaration_of(tensor, of_caller=True)
    raise InvalidRequest(f"want one raw_input_contents for each of the {len(inputs)} inputs (or none), got {len(raw)}")


def response_tensors(response: pb.ModelInferResponse) -> Tensors:
    """The output tensors of a response, raw or typed."""
    return _tensors(response.outputs, response.raw_output_contents, _any, of_caller=False)


def decode_request(request: pb.ModelInferRequest, check: Check = _any) -> dict[str, Array]:
    """The input tensors of a request by name. Raises `InvalidInput` or `InvalidRequest`."""
    return request_tensors(request, check).arrays()


def decode_response(response: pb.ModelInferResponse) -> dict[str, Array]:
    """The output tensors of a response by name, raw or typed."""
    return response_tensors(response).arrays()


def encode_request(request: pb.ModelInferRequest, tensors: Mapping[str, Array]) -> pb.ModelInferRequest:
    """Adds the tensors to a request, as raw contents."""
    request.MergeFromString(_encoded_inputs(_shapes(tensors)))
    request.raw_input_contents.extend([to_raw(array) for array in tensors.values()])
    return request


@lru_cache(LAYOUT_CACHE_SIZE)
def request_head(model: str, version: str) -> bytes:
    """An encoded request of nothing but its model and version."""
    head: bytes = pb.ModelInferRequest(model_name=model, model_version=version).SerializeToString()
    return head


def encoded_request(head: bytes, tensors: Mapping[str, Array]) -> bytes:
    """An encoded request: the fields of `head`, which has no tensors, and the tensors as raw contents.

    protobuf reads parts of a message in sequence as one message (Encoding, "Last One Wins").
    """
    return _encoded(head, tensors, is_request=True)


def encoded_response(head: bytes, tensors: Mapping[str, Array]) -> bytes:
    """An encoded response: the fields of `head`, which has no tensors, and the tensors as raw contents."""
    return _encoded(head, tensors, is_request=False)


def _encoded(head: bytes, tensors: Mapping[str, Array], *, is_request: bool) -> bytes:
    shapes = _shapes(tensors)
    before = (_cached_bytes_before if len(head) <= MAX_CACHED_BYTES else _bytes_before)(head, shapes, is_request)
    parts: list[bytes] = []
    for start, array in zip(before, tensors.values(), strict=True):
        raw = to_raw(array)
        parts += (start, _varint(len(raw)), raw) if array.dtype.hasobject else (start, raw)
    return b"".join(parts) if parts else head


def _bytes_before(head: bytes, shapes: _Shapes, is_request: bool) -> tuple[bytes, ...]:
    """The bytes before the contents of each tensor. The length of BYTES, which follows them, differs by message."""
    declared, tag = (_encoded_inputs(shapes), _RAW_INPUT) if is_request else (_encoded_outputs(shapes), _RAW_OUTPUT)
    starts = [head + declared, *[b""] * (len(shapes) - 1)]
    return tuple(
        start + tag + (b"" if dtype.hasobject else _varint(dtype.itemsize * math.prod(shape)))
        for start, (_, dtype, shape) in zip(starts, shapes, strict=False)
    )


_cached_bytes_before = lru_cache(LAYOUT_CACHE_SIZE)(_bytes_before)


def _varint(value: int) -> bytes:
    """A number as protobuf encodes it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_response(response: pb.ModelInferResponse, tensors: Mapping[str, Array]) -> pb.ModelInferResponse:
    """Adds the tensors to a response, as raw contents."""
    response.MergeFromString(_encoded_outputs(_shapes(tensors)))
    response.raw_output_contents.extend([to_raw(array) for array in tensors.values()])
    return response


# Tags of the raw contents: number of the field, and "a length follows".
_RAW_INPUT = bytes((pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2,))
_RAW_OUTPUT = bytes((pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2,))

# Declarations repeat from message to message: two outputs took 33,000 instructions field by field (2026-11-29).
_Shapes = tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]


def _shapes(tensors: Mapping[str, Array]) -> _Shapes:
    return tuple([(name, array.dtype, array.shape) for name, array in tensors.items()])


@lru_cache(LAYOUT_CACHE_SIZE)
def _encoded_inputs(shapes: _Shapes) -> bytes:
    """An encoded request of nothing but the declarations of these tensors."""
    tensor = pb.ModelInferRequest.InferInputTensor
    inputs = [tensor(name=name, datatype=name_of(dtype), shape=shape) for name, dtype, shape in shapes]
    encoded: bytes = pb.ModelInferRequest(inputs=inputs).SerializeToString()
    return encoded


@lru_cache(LAYOUT_CACHE_SIZE)
def _encoded_outputs(shapes: _Shapes) -> bytes:
    """An encoded response of nothing but the declarations of these tensors."""
    tensor = pb.ModelInferResponse.InferOutputTensor
    outputs = [tensor(name=name, datatype=name_of(dtype), shape=shape) for name, dtype, shape in shapes]
    encoded: bytes = pb.ModelInferResponse(outputs=outputs).SerializeToString()
    return encoded


def to_raw(array: Array) -> bytes:
    """The raw contents of one tensor."""
    if array.dtype.hasobject:
        parts: list[bytes] = []
        for element in array.flat:
            parts += (struct.pack("<I", len(element)), element)
        return b"".join(parts)
    return array.tobytes()


def _tensors(tensors: Sequence[Any], raw: Sequence[bytes], check: Check, *, of_caller: bool) -> Tensors:
    """`tensors` are ModelInferRequest.InferInputTensor or ModelInferResponse.InferOutputTensor: they encode alike."""
    contents: list[bytes | Array] = []
    if not raw:
        declared: list[TensorDeclaration] = []
        for tensor in tensors:
            declared.append(each := declaration_of(tensor, of_caller))
            check(each)
            contents.append(_from_typed(tensor, each))
        return Tensors(layout_of(declared), contents)
    raws = raw[:]  # a slice: the iterator of a repeated field ends with an IndexError, which takes 3,000 instructions
    # A missing output of a response is found by its contract.
    layout = read_layout(tuple([tensor.SerializeToString() for tensor in tensors[: len(raws)]]), of_caller)
    for each, data in zip(layout.declared, raws, strict=False):
        if not each.is_plain or len(data) != each.size_bytes:
            contents.append(_from_raw(data, each, check))
        else:
            contents.append(data)
    return Tensors(layout, contents)


def _described(tensor: TensorDeclaration) -> str:
    return describe(name_of(tensor.dtype), tensor.shape)


def _from_raw(raw: bytes, declared: TensorDeclaration, check: Check) -> bytes | Array:
    if declared.stated_bytes is not None and declared.stated_bytes != len(raw):
        want = f"{declared.stated_bytes} bytes, as in its {BINARY_DATA_SIZE}"
        raise InvalidInput(declared.name, want, f"{len(raw)} bytes")
    if declared.size_bytes is None:
        check(declared)
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


def _from_typed(tensor: Any, declared: TensorDeclaration) -> bytes | Array:
    field = CONTENTS_FIELDS.get(tensor.datatype)
    if declared.stated_bytes is not None:
        raise InvalidInput(declared.name, f"raw contents beside {BINARY_DATA_SIZE}", "typed contents")
    if field is None:
        raise InvalidInput(declared.name, f"raw contents for {tensor.datatype}", "typed contents")
    if others := [other.name for other, _ in tensor.contents.ListFields() if other.name != field]:
        raise InvalidInput(declared.name, f"contents in {field} alone for {tensor.datatype}", f"some in {others[0]}")
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
