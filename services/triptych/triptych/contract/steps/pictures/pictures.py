"""Pictures of different sizes, and the array of pictures of one size that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from triptych.datatypes import Array
from triptych.errors import ContractViolation

MAX_SIDE = 16384

Pixels = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Rounding = Literal["nearest", "down", "up"]


def rounded(size: Array | float, rounding: Rounding) -> Array:
    """Sides of pictures as whole numbers from 1. `nearest` takes the even number of two, as `round` does.

    `down` cuts, as `int` does; `up` leaves what is a whole number but for the arithmetic of floats.
    """
    if rounding == "nearest":
        return np.maximum(1, np.rint(size))
    return np.maximum(1, np.floor(size) if rounding == "down" else np.ceil(np.asarray(size) - 1e-9))


class Pictures(Sequence[Array]):
    """Lazy sequence of pictures of different sizes. Each is made when it is read, and is not stored.

    A picture of 12 million pixels takes 36 MB, so the pictures of a request are never in memory together.
    """

    def __init__(
        self, rows: int, make: Callable[[int], Array], size: Callable[[int], tuple[int, int]] | None = None
    ) -> None:
        self._rows, self._make, self._size = rows, make, size

    def __len__(self) -> int:
        return self._rows

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of a picture, of one that was just decoded by its header alone."""
        if self._size is not None:
            return self._size(row)
        height, width = self._make(row).shape[:2]
        return width, height

    def __getitem__(self, row: Any) -> Any:
        rows = range(self._rows)[row]
        return self._make(rows) if isinstance(rows, int) else Pictures(len(rows), lambda at: self._make(rows[at]))


def stacked(pictures: Sequence[Array], height: int, width: int, place: Callable[[int, Array, Array], None]) -> Array:
    """An array [n,height,width,...] of the datatype and channels of the pictures.

    `place(row, picture, target)` fills one row, which holds zeros. Raises `ContractViolation` if the pictures differ in
    their channels or datatype.
    """
    out: Array = np.zeros(0)
    for row, picture in enumerate(pictures):
        if not row:
            out = np.zeros((len(pictures), height, width, *picture.shape[2:]), picture.dtype)
        elif (picture.shape[2:], picture.dtype) != (out.shape[3:], out.dtype):
            raise ContractViolation(f"want pictures of one kind, got {_kind(picture)} after {_kind(out[0])}")
        place(row, picture, out[row])
    return out


def _kind(picture: Array) -> str:
    return f"{picture.dtype}[height,width{''.join(f',{channels}' for channels in picture.shape[2:])}]"
