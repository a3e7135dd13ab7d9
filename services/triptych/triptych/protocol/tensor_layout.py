"""Declarations of the tensors of a message, without their contents. They repeat, so a cache holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import TO_NUMPY
from triptych.errors import MAX_WORD, InvalidInput, clipped
from triptych.protocol.parameters import unknown_field

MAX_RANK = 8
MAX_ELEMENTS = 1 << 40  # also for a tensor without rows: numpy multiplies its other sizes
SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
BINARY_DATA_SIZE = "binary_data_size"
LAYOUT_CACHE_SIZE = 4096  # message layouts in the cache
MAX_CACHED_BYTES = 512  # of a cached layout, encoded; name and shape of a tensor take a few dozen


@dataclass(frozen=True, slots=True)
class TensorDeclaration:
    """A tensor of a message without its contents. `size_bytes` is None for BYTES, which differ in size.

    `row_signature` is equal for tensors that differ only in their number of rows. If `is_plain`, a wrong size is the
    only possible fault of raw contents. `stated_bytes` is the parameter `binary_data_size`, which KServe's client sends
    with raw contents; None without it.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int
    size_bytes: int | None
    row_signature: str
    is_plain: bool
    stated_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MessageLayout:
    """Declarations of all tensors of a message, without their contents.

    `rows` is the number of rows of each; 0 if they differ, or without tensors. Messages with equal `row_signature` can
    be `joined`. `size_bytes` is None if a tensor is of BYTES. `duplicate` is the first name that two tensors share.
    """

    declared: tuple[TensorDeclaration, ...]
    rows: int
    row_signature: tuple[str, ...]
    size_bytes: int | None
    duplicate: str | None


def layout_of(declared: Iterable[TensorDeclaration]) -> MessageLayout:
    """Layout of a message with these tensors."""
    each = tuple(declared)
    rows, names = {one.rows for one in each}, [one.name for one in each]
    sizes = [one.size_bytes for one in each if one.size_bytes is not None]
    return MessageLayout(
        each,
        rows.pop() if len(rows) == 1 else 0,
        tuple([one.row_signature for one in each]),
        sum(sizes) if len(sizes) == len(each) else None,
        next((name for at, name in enumerate(names) if name in names[:at]), None),
    )


def read_layout(encoded: tuple[bytes, ...], of_caller: bool) -> MessageLayout:
    """Layout of encoded tensors with raw contents. Raises `InvalidInput`."""
    return (_read_cached if sum(map(len, encoded)) <= MAX_CACHED_BYTES else _read)(encoded, of_caller)


def _read(encoded: tuple[bytes, ...], of_caller: bool) -> MessageLayout:
    declared = []
    for each in encoded:
        tensor = pb.ModelInferRequest.InferInputTensor.FromString(each)
        declared.append(declaration_of(tensor, of_caller))
        if tensor.contents.ByteSize():
            raise InvalidInput(tensor.name, "typed contents or raw ones", "both")
    return layout_of(declared)


_read_cached = lru_cache(LAYOUT_CACHE_SIZE)(_read)


def declaration_of(tensor: Any, of_caller: bool) -> TensorDeclaration:
    """Declaration of an InferInputTensor or InferOutputTensor. Raises `InvalidInput`."""
    name, datatype = tensor.name, tensor.datatype
    if len(name) > MAX_WORD:
        raise InvalidInput(name, f"a name of at most {MAX_WORD} characters", f"{len(name)}")
    dtype = TO_NUMPY.get(datatype)
    if dtype is None:
        raise InvalidInput(name, f"one of the datatypes {', '.join(TO_NUMPY)}", f"'{clipped(datatype)}'")
    if len(tensor.shape) > MAX_RANK:
        raise InvalidInput(name, f"a shape of at most {MAX_RANK} sizes >= 0", f"{len(tensor.shape)} sizes")
    shape = tuple(tensor.shape)
    if min(shape, default=0) < 0:
        raise InvalidInput(name, f"a shape of at most {MAX_RANK} sizes >= 0", str(list(shape)))
    if not all(shape) and math.prod([size or 1 for size in shape]) > MAX_ELEMENTS:
        raise InvalidInput(name, f"a shape of at most {MAX_ELEMENTS} elements", str(list(shape)))
    stated_bytes = _stated_bytes(tensor, name) if of_caller else None
    size_bytes = None if dtype == np.object_ else math.prod(shape) * dtype.itemsize
    row_signature = f"{name}\0{datatype}\0{shape[1:] if shape else None}"
    is_plain = dtype not in (np.object_, np.bool_) and stated_bytes is None
    rows = shape[0] if shape else 0
    return TensorDeclaration(name, dtype, shape, rows, size_bytes, row_signature, is_plain, stated_bytes)


def _stated_bytes(tensor: Any, name: str) -> int | None:
    """Parameter `binary_data_size`. Raises `InvalidInput` for any other parameter, and for unknown fields."""
    stated_bytes = None
    for parameter, value in tensor.parameters.items():
        if parameter in SHARED_MEMORY:
            raise InvalidInput(name, "its contents in the message", f"a shared memory region ({parameter})")
        if parameter != BINARY_DATA_SIZE or value.WhichOneof("parameter_choice") != "int64_param":
            want = f"no parameters of an input but {BINARY_DATA_SIZE}, a whole number"
            raise InvalidInput(name, want, f"'{clipped(parameter)}'")
        stated_bytes = int(value.int64_param)
    for message in (tensor, tensor.contents):
        if (number := unknown_field(message)) is not None:
            raise InvalidInput(name, f"the fields of {message.DESCRIPTOR.full_name}", f"field {number}")
    return stated_bytes
