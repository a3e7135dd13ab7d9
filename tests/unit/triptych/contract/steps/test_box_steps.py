"""Non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from triptych.contract import Environment, Scope
from triptych.contract.steps.pictures.geometry import Resize
from triptych.contract.steps.registry import parse_step
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


SIDES = st.integers(1, 5000)


def scaled(boxes: Any, sizes: Any, **fields: Any) -> Any:
    step = {"op": "scale_boxes", "input": "b", "size": "s", "width": 640, "height": 480, **fields}
    env = Environment({"b": boxes, "s": np.asarray(sizes, np.int32)}, len(boxes), {})
    parse_step(step).compile(Scope())(env)
    return env["b"]


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["center", "start"]))
def test_scale_boxes_undoes_what_resize_and_pad_do(w: int, h: int, width: int, height: int, position: str) -> None:
    """The picture fills its part of the model's picture, by the sizes of `resize` and the start of `pad`."""
    inner = Resize(op="resize", input="x", width=width, height=height, fit="inside")._size_for(w, h)
    left, top = ((width - inner[0]) // 2, (height - inner[1]) // 2) if position == "center" else (0, 0)
    box = np.array([[[left, top, left + inner[0], top + inner[1]]]], F)
    got = scaled(box, [[w, h]], width=width, height=height, position=position)
    np.testing.assert_allclose(got, [[[0, 0, w, h]]], rtol=1e-5)


@given(st.integers(32, 5000), st.integers(32, 5000), st.lists(st.floats(0, 640, width=32), min_size=4, max_size=4))
def test_scaled_boxes_are_those_of_ultralytics_within_a_pixel_of_the_model(w: int, h: int, box: list[float]) -> None:
    gain = min(640 / w, 640 / h)  # ultralytics.utils.ops.scale_boxes, whose padding is rounded in another way
    pad = round((640 - round(w * gain)) / 2 - 0.1), round((640 - round(h * gain)) / 2 - 0.1)
    want = np.clip((np.array(box) - np.tile(pad, 2)) / gain, 0, np.tile([w, h], 2))
    got = scaled(np.array([[box]], F), [[w, h]], height=640)
    assert np.abs(got - want).max() <= 2 / gain


def test_each_row_has_its_own_size_and_unused_places_stay_0() -> None:
    boxes = np.array([[[0, 60, 640, 420], [0, 0, 0, 0]], [[320, 240, 330, 250], [0, 0, 0, 0]]], F)
    got = scaled(boxes, [[1280, 720], [320, 240]])
    assert got.tolist() == [[[0, 0, 1280, 720], [0, 0, 0, 0]], [[160, 120, 165, 125], [0, 0, 0, 0]]]
    assert scaled(boxes, [[64, 48], [64, 48]], fit="stretch")[1, 0].tolist() == [32, 24, 33, 25]
    assert got.dtype == F


@pytest.mark.parametrize("sizes", [[[0, 10]], [[10]], [[1, 1], [1, 1]]])
def test_sizes_that_are_none_are_refused(sizes: Any) -> None:
    with pytest.raises(ContractViolation, match="scale_boxes: want boxes"):
        scaled(np.zeros((1, 1, 4), F), sizes)
    with pytest.raises(ContractViolation, match="scale_boxes: 'b' has NaN in row 0"):
        scaled(np.full((1, 1, 4), np.nan, F), [[1, 1]])


@given(st.integers(32, 5000), st.integers(32, 5000), st.lists(st.floats(0, 416, width=32), min_size=4, max_size=4))
def test_boxes_with_one_factor_are_those_of_yolox(w: int, h: int, box: list[float]) -> None:
    """yolox.data.data_augment.preproc, whose sizes are cut and whose picture is at the start."""
    ratio = min(416 / w, 416 / h)
    inner = Resize(op="resize", input="x", width=416, height=416, fit="inside", rounding="down")._size_for(w, h)
    assert inner == (int(w * ratio), int(h * ratio))
    want = np.clip(np.array(box) / ratio, 0, np.tile([w, h], 2))
    same = {"width": 416, "height": 416, "position": "start", "rounding": "down"}
    np.testing.assert_allclose(scaled(np.array([[box]], F), [[w, h]], one_factor=True, **same)[0, 0], want, 1e-5, 1e-5)
    edge = np.array([[[0, 0, *inner]]], F)
    np.testing.assert_allclose(scaled(edge, [[w, h]], **same)[0, 0], [0, 0, w, h], rtol=1e-5)


GRID = {"op": "grid_boxes", "input": "b", "width": 64, "height": 32, "strides": [8, 16, 32]}


def test_offsets_become_boxes_as_in_yolox(apply: Any) -> None:
    """yolox.utils.demo_utils.demo_postprocess."""
    offsets = np.random.default_rng(0).normal(size=(2, 42, 4)).astype(F)
    grids, strides = [], []
    for stride in (8, 16, 32):
        xv, yv = np.meshgrid(np.arange(64 // stride), np.arange(32 // stride))
        grids.append(np.stack((xv, yv), 2).reshape(-1, 2))
        strides.append(np.full((grids[-1].shape[0], 1), stride))
    want = offsets.astype(np.float64)
    want[..., :2] = (want[..., :2] + np.concatenate(grids)) * np.concatenate(strides)
    want[..., 2:4] = np.exp(want[..., 2:4]) * np.concatenate(strides)
    got = apply(GRID, b=offsets)["b"]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got.dtype == F


def test_a_grid_that_the_model_does_not_have_is_named(apply: Any) -> None:
    with pytest.raises(ContractViolation, match=r"grid_boxes: 'b' is FP32\[1,41,4\], want \[n,42,4\]"):
        apply(GRID, b=np.zeros((1, 41, 4), F))
    with pytest.raises(ValidationError, match="strides: want at most 32, the side, got 64"):
        parse_step({**GRID, "strides": [8, 64]})


def test_a_box_without_end_is_cut_at_the_edge(apply: Any) -> None:
    offsets = np.full((1, 42, 4), [0, 0, 1000, 1000], F)
    env = apply({**NMS, "format": "cxcywh"}, b=apply(GRID, b=offsets)["b"], s=np.full((1, 42), 0.9, F))
    assert scaled(env["box"], [[50, 40]], width=64, height=32)[0, 0].tolist() == [0, 0, 50, 40]
