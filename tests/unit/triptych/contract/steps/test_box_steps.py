"""Non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from triptych.errors import ContractViolation

F = np.float32
NMS = {
    "op": "nms", "boxes": "b", "scores": "s", "output": "box", "score": "score", "class_id": "class",
    "count": "count", "maximum": 3, "iou_threshold": 0.5, "score_threshold": 0.3,
}  # fmt: skip
# The second overlaps the first by 81/119 = 0.68, the third overlaps none, the fourth scores too little.
BOXES = np.array([[[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [50, 50, 60, 60]]], F)
SCORES = np.array([[0.8, 0.9, 0.5, 0.2]], F)


def test_of_boxes_that_overlap_the_best_stays(apply: Any) -> None:
    env = apply(NMS, b=BOXES, s=SCORES)
    assert env["count"].tolist() == [2]
    assert env["box"][0].tolist() == [[1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 0, 0]]
    np.testing.assert_array_equal(env["score"], np.array([[0.9, 0.5, 0]], F))
    assert env["class"].tolist() == [[0, 0, -1]]


def test_boxes_of_different_classes_do_not_compete(apply: Any) -> None:
    scores = np.array([[[0.8, 0.1], [0.1, 0.9], [0.5, 0.4], [0.2, 0.1]]], F)
    env = apply(NMS, b=BOXES, s=scores)
    assert env["count"].tolist() == [3]
    assert env["class"].tolist() == [[1, 0, 0]]


def test_a_higher_threshold_keeps_both(apply: Any) -> None:
    step = {**NMS, "iou_threshold": {"parameter": "iou"}}
    assert apply(step, {"values": {"iou": 0.7}}, b=BOXES, s=SCORES)["count"].tolist() == [3]


@pytest.mark.parametrize(("form", "box"), [("xyxy", [2, 4, 8, 10]), ("xywh", [2, 4, 6, 6]), ("cxcywh", [5, 7, 6, 6])])
def test_results_have_corners_whatever_the_model_writes(apply: Any, form: str, box: list[int]) -> None:
    env = apply({**NMS, "format": form}, b=np.array([[box]], F), s=np.array([[0.9]], F))
    assert env["box"][0, 0].tolist() == [2, 4, 8, 10]


def test_equal_scores_keep_the_order_of_the_boxes(apply: Any) -> None:
    env = apply(NMS, b=BOXES[:, :2], s=np.array([[0.9, 0.9]], F))
    assert env["box"][0, 0].tolist() == [0, 0, 10, 10]


def test_there_are_never_more_than_the_maximum(apply: Any) -> None:
    boxes = np.arange(10, dtype=F)[np.newaxis, :, np.newaxis] * 20 + np.array([0, 0, 5, 5], F)
    assert apply(NMS, b=boxes, s=np.full((1, 10), 0.9, F))["count"].tolist() == [3]


def test_empty_boxes_overlap_nothing(apply: Any) -> None:
    assert apply(NMS, b=np.zeros((1, 2, 4), F), s=np.array([[0.9, 0.8]], F))["count"].tolist() == [2]


def test_nan_in_a_score_or_a_chosen_box_is_refused(apply: Any) -> None:
    scores = np.array([[[0.1, 0.2], [0.9, np.nan]]], F)
    with pytest.raises(ContractViolation, match="nms: 's' has NaN in row 0"):
        apply(NMS, b=BOXES[:, :2], s=scores)
    boxes = np.array([[[0, 0, 1, 1], [np.nan] * 4]], F)
    with pytest.raises(ContractViolation, match="nms: 'b' has NaN in row 0"):
        apply(NMS, b=boxes, s=np.array([[0.8, 0.9]], F))
    assert apply(NMS, b=boxes, s=np.array([[0.8, 0.1]], F))["count"].tolist() == [1]


def test_a_row_alone_gets_what_it_gets_in_a_batch(apply: Any) -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 50, (6, 30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (6, 30, 2))], axis=-1).astype(F)
    scores = rng.uniform(0, 1, (6, 30, 4)).astype(F)
    batch = apply(NMS, b=boxes, s=scores)
    for row in range(6):
        alone = apply(NMS, b=boxes[row : row + 1], s=scores[row : row + 1])
        for name in ("box", "score", "class", "count"):
            np.testing.assert_array_equal(batch[name][row : row + 1], alone[name])


def test_class_agnostic_boxes_compete_with_all_others(apply: Any) -> None:
    scores = np.array([[[0.8, 0.1], [0.1, 0.9], [0.5, 0.4], [0.2, 0.1]]], F)
    env = apply({**NMS, "class_agnostic": True, "indices": "at"}, b=BOXES, s=scores)
    assert env["class"].tolist() == [[1, 0, -1]]
    assert env["at"].tolist() == [[1, 2, -1]]


def test_no_box_at_all_leaves_all_places_unused(apply: Any) -> None:
    env = apply({**NMS, "indices": "at"}, b=np.zeros((2, 0, 4), F), s=np.zeros((2, 0), F))
    assert env["count"].tolist() == [0, 0]
    assert env["at"].tolist() == [[-1] * 3] * 2
    assert not env["box"].any()
