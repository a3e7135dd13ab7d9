"""Steps on maps [n,h,w] that a model makes of a picture: boxes around their parts, and files of the caller's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from triptych.contract.specs import Name
from triptych.contract.steps.base import (
    Environment,
    Facts,
    FloatOrParameter,
    MapStep,
    Run,
    Scope,
    Step,
    first_row,
    refuse_nan,
    value_of,
)
from triptych.contract.steps.boxes import inner_pictures
from triptych.contract.steps.pictures.geometry import MAX_PIXELS
from triptych.contract.steps.pictures.pictures import MAX_SIDE, Pixels, Rounding
from triptych.datatypes import Array, describe_array
from triptych.errors import ContractViolation, InvalidInput
from triptych.runtime.cancellation import check_cancelled

_CLASSES: Final = 256  # of a grey pixel of 8 bits


class MaskBoxes(MapStep):
    """Boxes around the parts of a map [n,h,w], such as the probability at each pixel that it is of a text.

    A part has pixels that reach `threshold` and touch at a side or corner. Its score is the mean of its values. With
    `expand` a box grows on each side by its area times `expand`, divided by its perimeter, up to the edge of the map
    (PaddleOCR: `unclip_ratio`). All results have `maximum` places per row, best score first, of equal ones the upper
    and then the left, the unused ones 0. NaN is refused.
    """

    WRITES = ("output", "score", "count")
    PARAMETER_TYPES = {"threshold": ("double",), "score_threshold": ("double",)}

    op: Literal["mask_boxes"]
    threshold: FloatOrParameter = 0.5
    score_threshold: FloatOrParameter = 0.0
    min_side: Annotated[int, Field(ge=1, le=MAX_SIDE, description="of a part, in pixels of the map")] = 1
    expand: Annotated[float, Field(ge=0, le=100)] = 0.0
    maximum: Annotated[int, Field(ge=1, le=10_000)] = 100
    output: Annotated[Name, Field(description="FP32 [n,maximum,4], x1, y1, x2, y2 in pixels of the map")]
    score: Annotated[Name, Field(description="FP32 [n,maximum]")]
    count: Annotated[Name | None, Field(description="INT32 [n]: how many places are used")] = None

    def row_bytes(self) -> int:
        return 20 * self.maximum

    def made_bytes(self, env: Environment) -> int:
        return 16 * self.elements(env) + env.rows * self.row_bytes()

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        known = dict.fromkeys(self.writes(), Facts())
        return {**known, self.output: Facts(width=4), self.score: Facts(width=self.maximum)}

    def compile(self, scope: Scope) -> Run:
        source, least_of, score_of = self.input, value_of(self.threshold), value_of(self.score_threshold)

        def run(env: Environment) -> None:
            maps = env[source]
            if maps.ndim != 3 or maps.dtype == np.object_:
                raise ContractViolation(f"mask_boxes: want numbers [n,h,w], got {describe_array(maps)}")
            refuse_nan(self.op, source, maps)
            boxes = np.zeros((len(maps), self.maximum, 4), np.float32)
            scores, counts = np.zeros(boxes.shape[:2], np.float32), np.zeros(len(maps), np.int32)
            for row, values in enumerate(maps if maps.size else ()):
                found, means = self._parts(values, least_of(env), score_of(env))
                counts[row] = len(found)
                boxes[row, : len(found)], scores[row, : len(found)] = found, means
            env.update({self.output: boxes, self.score: scores})
            if self.count is not None:
                env[self.count] = counts

        return run

    def _parts(self, values: Array, threshold: float, score_threshold: float) -> tuple[Array, Array]:
        """Boxes [m,4] and scores [m] of one map [h,w], in their order."""
        check_cancelled()
        marked = np.asarray(values >= threshold, np.uint8)
        number, labels, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
        left, top, width, height, area = stats[1:].T
        sums = np.bincount(labels.ravel(), np.asarray(values, np.float64).ravel(), number)[1:]
        scores = sums / area
        order = np.lexsort((left, top, -scores))
        order = order[(np.minimum(width, height)[order] >= self.min_side) & (scores[order] >= score_threshold)]
        order = order[: self.maximum]
        grown = self.expand * width * height / (2.0 * (width + height))
        boxes = np.stack([left - grown, top - grown, left + width + grown, top + height + grown], axis=1)
        return np.clip(boxes[order], 0, np.tile(values.shape[::-1], 2)), scores[order]


class EncodeMask(MapStep):
    """Classes [n,h,w] to grey PNG files (BYTES [n]): the value of a pixel is its class, from 0 to 255.

    Without `size` a file is as large as the map. `size` [n,2] is width and height of each of the caller's pictures, by
    `image_size` in preprocess: then a file is as large as the picture, and a pixel has the class of the nearest place
    of the map. `width`, `height`, `fit`, `rounding` and `position` are those of `resize` and `pad`, which this undoes.
    A map that is smaller than the model's picture covers all of it.
    """

    READS = ("input", "size")

    op: Literal["encode_mask"]
    size: Name | None = None
    width: Annotated[Pixels | None, Field(description="of the model's picture")] = None
    height: Annotated[Pixels | None, Field(description="of the model's picture")] = None
    fit: Annotated[Literal["stretch", "inside"], Field(description="`inside` with `pad` is a letterbox")] = "inside"
    rounding: Rounding = "nearest"
    position: Literal["center", "start"] = "center"
    max_request_pixels: Annotated[
        int,
        Field(ge=1, le=2**36, description="of all files of one request; by default what `decode_image` takes at most"),
    ] = 256_000_000

    @model_validator(mode="after")
    def _knows_the_picture(self) -> Self:
        given = {self.size is not None, self.width is not None, self.height is not None}
        if len(given) > 1:
            raise ValueError("give size, width and height together, or none of them")
        return self

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        if self.size is None:
            return 0
        sizes = inputs.get(self.size)
        if sizes is None or sizes.shape[1:] != (2,) or sizes.dtype.kind not in "iu":
            return MAX_PIXELS
        pixels = int(np.clip(sizes, 0, MAX_SIDE).astype(np.int64).prod(axis=1).sum())
        return min(pixels, self.max_request_pixels)  # more are refused

    def made_bytes(self, env: Environment) -> int:
        return 8 * self.elements(env) + 2 * self.unpacked_bytes(env)

    def compile(self, scope: Scope) -> Run:
        source, target, size = self.input, self.result, self.size

        def run(env: Environment) -> None:
            maps = self._classes(env[source])
            sizes = None if size is None else self._sizes(env[size], len(maps))
            files = np.empty(len(maps), np.object_)
            for row, classes in enumerate(maps):
                check_cancelled()
                shown = classes if sizes is None else self._of_picture(classes, sizes[row])
                files[row] = cv2.imencode(".png", shown)[1].tobytes()
            env[target] = files

        return run

    def _classes(self, maps: Array) -> Array:
        if maps.ndim != 3 or maps.dtype.kind not in "iub" or not maps.size:
            raise ContractViolation(f"encode_mask: want classes [n,h,w], got {describe_array(maps)}")
        if maps.dtype.itemsize > 1 or maps.dtype.kind == "i":
            wrong = (maps < 0) | (maps >= _CLASSES)
            if wrong.any():
                raise ContractViolation(f"encode_mask: '{self.input}' has a class outside 0..{_CLASSES - 1}")
        return maps.astype(np.uint8, copy=False)

    def _sizes(self, sizes: Array, rows: int) -> Array:
        """Width and height [n,2] of the caller's pictures, INT64 within the limits."""
        if sizes.shape != (rows, 2) or sizes.dtype.kind not in "iu":
            raise ContractViolation(f"encode_mask: want sizes [n,2] as whole numbers, got {describe_array(sizes)}")
        if not ((sizes >= 1) & (sizes <= MAX_SIDE)).all():
            row = first_row((sizes < 1) | (sizes > MAX_SIDE))
            raise InvalidInput(self.size or "", f"sides from 1 to {MAX_SIDE}", f"row {row}: {sizes[row].tolist()}")
        found = sizes.astype(np.int64)
        if (pixels := int(found.prod(axis=1).sum())) > self.max_request_pixels:
            raise InvalidInput(self.size or "", f"at most {self.max_request_pixels} pixels in all", f"{pixels}")
        return found

    def _of_picture(self, classes: Array, size: Array) -> Array:
        """The map [h,w] of a row in the size of the caller's picture."""
        model = np.array([[self.width, self.height]], np.float64)
        inner, start = inner_pictures(size[np.newaxis], model, self.fit, self.rounding, self.position)
        columns, rows = (
            _nearest(int(size[at]), int(inner[0, at]), int(start[0, at]), int(model[0, at]), classes.shape[1 - at])
            for at in (0, 1)
        )
        return np.ascontiguousarray(classes.take(rows, axis=0).take(columns, axis=1))


def _nearest(side: int, inner: int, start: int, model: int, places: int) -> Array:
    """The place of a map for each pixel along a side of the caller's picture, in whole numbers and so exact.

    The middle of pixel k is that of (k + 1/2) * inner / side + start in the model's picture, whose side has `places`.
    """
    middles = (2 * np.arange(side) + 1) * inner + 2 * side * start
    return np.minimum(middles * places // (2 * side * model), places - 1)


STEPS: Final[tuple[type[Step], ...]] = (MaskBoxes, EncodeMask)
