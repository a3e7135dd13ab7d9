"""Types of columns against the datatypes and shapes of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.types as kinds

from triptych.datatypes import FLOATS, describe
from triptych.protocol.metadata import TensorInfo

ELEMENTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "BOOL": pa.bool_(),
        "UINT8": pa.uint8(),
        "UINT16": pa.uint16(),
        "UINT32": pa.uint32(),
        "UINT64": pa.uint64(),
        "INT8": pa.int8(),
        "INT16": pa.int16(),
        "INT32": pa.int32(),
        "INT64": pa.int64(),
        "FP16": pa.float16(),
        "FP32": pa.float32(),
        "FP64": pa.float64(),
        "BYTES": pa.binary(),
    }
)
_TEXTS: Final[tuple[Callable[[Any], bool], ...]] = (kinds.is_string, kinds.is_large_string, kinds.is_string_view)
_BINARIES: Final[tuple[Callable[[Any], bool], ...]] = (
    kinds.is_binary,
    kinds.is_large_binary,
    kinds.is_binary_view,
    kinds.is_fixed_size_binary,
)
_LISTS: Final[tuple[Callable[[Any], bool], ...]] = (
    kinds.is_list,
    kinds.is_large_list,
    kinds.is_fixed_size_list,
    kinds.is_list_view,
    kinds.is_large_list_view,
)


def is_list(kind: Any) -> bool:
    """Whether a type is one of the lists, whatever their size."""
    return any(test(kind) for test in _LISTS)


def is_scalar(tensor: TensorInfo) -> bool:
    """Whether a row is one value: of the shape [-1], or [-1, 1]."""
    return tuple(tensor.shape[1:]) in ((), (1,))


def text_of(tensor: TensorInfo) -> str:
    """`FP32[n,28]`."""
    return describe(tensor.datatype, tensor.shape)


def column_type(tensor: TensorInfo, *, is_text: bool = False) -> Any:
    """Type of the column of an output: an element, or lists of elements for each further dimension.

    Lists have no fixed size, also where the dimension is fixed: Spark has no others.
    """
    kind = pa.string() if is_text and tensor.datatype == "BYTES" else ELEMENTS[tensor.datatype]
    if not is_scalar(tensor):
        for _ in tensor.shape[1:]:
            kind = pa.list_(kind)
    return kind


def type_fault(tensor: TensorInfo, kind: Any) -> str:
    """Why a column of this type cannot be the tensor: `want FP32[n,28], got ...`; '' if it can."""
    dims, fits = list(tensor.shape[1:]), True
    inner = kind
    if isinstance(kind, pa.FixedShapeTensorType):
        fits = _fits(dims, list(kind.shape)) and list(kind.permutation or ()) in ([], sorted(kind.permutation or ()))
        dims, inner = [], kind.value_type
    elif isinstance(kind, pa.BaseExtensionType):
        inner = kind.storage_type
    if not (is_scalar(tensor) and not is_list(inner)):
        while fits and dims and is_list(inner):
            size = inner.list_size if kinds.is_fixed_size_list(inner) else -1
            fits = size == -1 or dims[0] in (-1, size)
            dims, inner = dims[1:], inner.value_type
        fits = fits and not dims and not is_list(inner)
    if fits and _is_element(tensor.datatype, inner.value_type if kinds.is_dictionary(inner) else inner):
        return ""
    return f"want {text_of(tensor)} as {_wanted(tensor)}, got {kind}"


def _fits(dims: list[int], sizes: list[int]) -> bool:
    return len(dims) == len(sizes) and all(dim in (-1, size) for dim, size in zip(dims, sizes, strict=True))


def _is_element(datatype: str, kind: Any) -> bool:
    if datatype == "BYTES":
        return any(test(kind) for test in (*_TEXTS, *_BINARIES))
    if datatype == "BOOL":
        return bool(kinds.is_boolean(kind))
    return bool(kinds.is_integer(kind) or (datatype in FLOATS and kinds.is_floating(kind)))


def _wanted(tensor: TensorInfo) -> str:
    """The elements that a column may have, in words."""
    if tensor.datatype == "BYTES":
        word = "strings or binary"
    elif tensor.datatype == "BOOL":
        word = "booleans"
    else:
        word = "numbers" if tensor.datatype in FLOATS else "whole numbers"
    if is_scalar(tensor):
        return word
    return "lists of " * (len(tensor.shape) - 1) + word
