"""Checks of tensors and parameters against a contract: compiled once, cheap for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from triptych.contract.specs import InputSpec, ParameterSpec, Scalar, TensorSpec, interval_text, reserved
from triptych.contract.steps.base import extremes, first_row
from triptych.contract.steps.tables import range_check
from triptych.datatypes import FLOATS, TO_NUMPY, Array, describe, describe_array, name_of
from triptych.errors import ContractViolation, InvalidInput, InvalidParameter, InvalidRequest


class Shaped(Protocol):
    """Name, datatype and shape of a tensor, with or without its contents."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


ShapeTest = Callable[[Any], bool]  # of an array, or of a `Shaped`
ValueTest = Callable[[Array], None]
_BOOL = np.dtype(np.bool_)


def shape_test(spec: TensorSpec, *, may_be_empty: bool = True) -> ShapeTest:
    """Test of datatype and shape, for any number of rows. `may_be_empty`: -1 in the shape is also a size of 0."""
    dtype, ndim, tail = TO_NUMPY[spec.datatype], len(spec.shape), spec.shape[1:]
    if tail and -1 not in tail:
        return lambda array: array.shape[1:] == tail and array.dtype == dtype
    if spec.shape == (-1,):
        return lambda array: len(array.shape) == 1 and array.dtype == dtype
    fixed = [(axis, dim) for axis, dim in enumerate(spec.shape) if dim != -1]
    return lambda array: (
        array.dtype == dtype
        and len(array.shape) == ndim
        and all(array.shape[axis] == dim for axis, dim in fixed)
        and (may_be_empty or all(array.shape[1:]))
    )


def value_test(spec: InputSpec) -> ValueTest | None:
    """Test that raises InvalidInput for a forbidden value; None if the input forbids none."""
    if spec.datatype == "BYTES":
        return _element_test(spec) if spec.utf8 or spec.max_bytes is not None else None
    if spec.datatype == "BOOL":
        return _bool_test(spec.name)
    if not spec.limits and not spec.finite:
        return None
    return _number_test(spec)


def _number_test(spec: InputSpec) -> ValueTest:
    """Test of the extremes, which bound all values. Only if they fail is the bad value searched."""
    finite, limits = spec.finite, _limits(spec)
    in_range = range_check(spec.name, spec.limits) if limits else None
    want = "finite values" + (f" {interval_text(spec.limits)}" if limits else "")
    low = limits.get("minimum", limits.get("exclusive_minimum", -np.inf))
    high = limits.get("maximum", limits.get("exclusive_maximum", np.inf))
    low_open = "exclusive_minimum" in limits or (finite and low == -np.inf)
    high_open = "exclusive_maximum" in limits or (finite and high == np.inf)

    def test(array: Array) -> None:
        if not array.size:
            return
        least, most = extremes(array)
        if (least > low if low_open else least >= low) and (most < high if high_open else most <= high):
            return
        if finite:
            _refuse_infinite(spec.name, want, array)
        if in_range is not None:
            in_range(array)

    return test


def _limits(spec: InputSpec) -> dict[str, int | float]:
    """Limits in the datatype, as numpy compares them: 0.1 is another number in FP32 than in FP64."""
    if spec.datatype not in FLOATS:
        return spec.limits
    with np.errstate(over="ignore"):
        return {end: TO_NUMPY[spec.datatype].type(limit).item() for end, limit in spec.limits.items()}


def _refuse_infinite(name: str, want: str, array: Array) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        row = first_row(bad)
        raise InvalidInput(name, want, f"row {row}: {array[row][bad[row]].flat[0].item()}")


def _bool_test(name: str) -> ValueTest:
    def test(array: Array) -> None:
        # A byte from the wire that is neither 0 nor 1 would count as 2 or more in arithmetic.
        if array.tobytes().strip(b"\x00\x01"):
            row = first_row(array.view(np.uint8) > 1)
            raise InvalidInput(name, "bytes of 0 or 1", f"row {row}: a byte above 1")

    return test


def _element_test(spec: InputSpec) -> ValueTest:
    name, max_bytes, utf8 = spec.name, spec.max_bytes, spec.utf8

    def test(array: Array) -> None:
        for row, elements in enumerate(array):
            for element in elements.flat if isinstance(elements, np.ndarray) else (elements,):
                if max_bytes is not None and len(element) > max_bytes:
                    raise InvalidInput(name, f"at most {max_bytes} bytes", f"row {row}: {len(element)} bytes")
                if utf8 and not _is_text(element):
                    raise InvalidInput(name, "text in UTF-8 without a zero byte", f"row {row}: {element!r:.80}")

    return test


def _is_text(element: bytes) -> bool:
    try:
        return "\0" not in element.decode()
    except UnicodeDecodeError:
        return False


