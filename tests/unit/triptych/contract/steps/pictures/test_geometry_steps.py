"""Sizes of pictures: resized with and without their shape kept, cropped, padded; Pillow is the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from triptych.contract import Contract
from triptych.contract.steps.pictures.geometry import Resize
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.contract.steps.registry import parse_step
from triptych.contract.verification.trial import trial
from triptych.errors import ContractViolation, InvalidInput

RNG = np.random.default_rng(11)
WIDE = RNG.integers(0, 256, (60, 90, 3), np.uint8)
TALL = RNG.integers(0, 256, (91, 37, 3), np.uint8)
RESIZE = {"op": "resize", "input": "x"}
CROP = {"op": "crop", "input": "x"}
PAD = {"op": "pad", "input": "x"}


def sizes(values: Any) -> list[tuple[int, int]]:
    """Width and height of each picture."""
    return [(picture.shape[1], picture.shape[0]) for picture in values]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"width": 45}, [(45, 30), (45, 111)]),
        ({"height": 30}, [(45, 30), (12, 30)]),
        ({"shortest_edge": 30}, [(45, 30), (30, 73)]),
        ({"longest_edge": 45}, [(45, 30), (18, 45)]),
        ({"width": 45, "height": 20, "fit": "inside"}, [(30, 20), (8, 20)]),
    ],
)
def test_the_shape_is_kept(apply: Any, size: dict[str, Any], expected: Any) -> None:
    assert sizes(apply({**RESIZE, **size}, x=[WIDE, TALL])["x"]) == expected


def test_both_sides_make_an_array(apply: Any) -> None:
    assert apply({**RESIZE, "width": 4, "height": 6}, x=[WIDE, TALL])["x"].shape == (2, 6, 4, 3)


@given(width=st.integers(1, 4000), height=st.integers(1, 4000), edge=st.integers(1, 4000))
def test_the_shortest_edge_is_that_of_torchvision(width: int, height: int, edge: int) -> None:
    """`_compute_resized_output_size`: the short side is the edge, the long one int(edge * long / short)."""
    short, long = sorted((width, height))
    result = Resize(op="resize", input="x", shortest_edge=edge)._size_for(width, height)
    assert sorted(result) == [edge, int(edge * long / short)]
    assert (result[0] <= result[1]) == (width <= height) or result[0] == result[1]


@given(width=st.integers(1, 4000), height=st.integers(1, 4000), edge=st.integers(1, 4000))
def test_no_side_is_longer_than_the_longest_edge_or_empty(width: int, height: int, edge: int) -> None:
    result = Resize(op="resize", input="x", longest_edge=edge)._size_for(width, height)
    assert max(result) == edge
    assert min(result) >= 1


PILLOW = {"linear": 2, "cubic": 3, "lanczos": 1, "area": 4}


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("size", [(32, 24), (200, 10), (7, 300)])
@pytest.mark.parametrize("picture", [WIDE, TALL, WIDE[..., 0], WIDE[5:40, 3:70]])
def test_antialias_gives_the_pixels_of_pillow(apply: Any, interpolation: str, size: Any, picture: Any) -> None:
    step = {**RESIZE, "width": size[0], "height": size[1], "interpolation": interpolation, "antialias": True}
    expected = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling(PILLOW[interpolation])))
    np.testing.assert_array_equal(apply(step, x=[picture])["x"][0], expected)


def test_antialias_keeps_the_shape_too(apply: Any) -> None:
    step = {**RESIZE, "shortest_edge": 20, "interpolation": "linear", "antialias": True}
    expected = np.asarray(Image.fromarray(WIDE).resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(apply(step, x=[WIDE])["x"][0], expected)


def test_antialias_wants_pictures_of_8_bits(apply: Any) -> None:
    step = {**RESIZE, "width": 2, "height": 2, "interpolation": "linear", "antialias": True}
    with pytest.raises(ContractViolation, match="antialias: want UINT8 pictures of 1 or 3 channels, got float32"):
        apply(step, x=np.zeros((1, 4, 4, 3), np.float32))


def test_a_strip_cannot_become_a_picture_without_end(apply: Any) -> None:
    strip = np.zeros((1000, 1, 3), np.uint8)
    want = r"at most 16384 pixels a side and 25000000 in all when resized, got row 1: 1x1000 to 640x640000"
    with pytest.raises(InvalidInput, match=want):
        apply({**RESIZE, "width": 640}, x=[WIDE, strip])


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "give width and height, one of them, shortest_edge or longest_edge; got none"),
        ({"width": 3, "longest_edge": 3}, "got longest_edge and width and height"),
        ({"width": 3, "fit": "inside"}, "fit: inside needs width and height"),
        ({"width": 3, "height": 3, "antialias": True, "interpolation": "nearest"}, "antialias: want interpolation"),
    ],
)
def test_a_size_is_given_once(fields: Any, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        parse_step({**RESIZE, **fields})


@pytest.mark.parametrize(("side", "part", "first"), [(10, 4, 3), (9, 4, 2), (11, 4, 4), (4, 4, 0)])
def test_the_centre_is_that_of_torchvision(apply: Any, side: int, part: int, first: int) -> None:
    """`center_crop`: int(round((side - part) / 2.0))."""
    row = np.arange(side, dtype=np.uint8).reshape(1, side)
    out = apply({**CROP, "center": [part, 1]}, x=[row])["x"]
    assert out.tolist() == [[list(range(first, first + part))]]


def test_a_constant_box_makes_an_array(apply: Any) -> None:
    out = apply({**CROP, "box": [2, 3, 20, 10]}, x=[WIDE, TALL])["x"]
    np.testing.assert_array_equal(out, np.stack([WIDE[3:13, 2:22], TALL[3:13, 2:22]]))


@pytest.mark.parametrize(
    ("fields", "least"),
    [({"box": [30, 0, 8, 8]}, "38x8"), ({"box": [0, 90, 8, 2]}, "8x92"), ({"center": [38, 8]}, "38x8")],
)
def test_a_picture_smaller_than_the_box_is_refused(apply: Any, fields: Any, least: str) -> None:
    with pytest.raises(InvalidInput, match=f"pictures of at least {least} pixels, got row 1: 37x91"):
        apply({**CROP, **fields}, x=[np.zeros((100, 100, 3), np.uint8), TALL])


@pytest.mark.parametrize("fields", [{}, {"box": "b", "center": [1, 1]}, {"box": [-1, 0, 1, 1]}, {"box": [0, 0, 0, 1]}])
def test_a_crop_has_one_box(fields: Any) -> None:
    with pytest.raises(ValidationError):
        parse_step({**CROP, **fields})


def test_a_letterbox_is_a_resize_inside_and_a_pad(apply: Any) -> None:
    """The rows of ultralytics' letterbox: 114 on both sides, the odd pixel behind."""
    inside = apply({**RESIZE, "width": 64, "height": 65, "fit": "inside"}, x=[WIDE, TALL])["x"]
    assert sizes(inside) == [(64, 43), (26, 65)]
    out = apply({**PAD, "width": 64, "height": 65, "value": 114}, x=inside)["x"]
    np.testing.assert_array_equal(out[0, 11:54], inside[0])
    np.testing.assert_array_equal(out[1, :, 19:45], inside[1])
    assert (out[0, :11] == 114).all()
    assert (out[0, 54:] == 114).all()


