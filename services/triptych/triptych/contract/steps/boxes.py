"""Steps on boxes that a detector proposes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from triptych.contract.specs import Name
from triptych.contract.steps.base import Environment, Facts, FloatOrParameter, Run, Scope, Step, value_of
from triptych.datatypes import Array


class Nms(Step):
    """Non-maximum suppression: of overlapping boxes only the one with the best score stays.

    `boxes` is [n,m,4]; `scores` [n,m], or [n,m,c] for c classes, of which each box takes its best and
    competes only within it. All results have `maximum` places per row, best first, the unused ones 0
    (class -1).
    """

    READS = ("boxes", "scores")
    WRITES = ("output", "score", "class_id", "count")
    PARAMETER_TYPES = {"score_threshold": ("double",), "iou_threshold": ("double",)}

    op: Literal["nms"]
    boxes: Name
    scores: Name
    format: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    score_threshold: FloatOrParameter = 0.25
    iou_threshold: FloatOrParameter = 0.45
    maximum: Annotated[int, Field(ge=1, le=10_000)] = 100
    output: Annotated[Name, Field(description="FP32 [n,maximum,4], x1, y1, x2, y2")]
    score: Annotated[Name, Field(description="FP32 [n,maximum]")]
    class_id: Annotated[Name | None, Field(description="INT32 [n,maximum]")] = None
    count: Annotated[Name | None, Field(description="INT32 [n]: how many places are used")] = None

    def work(self, env: Environment) -> int:
        return int(np.size(env[self.boxes])) // 4 * self.maximum

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        known = dict.fromkeys(self.writes(), Facts(width=self.maximum))
        known[self.output] = Facts(width=4)
        if self.count is not None:
            known[self.count] = Facts()
        return known

    def compile(self, scope: Scope) -> Run:
        to_corners = _CORNERS[self.format]
        score_of, iou_of = value_of(self.score_threshold), value_of(self.iou_threshold)

        def run(env: Environment) -> None:
            boxes = to_corners(np.asarray(env[self.boxes], np.float32))
            best, classes = _best(np.asarray(env[self.scores], np.float32))
            rows, places = len(boxes), self.maximum
            out = np.zeros((rows, places, 4), np.float32)
            score = np.zeros((rows, places), np.float32)
            class_id = np.full((rows, places), -1, np.int32)
            count = np.zeros(rows, np.int32)
            for row in range(rows):
                selected = _suppress(boxes[row], best[row], classes[row], score_of(env), iou_of(env), places)
                used = count[row] = len(selected)
                out[row, :used], score[row, :used] = boxes[row, selected], best[row, selected]
                class_id[row, :used] = classes[row, selected]
            env.update(self._named(out, score, class_id, count))

        return run

    def _named(self, out: Array, score: Array, class_id: Array, count: Array) -> Iterator[tuple[str, Array]]:
        named = ((self.output, out), (self.score, score), (self.class_id, class_id), (self.count, count))
        return ((name, value) for name, value in named if name is not None)


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


STEPS: Final[tuple[type[Step], ...]] = (Nms,)
