"""Steps on the values of pixels: colour space, scale, and the layout that the model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from triptych.contract.steps.base import Facts, MapStep, NumberOrList, Scope, Step
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.contract.steps.tables import Cast
from triptych.datatypes import TO_NUMPY, Array, name_of
from triptych.errors import ContractViolation

_CONVERSIONS: Final[Mapping[tuple[str, str], int]] = {
    ("rgb", "hsv"): cv2.COLOR_RGB2HSV,
    ("rgb", "gray"): cv2.COLOR_RGB2GRAY,
    ("rgb", "bgr"): cv2.COLOR_RGB2BGR,
    ("rgb", "lab"): cv2.COLOR_RGB2LAB,
    ("bgr", "rgb"): cv2.COLOR_BGR2RGB,
    ("hsv", "rgb"): cv2.COLOR_HSV2RGB,
    ("lab", "rgb"): cv2.COLOR_LAB2RGB,
    ("gray", "rgb"): cv2.COLOR_GRAY2RGB,
}

_SCALED: Final = frozenset({"hsv", "lab"})


class ConvertColor(MapStep):
    """Changes the colour space. HSV and Lab as OpenCV has them for 8 bit: H from 0 to 179, L, a, b to 255."""

    op: Literal["convert_color"]
    source: Literal["rgb", "bgr", "gray", "hsv", "lab"]
    target: Literal["rgb", "bgr", "gray", "hsv", "lab"]

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        if (self.source, self.target) not in _CONVERSIONS:
            known = ", ".join(f"{a} to {b}" for a, b in _CONVERSIONS)
            yield "target", f"no conversion from {self.source} to {self.target}; known: {known}"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(grows=facts.get(self.input, Facts()).grows)}

    def function(self, scope: Scope) -> Callable[[Any], Any]:
        code, is_scaled = _CONVERSIONS[self.source, self.target], bool(_SCALED & {self.source, self.target})

        def one(picture: Array) -> Array:
            if is_scaled and picture.dtype != np.uint8:  # OpenCV has other scales for floats
                raise ContractViolation(f"want UINT8 pictures for HSV and Lab, got {name_of(picture.dtype)}")
            return cv2.cvtColor(picture, code)

        def convert(pictures: Sequence[Array] | Array) -> Pictures | Array:
            converted = Pictures(len(pictures), lambda row: one(pictures[row]))
            return np.stack(converted) if isinstance(pictures, np.ndarray) else converted

        return convert


class Normalize(MapStep):
    """`x * scale + offset`, or `(x * scale - mean) / std`, in FP32.

    A field is one number, or a list with one for each channel (the last dimension). For columns of numbers this is
    standard scaling.
    """

    op: Literal["normalize"]
    scale: NumberOrList = 1.0
    offset: Annotated[NumberOrList | None, Field(description="0 when left out")] = None
    mean: NumberOrList | None = None
    std: NumberOrList | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give mean and std together")
        if self.mean is not None and self.offset is not None:
            raise ValueError("offset: not together with mean and std")
        if not {"scale", "mean"} & self.model_fields_set:
            raise ValueError("give scale, or mean and std")
        if self.std is not None and 0 in np.atleast_1d(np.asarray(self.std)):
            raise ValueError("std: no number may be 0")
        return self

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        first, numbers = "", 1
        for name in ("scale", "offset", "mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) == 1:
                continue
            if first and len(value) != numbers:
                yield name, f"{len(value)} numbers, but {first} has {numbers}"
            first, numbers = first or name, len(value) if not first else numbers

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        known = facts.get(self.input, Facts())
        return {self.result: Facts(width=known.width, grows=known.grows)}

    def function(self, scope: Scope) -> Callable[[Any], Any]:
        factor, summand = np.asarray(self.scale, np.float64), np.asarray(self.offset or 0.0, np.float64)
        if self.std is not None:
            std = np.asarray(self.std, np.float64)
            factor, summand = factor / std, -np.asarray(self.mean, np.float64) / std
        scale, offset = factor.astype(np.float32), summand.astype(np.float32)

        def one(values: Array) -> Array:
            out = np.multiply(values, scale, dtype=np.float32)
            out += offset
            return out

        def normalize(values: Sequence[Array] | Array) -> Pictures | Array:
            if isinstance(values, np.ndarray):
                return one(values)
            return Pictures(len(values), lambda row: one(values[row]))

        return normalize


class Layout(MapStep):
    """Orders the dimensions of a picture array, in the model's datatype. Refuses values that do not fit."""

    op: Literal["layout"]
    order: Literal["nchw", "nhwc"]
    datatype: Literal["FP16", "FP32", "UINT8"] = "FP32"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(grows=facts.get(self.input, Facts()).grows)}

    def function(self, scope: Scope) -> Callable[[Any], Array]:
        dtype, channels_first = TO_NUMPY[self.datatype], self.order == "nchw"
        narrow = Cast(op="cast", input=self.input, datatype=self.datatype).function(scope)

        def layout(pictures: Sequence[Array] | Array) -> Array:
            if not isinstance(pictures, np.ndarray):
                raise ContractViolation("layout: want pictures of one size, by `resize`, `pad` or `crop`")
            if not np.can_cast(pictures.dtype, dtype):
                pictures = narrow(pictures)
            if pictures.ndim == 3:  # grey: one channel
                pictures = pictures[..., np.newaxis]
            ordered = pictures.transpose(0, 3, 1, 2) if channels_first else pictures
            return np.ascontiguousarray(ordered, dtype=dtype)

        return layout


STEPS: Final[tuple[type[Step], ...]] = (ConvertColor, Normalize, Layout)
