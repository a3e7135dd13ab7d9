"""Steps on boxes that a detector proposes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal, Self

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
    refuse_nan,
    value_of,
)
from triptych.contract.steps.pictures.pictures import MAX_SIDE, Rounding, rounded
from triptych.datatypes import Array, describe_array
from triptych.errors import ContractViolation

_MAX_EXPONENT: Final = 20.0  # of a size: 485 million cells, so that the area of a box is finite
Stride = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class Nms(Step):
    """Non-maximum suppression: of overlapping boxes only the one with the best score stays.

    `boxes` is [n,m,4]; `scores` [n,m], or [n,m,c] for c classes, of which each box takes its best and
    competes only within it, or with all others if `class_agnostic`. All results have `maximum` places per row, best
    first, the unused ones 0 (class and index -1). NaN in a score or in a chosen box is refused.
    """

    READS = ("boxes", "scores")
    WRITES = ("output", "score", "class_id", "count", "indices")
    PARAMETER_TYPES = {"score_threshold": ("double",), "iou_threshold": ("double",)}

    op: Literal["nms"]
    boxes: Name
    scores: Name
    format: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    score_threshold: FloatOrParameter = 0.25
    iou_threshold: FloatOrParameter = 0.45
    class_agnostic: bool = False
    maximum: Annotated[int, Field(ge=1, le=10_000)] = 100
    output: Annotated[Name, Field(description="FP32 [n,maximum,4], x1, y1, x2, y2")]
    score: Annotated[Name, Field(description="FP32 [n,maximum]")]
    class_id: Annotated[Name | None, Field(description="INT32 [n,maximum]")] = None
    count: Annotated[Name | None, Field(description="INT32 [n]: how many places are used")] = None
    indices: Annotated[Name | None, Field(description="INT32 [n,maximum]: places of the boxes in the input")] = None

    def work(self, env: Environment) -> int:
        return int(np.size(env[self.boxes])) // 4 * self.maximum

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        known = dict.fromkeys(self.writes(), Facts(width=self.maximum))
        known[self.output] = Facts(width=4)
        if self.count is not None:
            known[self.count] = Facts()
        return known

    def compile(self, scope: Scope) -> Run:
        to_corners, places = _CORNERS[self.format], self.maximum
        score_of, iou_of = value_of(self.score_threshold), value_of(self.iou_threshold)

        def run(env: Environment) -> None:
            boxes = to_corners(np.asarray(env[self.boxes], np.float32))
            best, classes = _best(np.asarray(env[self.scores], np.float32))
            refuse_nan(self.op, self.scores, best)
            rivals = np.zeros_like(classes) if self.class_agnostic else classes
            indices = np.full((len(boxes), places), -1, np.int32)
            for row in range(len(boxes)):
                selected = _suppress(boxes[row], best[row], rivals[row], score_of(env), iou_of(env), places)
                indices[row, : len(selected)] = selected
            used = indices >= 0
            self._write(env, indices, used, boxes, np.where(used, _at(best, indices), 0), _at(classes, indices))

        return run

    def _write(self, env: Environment, indices: Array, used: Array, boxes: Array, score: Array, classes: Array) -> None:
        env[self.output] = np.where(used[..., np.newaxis], _at(boxes, indices), np.float32(0))
        refuse_nan(self.op, self.boxes, env[self.output])
        env[self.score] = np.asarray(score, np.float32)
        for name, value in (
            (self.class_id, np.where(used, classes, np.int32(-1))),
            (self.count, used.sum(axis=1, dtype=np.int32)),
            (self.indices, indices),
        ):
            if name is not None:
                env[name] = value


def _at(values: Array, indices: Array) -> Array:
    """The values of each row at its indices; any value for index -1, also where there are no values."""
    if not values.shape[1]:
        return np.zeros((*indices.shape, *values.shape[2:]), values.dtype)
    return np.asarray(values[np.arange(len(values))[:, np.newaxis], indices])


def _xywh(boxes: Array) -> Array:
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def _cxcywh(boxes: Array) -> Array:
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


_CORNERS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "xyxy": lambda boxes: boxes,
    "xywh": _xywh,
    "cxcywh": _cxcywh,
}


def _best(scores: Array) -> tuple[Array, Array]:
    """Best score [n,m] and its class [n,m]."""
    if scores.ndim == 2:
        return scores, np.zeros(scores.shape, np.int32)
    return scores.max(axis=-1), np.asarray(scores.argmax(axis=-1), np.int32)


def _suppress(
    boxes: Array, scores: Array, classes: Array, score_threshold: float, iou_threshold: float, most: int
) -> list[int]:
    """Indices of the boxes of one row that stay, best first. Of equal scores the lower index wins."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= score_threshold]
    selected: list[int] = []
    while order.size and len(selected) < most:
        first, rest = int(order[0]), order[1:]
        selected.append(first)
        rival = (classes[rest] == classes[first]) & (_overlap(boxes[first], boxes[rest]) > iou_threshold)
        order = rest[~rival]
    return selected


