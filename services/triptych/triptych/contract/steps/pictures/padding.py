"""The step that sets pictures of different sizes into an array of one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.specs import Name
from triptych.contract.steps.base import Environment, Facts, NumberOrList, Run, Scope, Step
from triptych.contract.steps.pictures.geometry import SizedStep, size_of
from triptych.contract.steps.pictures.pictures import Pixels, stacked
from triptych.datatypes import Array, name_of
from triptych.errors import ContractViolation, InvalidInput


class Pad(SizedStep):
    """Sets each picture into one of `width` and `height` that is filled with `value`, so that the rows become an array.

    A picture that is larger is refused. With `resize` and `fit: inside` before it this is a letterbox.

    With `max_width` or `max_height` that side grows with the largest picture of the batch, as for lines of text. It is
    open (-1) in the model then. A picture has more padding beside a larger one, so a model has to ignore padding, by
    itself or by the `mask`.
    """

    WRITES = ("output", "mask")

    op: Literal["pad"]
    width: Annotated[Pixels, Field(description="of the result; the least, with `max_width`")]
    height: Annotated[Pixels, Field(description="of the result; the least, with `max_height`")]
    max_width: Annotated[Pixels | None, Field(description="up to which the width grows")] = None
    max_height: Annotated[Pixels | None, Field(description="up to which the height grows")] = None
    multiple_of: Annotated[int, Field(ge=1, le=1024, description="of a side that grows: the stride of a network")] = 1
    value: Annotated[NumberOrList, Field(description="one number, or one for each channel")] = 0.0
    position: Annotated[
        Literal["center", "start"], Field(description="of the picture; `start` is the left and upper edge")
    ] = "center"
    mask: Annotated[Name | None, Field(description="UINT8 [n,height,width]: 1 in the picture, 0 in its padding")] = None

    @model_validator(mode="after")
    def _can_grow(self) -> Self:
        for name, least, most in (
            ("max_width", self.width, self.max_width),
            ("max_height", self.height, self.max_height),
        ):
            if most is not None and (most < least or most % self.multiple_of):
                multiple = f", a multiple of {self.multiple_of}" * (self.multiple_of > 1)
                raise ValueError(f"{name}: want at least {least}{multiple}; got {most}")
        if self.multiple_of > 1 and not self.grows:
            raise ValueError("multiple_of: only with max_width or max_height")
        return self

    @property
    def grows(self) -> bool:
        """Whether the size depends on the pictures."""
        return self.max_width is not None or self.max_height is not None

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        if self.mask == self.result:
            yield "mask", f"'{self.mask}' is already the name of the pictures"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        grows = "max_width" if self.max_width is not None else "max_height" if self.max_height is not None else ""
        return dict.fromkeys(self.writes(), Facts(grows=grows))

    def size(self) -> tuple[int, int]:
        return self.max_width or self.width, self.max_height or self.height

    def row_bytes(self) -> int:
        width, height = self.size()  # the pictures are held until the largest is known
        return width * height * ((6 if self.grows else 3) + (self.mask is not None))

    def compile(self, scope: Scope) -> Run:
        source, target, mask = self.input, self.result, self.mask

        def run(env: Environment) -> None:
            pictures, width, height = env[source], self.width, self.height
            if self.grows:
                pictures = self._held(pictures)
                width = self._grown(width, self.max_width, [picture.shape[1] for picture in pictures])
                height = self._grown(height, self.max_height, [picture.shape[0] for picture in pictures])
            inside = np.zeros((len(pictures), height, width), np.uint8) if mask is not None else None

            def place(row: int, picture: Array, out: Array) -> None:
                part = self._place(row, picture, out)
                if inside is not None:
                    inside[row][part] = 1

            env[target] = stacked(pictures, height, width, place)
            if mask is not None:
                env[mask] = inside

        return run

    def _held(self, pictures: Sequence[Array]) -> list[Array]:
        """The pictures, each within the limits. A part of a picture is copied, since it would hold the whole."""
        held = list[Array]()
        for row, picture in enumerate(pictures):
            self._check(row, picture, *self.size())
            held.append(picture if picture.base is None else picture.copy())
        return held

    def _grown(self, least: int, most: int | None, sides: Sequence[int]) -> int:
        return least if most is None else -(-max(least, *sides) // self.multiple_of) * self.multiple_of

    def _place(self, row: int, picture: Array, out: Array) -> tuple[slice, slice]:
        """Write a picture and its padding. Returns the rows and columns of the picture."""
        height, width = picture.shape[:2]
        free_y, free_x = out.shape[0] - height, out.shape[1] - width
        self._check(row, picture, out.shape[1], out.shape[0])
        x, y = (free_x // 2, free_y // 2) if self.position == "center" else (0, 0)
        out[...] = value = np.asarray(self.value)
        if not row and (out[0, 0] != value).any():
            raise ContractViolation(f"pad: value {value.tolist()} is not {name_of(out.dtype)}")
        part = slice(y, y + height), slice(x, x + width)
        out[part] = picture
        return part

    def _check(self, row: int, picture: Array, width: int, height: int) -> None:
        if picture.shape[1] > width or picture.shape[0] > height:
            want = f"pictures of at most {width}x{height} pixels"
            raise InvalidInput(self.input, want, f"row {row}: {size_of(picture)}")


STEPS: Final[tuple[type[Step], ...]] = (Pad,)
