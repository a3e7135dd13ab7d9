"""Maps of a picture: boxes around their parts, and files of the caller's size.

scipy, OpenCV and Pillow are the references.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydantic import ValidationError
from scipy import ndimage

from triptych.contract import Contract, Plan
from triptych.contract.steps.registry import parse_step
from triptych.contract.verification.trial import trial
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidInput

F = np.float32
ENDS = 2  # of OpenCV: the end points of each straight part of a contour
BOXES = {"op": "mask_boxes", "input": "x", "output": "box", "score": "score", "count": "count", "maximum": 40}
MASK = {"op": "encode_mask", "input": "x", "output": "file"}
maps = arrays(F, (2, 7, 9), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1]))


@given(maps=maps)
def test_parts_and_scores_are_those_of_scipy(apply: Any, maps: Array) -> None:
    out = apply(BOXES, x=maps)
    for row, values in enumerate(maps):
        labels, number = ndimage.label(values >= 0.5, np.ones((3, 3)))
        wanted = [
            (-ndimage.mean(values, labels, part + 1), y.start, x.start, x.stop, y.stop)
            for part, (y, x) in enumerate(ndimage.find_objects(labels))
        ]
        assert out["count"][row] == number
        got = [
            (-score, y1, x1, x2, y2) for (x1, y1, x2, y2), score in zip(out["box"][row], out["score"][row], strict=True)
        ]
        np.testing.assert_allclose(got[:number], sorted(wanted), atol=1e-6)
        assert not out["box"][row, number:].any()
        assert not out["score"][row, number:].any()


@given(maps=maps)
def test_boxes_are_those_of_contours(apply: Any, maps: Array) -> None:
    """The outer contours of OpenCV, which PaddleOCR takes."""
    out = apply(BOXES, x=maps[:1])
    marked = (maps[0] >= 0.5).astype(np.uint8)
    contours, above = cv2.findContours(marked, cv2.RETR_CCOMP, ENDS)
    outer = [
        cv2.boundingRect(each)
        for each, links in zip(contours, above[0] if contours else [], strict=True)
        if links[3] < 0
    ]
    found = out["box"][0, : out["count"][0]].astype(int).tolist()
    assert sorted(found) == sorted([x, y, x + width, y + height] for x, y, width, height in outer)


def test_a_box_grows_as_paddleocr_unclips_it_and_stays_in_the_map(apply: Any) -> None:
    values = np.zeros((1, 40, 60), F)
    values[0, 10:20, 20:50] = 0.9  # area 300, perimeter 80: 300 * 1.6 / 80 = 6 on each side
    values[0, 35:40, 0:10] = 0.7  # 50 * 1.6 / 30 = 2.67, cut at the edge
    values[0, 0, 0] = 1
    out = apply({**BOXES, "expand": 1.6, "min_side": 2, "maximum": 3}, x=values)
    np.testing.assert_allclose(
        out["box"][0], np.array([[14, 4, 56, 26], [0, 35 - 8 / 3, 10 + 8 / 3, 40], [0, 0, 0, 0]]), rtol=1e-6
    )
    np.testing.assert_allclose(out["score"][0], [0.9, 0.7, 0], rtol=1e-6)
    one = apply({**BOXES, "score_threshold": {"parameter": "least"}}, {"values": {"least": 0.8}}, x=values)
    assert one["count"].tolist() == [2]


def test_maps_without_a_part_and_maps_that_are_none(apply: Any) -> None:
    assert apply(BOXES, x=np.zeros((2, 4, 4), F))["count"].tolist() == [0, 0]
    assert apply(BOXES, x=np.zeros((2, 0, 4), F))["count"].tolist() == [0, 0]
    assert apply(BOXES, x=np.ones((1, 4, 4), np.bool_))["box"][0, 0].tolist() == [0, 0, 4, 4]
    with pytest.raises(ContractViolation, match="mask_boxes: 'x' has NaN in row 1"):
        apply(BOXES, x=np.array([[[0.0]], [[np.nan]]], F))
    with pytest.raises(ContractViolation, match=r"want numbers \[n,h,w\], got FP32\[2,1,4,4\]"):
        apply(BOXES, x=np.zeros((2, 1, 4, 4), F))


def pixels(file: bytes) -> Array:
    return np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED))


classes = arrays(
    np.int64, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 255)
)
sides = st.tuples(st.integers(1, 50), st.integers(1, 50))


@given(maps=classes)
def test_a_file_has_the_classes(apply: Any, maps: Array) -> None:
    for row, file in enumerate(apply(MASK, x=maps)["file"]):
        np.testing.assert_array_equal(pixels(file), maps[row])


@given(maps=classes, size=sides, model=sides)
def test_a_stretched_picture_gets_its_classes_as_pillow_scales_them(
    apply: Any, maps: Array, size: tuple[int, int], model: tuple[int, int]
) -> None:
    step = {**MASK, "size": "s", "width": model[0], "height": model[1], "fit": "stretch"}
    out = apply(step, x=maps, s=np.array([size] * len(maps), np.int32))
    for row, file in enumerate(out["file"]):
        x, y = (
            ((2 * np.arange(want) + 1) * have) // (2 * want)  # the middle of a pixel, exact
            for want, have in zip(size, maps.shape[:0:-1], strict=True)
        )
        np.testing.assert_array_equal(pixels(file), maps[row][np.ix_(y, x)])
    whole = Image.fromarray(maps[0].astype(np.uint8)).resize(
        (maps.shape[2] * 4, maps.shape[1] * 3), Image.Resampling.NEAREST
    )
    four = apply(step, x=maps[:1], s=np.array([[maps.shape[2] * 4, maps.shape[1] * 3]]))["file"][0]
    np.testing.assert_array_equal(pixels(four), np.asarray(whole))


@pytest.mark.parametrize("position", ["center", "start"])
def test_a_letterbox_is_undone(apply: Any, position: str) -> None:
    """A picture of 40x20 in 32x32: 32x16 of it, with 8 free above in the centre. The map has a quarter of the sides."""
    values = np.arange(64).reshape(1, 8, 8)
    step = {**MASK, "size": "s", "width": 32, "height": 32, "position": position}
    file = pixels(apply(step, x=values, s=np.array([[40, 20]]))["file"][0])
    first = 2 if position == "center" else 0
    np.testing.assert_array_equal(file, values[0, first : first + 4].repeat(5, axis=0).repeat(5, axis=1))


def test_classes_and_sizes_beyond_the_limits_are_refused(apply: Any) -> None:
    with pytest.raises(ContractViolation, match=r"'x' has a class outside 0\.\.255"):
        apply(MASK, x=np.array([[[256]]]))
    with pytest.raises(ContractViolation, match=r"want classes \[n,h,w\], got FP32\[1,1,1\]"):
        apply(MASK, x=np.zeros((1, 1, 1), F))
    step, one = {**MASK, "size": "s", "width": 8, "height": 8}, np.zeros((1, 8, 8), np.int32)
    with pytest.raises(InvalidInput, match=r"sides from 1 to 16384, got row 0: \[20000, 1\]"):
        apply(step, x=one, s=np.array([[20_000, 1]]))
    with pytest.raises(InvalidInput, match="at most 256000000 pixels in all, got 268435456"):
        apply(step, x=one, s=np.array([[1 << 14, 1 << 14]]))
    with pytest.raises(ContractViolation, match=r"want sizes \[n,2\] as whole numbers, got FP32\[1,2\]"):
        apply(step, x=one, s=np.zeros((1, 2), F))


def test_a_size_comes_with_that_of_the_model() -> None:
    for fields in ({"size": "s"}, {"width": 8, "height": 8}, {"size": "s", "width": 8}):
        with pytest.raises(ValidationError, match="give size, width and height together, or none of them"):
            parse_step({**MASK, **fields})


def test_a_segmentation_comes_back_in_the_size_of_each_picture(files: Callable[..., Array]) -> None:
    def tensor(name: str, datatype: str, *dims: int) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [-1, *dims]}

    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "streets", "max_rows": 4},
        "inputs": [tensor("image", "BYTES")],
        "preprocess": [
            {"op": "decode_image", "input": "image", "output": "picture"},
            {"op": "image_size", "input": "picture", "output": "size"},
            {"op": "resize", "input": "picture", "width": 32, "height": 32, "output": "pixels"},
        ],
        "model": {"inputs": [tensor("pixels", "UINT8", 32, 32, 3)], "outputs": [tensor("scores", "FP32", 3, 32, 32)]},
        "postprocess": [
            {"op": "argmax", "input": "scores", "axis": 1, "output": "classes"},
            {"op": "encode_mask", "input": "classes", "size": "size", "width": 32, "height": 32, "fit": "stretch"},
        ],
        "outputs": [tensor("classes", "BYTES")],
    }
    plan = Plan(Contract.model_validate_json(json.dumps(document)))
    assert trial(plan.contract) == []
    sent = {
        "image": files(*(bytes(cv2.imencode(".png", np.zeros((h, w, 3), np.uint8))[1]) for w, h in ((64, 96), (5, 7))))
    }
    values = plan.preprocess(sent)
    scores = np.zeros((2, 3, 32, 32), F)
    scores[:, 2, 16:] = 1  # the lower half
    outputs = {"scores": scores, **plan.carried_values(values)}
    assert plan.enlarged_bytes(outputs) == 64 * 96 + 5 * 7  # so a large picture is no work for the event loop
    first, second = map(pixels, plan.postprocess(outputs)["classes"])
    assert (first.shape, second.shape) == ((96, 64), (7, 5))
    np.testing.assert_array_equal(first[:, 0], [0] * 48 + [2] * 48)
