"""Values of a request in a line for people, and the pictures among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from triptych.datatypes import Array, describe_array

FIRST: Final = 6  # values that a line shows
WIDTH: Final = 12  # of a word


def summary(value: Any) -> str:
    """Datatype, shape, limits and first values."""
    if isinstance(value, list):
        return f"{len(value)} picture{'s' * (len(value) != 1)}: {', '.join(_picture(each) for each in value[:FIRST])}"
    array = np.asarray(value)
    if array.dtype == np.object_:
        return f"{describe_array(array)}  {', '.join(_word(each) for each in array.flat[:FIRST])}{_more(array)}"
    if not array.size:
        return describe_array(array)
    numbers = ", ".join(f"{each:.4g}" if array.dtype.kind == "f" else str(each) for each in array.ravel()[:FIRST])
    return f"{describe_array(array)}{_limits(array)}  [{numbers}{_more(array)}]"


def _limits(array: Array) -> str:
    """The smallest and the largest value, without those that are NaN."""
    if array.dtype == np.bool_:
        return ""
    if array.dtype.kind != "f":
        return f"  {array.min()} to {array.max()}"
    known = array[~np.isnan(array)]
    missing = f", {array.size - known.size} NaN" if known.size < array.size else ""
    return f"  {known.min():.4g} to {known.max():.4g}{missing}" if known.size else "  all NaN"


def pictures_in(value: Any) -> list[Array]:
    """The pictures of a value, uint8[height, width] or [height, width, 3] in BGR, as OpenCV writes them."""
    found = value if isinstance(value, list) else [*value] if _are_pictures(value) else []
    return [picture[..., ::-1] if picture.ndim == 3 else picture for picture in found]


def _are_pictures(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and (value.ndim == 3 or value.shape[3:] == (3,))


def _picture(picture: Array) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]} {picture.dtype}"


def _word(element: bytes) -> str:
    try:
        text = element.decode()
    except UnicodeDecodeError:
        return f"<{len(element)} bytes>"
    return repr(text) if len(text) <= 2 * WIDTH else f"{text[:WIDTH]!r}... ({len(element)} bytes)"


def _more(array: Sequence[Any] | Array) -> str:
    return ", ..." if np.size(array) > FIRST else ""
