"""Examples of a contract: requests with expected outputs. A version that misses one gets no traffic."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field, PlainValidator, WithJsonSchema

from triptych.contract.specs import AnyScalar, Name, StrictModel, TensorSpec
from triptych.datatypes import FLOATS, TO_NUMPY, Array

MAX_EXAMPLES: Final = 16


def _list(value: object) -> object:
    if isinstance(value, list) and value:
        return value
    raise ValueError("want a list of rows, each a value or a list of them")


Values = Annotated[Any, PlainValidator(_list), WithJsonSchema({"type": "array", "minItems": 1})]


class Example(StrictModel):
    """A request with its expected outputs. Text stands for its UTF-8 bytes, `{base64: ...}` for other bytes."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    inputs: Annotated[dict[Name, Values], Field(min_length=1, description="the rows of each input, as lists")]
    parameters: dict[Name, AnyScalar] = {}
    outputs: Annotated[dict[Name, Values], Field(min_length=1, description="the rows of some outputs")]
    tolerance: Annotated[
        float,
        Field(ge=0, description="largest difference of a floating value, as a share of the expected one from 1 on"),
    ] = 0.001


def mismatch(outputs: Sequence[TensorSpec], example: Example, answer: Mapping[str, Array]) -> str:
    """Sentence about the first output that is not as expected; empty when all are."""
    for name, wanted in arrays_of(outputs, example.outputs).items():
        got = answer[name]
        if got.shape != wanted.shape:
            return f"output '{name}': want shape {list(wanted.shape)}, got {list(got.shape)}"
        wrong = _differs(wanted, got, example.tolerance)
        if wrong.any():
            at = tuple(int(index) for index in np.argwhere(wrong)[0])
            place = ",".join(map(str, at))
            within = f" within {example.tolerance:g}" if wanted.dtype.kind == "f" else ""
            return f"output '{name}'[{place}]: want {wanted[at]!s:.80}{within}, got {got[at]!s:.80}"
    return ""


def arrays_of(specs: Sequence[TensorSpec], values: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays of the rows that an example lists, by name. Raises `ValueError`."""
    known = {spec.name: spec for spec in specs}
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"'{unknown[0]}' is none of {', '.join(known)}")
    return {name: _array(known[name], rows) for name, rows in values.items()}


def one_row(spec: TensorSpec, value: Any) -> list[Any]:
    """The rows of a tensor that has one element: `[[42]]` of 42 for FP32[n,1]."""
    for _ in spec.shape:
        value = [value]
    return list(value)


def _array(spec: TensorSpec, rows: list[Any]) -> Array:
    shape, flat = _flattened(rows)
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, size) for want, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        depth = len(spec.shape)
        as_in = "" if len(shape) == depth else f", as in {'[' * depth}...{']' * depth}"
        raise ValueError(f"'{spec.name}': want {spec.text}{as_in}, got a list of shape {list(shape)}")
    array: Array = np.empty(len(flat), TO_NUMPY[spec.datatype])
    try:
        array[:] = [_element(spec.datatype, element) for element in flat]
    except OverflowError:
        raise ValueError(f"'{spec.name}': a value is outside of {spec.datatype}") from None
    except TypeError as error:
        raise ValueError(f"'{spec.name}': {error}") from None
    return array.reshape(shape)


def _flattened(rows: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and elements of nested lists. Raises ValueError if they are uneven."""
    if not isinstance(rows, list):
        return (), [rows]
    parts = [_flattened(row) for row in rows]
    if len({shape for shape, _ in parts}) > 1:
        raise ValueError("lists at the same depth differ in their lengths")
    return (len(rows), *(parts[0][0] if parts else ())), [element for _, flat in parts for element in flat]


def _element(datatype: str, value: Any) -> Any:
    """Value of an element. Raises TypeError for a value of another type: nothing is converted silently."""
    if datatype == "BYTES":
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and value.keys() == {"base64"}:
            try:
                return base64.b64decode(value["base64"], validate=True)
            except (binascii.Error, ValueError):
                raise TypeError("base64 cannot be read") from None
        raise TypeError(f"want text or {{base64: ...}}, got {value!r:.80}")
    kinds = (bool,) if datatype == "BOOL" else (int, float) if datatype in FLOATS else (int,)
    if not isinstance(value, kinds) or isinstance(value, bool) != (datatype == "BOOL"):
        raise TypeError(f"want {datatype}, got {value!r:.80}")
    return value


def _differs(wanted: Array, got: Array, tolerance: float) -> Array:
    if wanted.dtype.kind != "f":
        return np.asarray(wanted != got)
    want, have = wanted.astype(np.float64), got.astype(np.float64)
    near: Array = np.abs(have - want) <= tolerance * np.maximum(1.0, np.abs(want))
    return ~near