class InputCheck:
    """Check of the input tensors of a request."""

    def __init__(self, specs: Iterable[InputSpec], max_rows: int) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._tests = [
            (spec.name, spec, shape_test(spec, may_be_empty=False), value_test(spec)) for spec in self._specs.values()
        ]
        self._shapes = {name: (spec, has_shape) for name, spec, has_shape, _ in self._tests}
        self._max_rows = max_rows

    def __call__(self, inputs: Mapping[str, Array]) -> int:
        """Number of rows. Raises InvalidInput or InvalidRequest."""
        rows, found = -1, 0
        for name, spec, has_shape, check_values in self._tests:
            array = inputs.get(name)
            if array is None:
                if spec.required:
                    raise InvalidInput(name, spec.text, "nothing")
                continue
            found += 1
            if not has_shape(array):
                raise InvalidInput(name, spec.text, describe_array(array))
            if rows == -1:
                rows = self._checked_rows(len(array))
            elif rows != len(array):
                self._refuse_uneven(inputs)
            if check_values is not None:
                check_values(array)
        if found != len(inputs):
            self._refuse_extra(inputs)
        return rows if rows != -1 else self._checked_rows(rows)

    def declared(self, tensor: Shaped) -> None:
        """Check one tensor without its contents: name, datatype, shape and rows."""
        found = self._shapes.get(tensor.name)
        if found is None:
            self._refuse_extra([tensor.name])
        elif not found[1](tensor):
            raise InvalidInput(tensor.name, found[0].text, describe(name_of(tensor.dtype), tensor.shape))
        else:
            self._checked_rows(tensor.shape[0])

    def _checked_rows(self, rows: int) -> int:
        if rows < 1:
            raise InvalidRequest(f"want 1 to {self._max_rows} rows, got none")
        if rows > self._max_rows:
            raise InvalidRequest(f"want 1 to {self._max_rows} rows, got {rows}")
        return rows

    def _refuse_uneven(self, inputs: Mapping[str, Array]) -> None:
        counts = ", ".join(f"{name} {len(inputs[name])}" for name in self._specs if name in inputs)
        raise InvalidRequest(f"want the same number of rows in all inputs, got {counts}")

    def _refuse_extra(self, inputs: Iterable[str]) -> None:
        extra = sorted(set(inputs) - set(self._specs))[0]
        raise InvalidInput(extra, f"one of {', '.join(self._specs)}", "an input of another name")


class TensorCheck:
    """Check of tensors between the stages and the model. A fault here is internal, never the caller's."""

    def __init__(self, what: str, specs: Iterable[TensorSpec]) -> None:
        self._what = what
        self._tests = [(spec.name, spec, shape_test(spec)) for spec in specs]
        self._shapes = {name: (spec, has_shape) for name, spec, has_shape in self._tests}

    def declared(self, tensor: Shaped, max_rows: int) -> None:
        """Check one tensor without its contents: name, datatype, shape and rows."""
        found = self._shapes.get(tensor.name)
        if found is None:
            known = f"one of {', '.join(self._shapes)}"
            raise InvalidInput(tensor.name, known, f"a {self._what} of another name")
        if not found[1](tensor) or tensor.shape[0] > max_rows:
            want = f"{found[0].text} with n up to {max_rows}"
            raise InvalidInput(tensor.name, want, describe(name_of(tensor.dtype), tensor.shape))

    def __call__(self, tensors: Mapping[str, Array], rows: int) -> None:
        for name, spec, has_shape in self._tests:
            array = tensors.get(name)
            if array is None or not has_shape(array) or len(array) != rows:
                want = f"{spec.text} with n = {rows}"
                got = "nothing" if array is None else _got(array)
                raise ContractViolation(f"{self._what} '{name}': want {want}, got {got}")


def _got(value: object) -> str:
    return describe_array(value) if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


class ParameterCheck:
    """Check of request parameters: sets defaults and refuses unknown names."""

    def __init__(self, specs: Iterable[ParameterSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._defaults: dict[str, Scalar] = {name: spec.default for name, spec in self._specs.items()}

    def __call__(self, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Parameters of the contract. Parameters reserved for the stages are omitted."""
        checked = dict(self._defaults)
        for name, value in parameters.items():
            spec = self._specs.get(name)
            if spec is None:
                if not reserved(name):
                    known = f"one of {', '.join(self._specs)}" if self._specs else "no parameters"
                    raise InvalidParameter(name, known, "a parameter of another name")
                continue
            if (refusal := spec.refusal(value)) is not None:
                raise InvalidParameter(name, spec.want, refusal)
            checked[name] = float(value) if spec.type == "double" else value
        return checked