def test_a_pad_at_the_start_has_a_value_for_each_channel(apply: Any) -> None:
    out = apply(
        {**PAD, "width": 3, "height": 2, "value": [1, 2, 3], "position": "start"}, x=np.zeros((1, 1, 2, 3), np.uint8)
    )
    assert out["x"][0].tolist() == [[[0, 0, 0], [0, 0, 0], [1, 2, 3]], [[1, 2, 3]] * 3]


@pytest.mark.parametrize("value", [256, -1, 0.5, [0, 0, 300]])
def test_a_value_that_is_no_pixel_is_no_padding(apply: Any, value: Any) -> None:
    with pytest.raises(ContractViolation, match="pad: value .* is not UINT8"):
        apply({**PAD, "width": 100, "height": 100, "value": value}, x=[WIDE])


def test_a_picture_larger_than_the_pad_is_refused(apply: Any) -> None:
    with pytest.raises(InvalidInput, match="pictures of at most 90x60 pixels, got row 1: 37x91"):
        apply({**PAD, "width": 90, "height": 60}, x=[WIDE, TALL])


@pytest.mark.parametrize(
    ("step", "row_bytes"),
    [
        ({**RESIZE, "width": 2000, "height": 1000}, 6_000_000),
        ({**PAD, "width": 2000, "height": 1000}, 6_000_000),
        ({**CROP, "center": [2000, 1000]}, 6_000_000),
        ({**RESIZE, "width": 640}, None),
        ({**RESIZE, "shortest_edge": 256}, None),
    ],
)
def test_what_grows_by_a_step_counts_as_work(files: Any, step: Any, row_bytes: int | None) -> None:
    """Large pictures out of small files must not be made on the event loop."""
    made = parse_step(step).unpacked_bytes({"x": files(b"1", b"2")})
    assert made == 2 * row_bytes if row_bytes is not None else made >= 25_000_000


