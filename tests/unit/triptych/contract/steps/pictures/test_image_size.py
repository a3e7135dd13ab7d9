"""Sizes of pictures: of decoded files by the header, upright as EXIF says."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import pytest

from tests.unit.triptych.contract.steps.pictures.test_image_steps import DECODE, chunk, with_orientation
from triptych.contract import Environment, Scope
from triptych.contract.steps.pictures import decode_image
from triptych.contract.steps.registry import parse_step


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_file_is_that_of_its_upright_picture_and_needs_no_decoding(
    files: Any, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = with_orientation(bytes(cv2.imencode(".jpg", np.zeros((5, 9, 3), np.uint8))[1]), orientation)
    pictures = parse_step(DECODE).compile(Scope())
    env = Environment({"image": files(data)}, 1, {})
    pictures(env)
    monkeypatch.setattr(decode_image, "decode", None)
    parse_step({"op": "image_size", "input": "image", "output": "size"}).compile(Scope())(env)
    assert env["size"].tolist() == [[5, 9] if orientation >= 5 else [9, 5]]
    assert env["size"].dtype == np.int32


def test_a_turned_png_has_its_upright_size_too(files: Any, png_of: Any) -> None:
    exif = chunk(b"eXIf", b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0))
    data = png_of(2, 1, b"\0" + bytes([255, 0, 0, 0, 0, 255]), extra=exif)
    env = Environment({"image": files(data)}, 1, {})
    for step in (DECODE, {"op": "image_size", "input": "image", "output": "size"}):
        parse_step(step).compile(Scope())(env)
    assert env["size"].tolist() == [[1, 2]]


def test_cropped_pictures_and_arrays_have_sizes_too(apply: Any, files: Any) -> None:
    data = bytes(cv2.imencode(".png", np.zeros((8, 12, 3), np.uint8))[1])
    env = Environment({"image": files(data), "box": np.array([[1, 2, 6, 5]], np.int32)}, 1, {})
    size = {"op": "image_size", "input": "image"}
    for step in (DECODE, {"op": "crop", "input": "image", "box": "box"}, {**size, "output": "cropped"}):
        parse_step(step).compile(Scope())(env)
    assert env["cropped"].tolist() == [[6, 5]]
    assert apply({**size, "output": "size"}, image=np.zeros((3, 4, 7, 3)))["size"].tolist() == [[7, 4]] * 3
