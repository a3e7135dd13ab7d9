"""Pictures padded to the largest of their batch, with a mask; Pillow is the reference."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from triptych.contract import Contract, Scope
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.contract.steps.registry import parse_step
from triptych.contract.verification.trial import trial
from triptych.datatypes import Array
from triptych.errors import InvalidInput

PAD = {"op": "pad", "input": "x", "output": "y", "mask": "m", "value": 7}
MOST = 40


def pasted(picture: Array, width: int, height: int, position: str) -> Array:
    """Pillow's way to the same result."""
    canvas = Image.new("RGB", (width, height), (7, 7, 7))
    free = (width - picture.shape[1], height - picture.shape[0])
    canvas.paste(Image.fromarray(picture), (free[0] // 2, free[1] // 2) if position == "center" else (0, 0))
    return np.asarray(canvas)


sides = st.tuples(st.integers(1, MOST), st.integers(1, MOST))


@given(
    sizes=st.lists(sides, min_size=1, max_size=4),
    least=st.integers(1, MOST),
    multiple=st.sampled_from([1, 4, 8]),
    position=st.sampled_from(["center", "start"]),
)
def test_the_array_is_as_large_as_the_largest_picture_needs(
    apply: Any, sizes: list[tuple[int, int]], least: int, multiple: int, position: str
) -> None:
    random = np.random.default_rng(len(sizes))
    pictures = [random.integers(0, 256, (height, width, 3), np.uint8) for width, height in sizes]
    limits = {"width": least, "max_width": MOST, "height": MOST, "multiple_of": multiple, "position": position}
    out = apply({**PAD, **limits}, x=Pictures(len(pictures), lambda row: pictures[row]))
    width = max(least, *[width for width, _ in sizes])
    width += -width % multiple
    for row, picture in enumerate(pictures):
        np.testing.assert_array_equal(out["y"][row], pasted(picture, width, MOST, position))
        white, seven = np.full_like(picture, 255), pasted(picture * 0 + 255, width, MOST, position)
        np.testing.assert_array_equal(out["m"][row].astype(bool), (seven == white[0, 0, 0]).all(axis=-1))
    assert out["m"].dtype == np.uint8


def test_a_side_without_a_maximum_does_not_grow(apply: Any) -> None:
    pictures = [np.zeros((5, 9, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)]
    assert apply({**PAD, "width": 10, "height": 1, "max_height": 20}, x=pictures)["y"].shape == (2, 8, 10, 3)
    with pytest.raises(InvalidInput, match="pictures of at most 8x20 pixels, got row 0: 9x5"):
        apply({**PAD, "width": 8, "height": 1, "max_height": 20}, x=pictures)
    with pytest.raises(InvalidInput, match="pictures of at most 10x6 pixels, got row 1: 2x8"):
        apply({**PAD, "width": 1, "max_width": 10, "height": 6}, x=pictures)


def test_a_part_of_a_picture_does_not_hold_the_whole(apply: Any) -> None:
    whole = np.zeros((1000, 1000, 3), np.uint8)
    step: Any = parse_step({**PAD, "width": 1, "height": 1, "max_width": 10, "max_height": 10})
    (held,) = step._held([whole[:4, :5]])
    assert held.base is None


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"max_width": 9}, "max_width: want at least 10; got 9"),
        ({"max_height": 30, "multiple_of": 32}, "max_height: want at least 10, a multiple of 32; got 30"),
        ({"multiple_of": 2}, "multiple_of: only with max_width or max_height"),
        ({"max_width": 100_000}, "max_width"),
    ],
)
def test_limits_that_contradict_each_other(fields: Any, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        parse_step({**PAD, "width": 10, "height": 10, **fields})


def test_its_size_counts_the_largest_result() -> None:
    step = parse_step({**PAD, "width": 1, "height": 48, "max_width": 2000})
    assert step.row_bytes() == 2000 * 48 * (3 + 3 + 1)  # held, result and mask
    assert list(step.check(Scope(), {})) == []
    same = parse_step({**PAD, "width": 1, "height": 1, "mask": "y"})
    assert list(same.check(Scope(), {})) == [("mask", "'y' is already the name of the pictures")]


@pytest.mark.parametrize(("width", "is_open"), [(-1, True), (10, False)])
def test_the_model_has_an_open_dimension_for_what_grows(width: int, is_open: bool) -> None:
    document = {
        **{"apiVersion": "triptych.dev/v1", "kind": "Contract", "family": "lines", "max_rows": 4},
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "preprocess": [
            {"op": "decode_image", "input": "image", "output": "x"},
            {"op": "pad", "input": "x", "width": 10, "height": 10, "max_width": 20},
            {"op": "normalize", "input": "x", "scale": 2.0},
            {"op": "layout", "input": "x", "order": "nchw"},
        ],
        "model": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 10, width]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        },
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    }
    if is_open:
        assert trial(Contract.model_validate_json(json.dumps(document))) == []
    else:
        with pytest.raises(ValidationError, match="'x' grows with the request by max_width: want -1 in the dimension"):
            Contract.model_validate_json(json.dumps(document))