def test_an_imagenet_classifier_passes_its_trial(digits_document: Any) -> None:
    digits_document["inputs"] = digits_document["inputs"][:1]
    digits_document["preprocess"] = [
        {"op": "decode_image", "input": "image", "output": "p"},
        {"op": "resize", "input": "p", "shortest_edge": 40, "interpolation": "linear", "antialias": True},
        {"op": "crop", "input": "p", "center": [32, 32]},
        {"op": "normalize", "input": "p", "scale": 0.0039, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"op": "layout", "input": "p", "output": "pixels", "order": "nchw"},
    ]
    assert trial(Contract.model_validate(digits_document)) == []


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"height": 48, "rounding": "up"}, (54, 48)),
        ({"height": 48, "rounding": "down"}, (53, 48)),
        ({"height": 48}, (53, 48)),
        ({"shortest_edge": 48}, (53, 48)),
        ({"shortest_edge": 48, "rounding": "up"}, (54, 48)),
        ({"longest_edge": 51, "rounding": "nearest"}, (51, 46)),
    ],
)
def test_a_computed_side_is_rounded_as_said(apply: Any, fields: dict[str, Any], size: tuple[int, int]) -> None:
    picture = np.zeros((90, 100, 3), np.uint8)  # 48 / 90 * 100 = 53.33
    assert sizes(apply({**RESIZE, **fields}, x=[picture])["x"]) == [size]


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_rounding_up_is_that_of_whole_numbers(width: int, height: int) -> None:
    step = parse_step({**RESIZE, "height": 48, "rounding": "up"})
    assert step._size_for(width, height)[0] == -(-48 * width // height)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("free", "start"), [(0, 0), (1, 0), (2, 1), (3, 1), (5, 2), (7, 3)])
def test_a_centre_may_be_rounded_down(apply: Any, free: int, start: int) -> None:
    row = np.arange(4 + free, dtype=np.uint8).reshape(1, -1)
    out = apply({"op": "crop", "input": "x", "center": [4, 1], "rounding": "down"}, x=[row])["x"]
    assert out[0, 0, 0] == start


def test_pictures_of_different_sizes_are_normalized_one_by_one(apply: Any) -> None:
    pictures = Pictures(2, lambda row: [WIDE, TALL][row])
    out = apply({"op": "normalize", "input": "x", "mean": 127.5, "std": 127.5}, x=pictures)["x"]
    for got, picture in zip(out, (WIDE, TALL), strict=True):
        np.testing.assert_allclose(got, (picture / 127.5 - 1), atol=1e-6)
        assert got.dtype == np.float32