def _overlap(box: Array, others: Array) -> Array:
    """Intersection over union of one box [4] with others [m,4]; 0 where both are empty."""
    size = np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0)
    shared = size[:, 0] * size[:, 1]
    union = _area(box[np.newaxis]) + _area(others) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _area(boxes: Array) -> Array:
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(size[:, 0] * size[:, 1])


class GridBoxes(MapStep):
    """Offsets [n,m,4] of a detector without anchors, such as YOLOX, to boxes: centre x, y, width, height in pixels.

    The model's picture of `width` and `height` has a grid of cells for each of `strides`, row by row, and m is the
    number of all cells. The centre is (cell + offset) * stride, the size exp(offset) * stride.
    """

    op: Literal["grid_boxes"]
    width: Annotated[int, Field(ge=1, le=MAX_SIDE, description="of the model's picture")]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE, description="of the model's picture")]
    strides: Annotated[tuple[Stride, ...], Field(strict=False, min_length=1, max_length=8)] = (8, 16, 32)

    @model_validator(mode="after")
    def _has_cells(self) -> Self:
        if max(self.strides) > min(self.width, self.height):
            raise ValueError(f"strides: want at most {min(self.width, self.height)}, the side, got {max(self.strides)}")
        return self

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=4)}

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        cells, strides, name = *self._cells(), self.input

        def boxes(offsets: Array) -> Array:
            if offsets.shape[1:] != (len(cells), 4):
                got = describe_array(offsets)
                raise ContractViolation(f"grid_boxes: '{name}' is {got}, want [n,{len(cells)},4] for this picture")
            values = np.asarray(offsets, np.float32)
            size = np.exp(np.minimum(values[..., 2:], _MAX_EXPONENT)) * strides
            return np.concatenate([(values[..., :2] + cells) * strides, size], axis=-1)

        return boxes

    def _cells(self) -> tuple[Array, Array]:
        """Column and row [m,2] of each cell, and its stride [m,1]."""
        cells, strides = [], []
        for stride in self.strides:
            rows, columns = np.mgrid[: self.height // stride, : self.width // stride]
            cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
            strides.append(np.full((rows.size, 1), stride))
        return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


class ScaleBoxes(MapStep):
    """Boxes [n,m,4] (x1, y1, x2, y2) of the model's picture in the pixels of the caller's, FP32.

    `size` [n,2] is width and height of each of the caller's pictures, by `image_size` in preprocess. `width`, `height`,
    `fit`, `rounding` and `position` are those of `resize` and `pad`, which this undoes. Boxes are cut at the edge of
    the picture, so the unused places of `nms` stay 0.
    """

    READS = ("input", "size")

    op: Literal["scale_boxes"]
    size: Name
    width: Annotated[int, Field(ge=1, le=MAX_SIDE, description="of the model's picture")]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE, description="of the model's picture")]
    fit: Annotated[Literal["stretch", "inside"], Field(description="`inside` with `pad` is a letterbox")] = "inside"
    rounding: Rounding = "nearest"
    position: Literal["center", "start"] = "center"
    one_factor: Annotated[
        bool,
        Field(
            description="one factor for both sides, as the code of YOLO models has it; else each side has its own, "
            "which a rounded side needs to be exact"
        ),
    ] = False

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=4)}

    def compile(self, scope: Scope) -> Run:
        source, target, size = self.input, self.result, self.size
        model = np.array([self.width, self.height], np.float64)

        def run(env: Environment) -> None:
            boxes, sizes = np.asarray(env[source], np.float64), np.asarray(env[size], np.float64)
            if boxes.ndim != 3 or boxes.shape[2] != 4 or sizes.shape != (len(boxes), 2) or not (sizes >= 1).all():
                got = f"{describe_array(env[source])} and {describe_array(env[size])}"
                raise ContractViolation(f"scale_boxes: want boxes [n,m,4] and sizes [n,2] from 1 on, got {got}")
            refuse_nan(self.op, source, boxes)
            inner, start = inner_pictures(sizes, model, self.fit, self.rounding, self.position)
            factors = (sizes / model).max(axis=1, keepdims=True).repeat(2, 1) if self.one_factor else sizes / inner
            scaled = (boxes - np.tile(start, 2)[:, np.newaxis]) * np.tile(factors, 2)[:, np.newaxis]
            env[target] = np.clip(scaled, 0, np.tile(sizes, 2)[:, np.newaxis]).astype(np.float32)

        return run


def inner_pictures(sizes: Array, model: Array, fit: str, rounding: Rounding, position: str) -> tuple[Array, Array]:
    """Width and height [n,2] of the scaled pictures within the model's, and where they start, as in `resize`."""
    if fit == "stretch":
        return np.broadcast_to(model, sizes.shape), np.zeros_like(sizes)
    factor = (model / sizes).min(axis=1, keepdims=True)
    inner = rounded(sizes * factor, rounding)
    return inner, (model - inner) // 2 if position == "center" else np.zeros_like(sizes)


STEPS: Final[tuple[type[Step], ...]] = (GridBoxes, Nms, ScaleBoxes)
