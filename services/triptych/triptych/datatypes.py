"""Datatypes of the Open Inference Protocol, and their numpy dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
Numeric = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"
]
Array = NDArray[Any]

DATATYPES: Final[tuple[Datatype, ...]] = get_args(Datatype)
FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})

# BYTES is an object array of `bytes`: its elements differ in length.
TO_NUMPY: Final[MappingProxyType[str, np.dtype[Any]]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype("<u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("<i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        "BYTES": np.dtype(np.object_),
    }
)
FROM_NUMPY: Final[MappingProxyType[np.dtype[Any], str]] = MappingProxyType(
    {dtype: name for name, dtype in TO_NUMPY.items()}
)


def name_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a numpy dtype; numpy's own name if the protocol has none."""
    return FROM_NUMPY.get(dtype) or str(dtype)


def describe(datatype: str, shape: Sequence[int]) -> str:
    """Text such as `FP32[n,28]`: the first -1 is shown as `n` (rows), others as `?`."""
    dims = ["n" if i == 0 and d == -1 else "?" if d == -1 else str(d) for i, d in enumerate(shape)]
    return f"{datatype}[{','.join(dims)}]"


def describe_array(array: Array) -> str:
    """Text such as `FP64[3,27]` for an array."""
    return describe(name_of(array.dtype), array.shape)
