"""Pictures: decoded and refused files, and the result of each step."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.contract import Scope
from triptych.contract.steps.image_files.decoding import header_of, work_of
from triptych.contract.steps.image_files.formats import BrokenImage, ImageHeader, format_of
from triptych.contract.steps.pictures.decode_image import DecodeImage
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.contract.steps.registry import parse_step
from triptych.errors import ContractViolation, InvalidInput

RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 256, (12, 20, 3), np.uint8)  # RGB
DECODE = {"op": "decode_image", "input": "image"}


def png(picture: Any = PICTURE) -> bytes:
    return bytes(cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)[1])


def jpeg(picture: Any = PICTURE, quality: int = 95) -> bytes:
    return bytes(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def with_orientation(data: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment that holds the one tag 0x0112."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# --- decode_image: what it accepts


def test_a_png_comes_out_as_the_rgb_pixels_that_went_in(apply: Any, files: Any) -> None:
    env = apply({**DECODE, "output": "picture"}, image=files(png()))
    assert env["picture"][0].dtype == np.uint8
    np.testing.assert_array_equal(env["picture"][0], PICTURE)


def test_a_jpeg_comes_out_in_rgb_order(apply: Any, files: Any) -> None:
    red = np.full((16, 16, 3), (250, 10, 20), np.uint8)
    decoded = apply(DECODE, image=files(jpeg(red)))["image"][0]
    assert np.abs(decoded.astype(int) - (250, 10, 20)).max() < 6


def test_pictures_of_different_sizes_stay_a_list_in_order(apply: Any, files: Any) -> None:
    decoded = apply(DECODE, image=files(png(PICTURE), png(PICTURE[:5, :9])))["image"]
    assert [p.shape for p in decoded] == [(12, 20, 3), (5, 9, 3)]


# Where the upright picture's pixels are in the stored one, by EXIF orientation (TIFF 6.0, tag 274).
UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_upright_for_every_exif_orientation(apply: Any, files: Any, orientation: int) -> None:
    quarters = np.zeros((16, 32, 3), np.uint8)
    quarters[:8, :16], quarters[:8, 16:], quarters[8:, :16] = (240, 0, 0), (0, 240, 0), (0, 0, 240)
    data = jpeg(quarters, 100)
    plain = apply(DECODE, image=files(data))["image"][0]
    turned = apply(DECODE, image=files(with_orientation(data, orientation)))["image"][0]
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](plain))


def test_a_png_is_turned_upright_too(apply: Any, files: Any, png_of: Any) -> None:
    exif = chunk(b"eXIf", b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0))
    data = png_of(2, 1, b"\0" + bytes([255, 0, 0, 0, 0, 255]), extra=exif)
    assert apply(DECODE, image=files(data))["image"][0].tolist() == [[[255, 0, 0]], [[0, 0, 255]]]


def test_a_progressive_jpeg_is_a_jpeg(apply: Any, files: Any) -> None:
    encoded = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    assert apply(DECODE, image=files(bytes(encoded)))["image"][0].shape == (12, 20, 3)


def test_a_16_bit_png_becomes_8_bit(apply: Any, files: Any) -> None:
    deep = PICTURE.astype(np.uint16) * 257
    data = bytes(cv2.imencode(".png", deep[..., ::-1])[1])
    np.testing.assert_array_equal(apply(DECODE, image=files(data))["image"][0], PICTURE)


def test_a_grey_png_becomes_rgb(apply: Any, files: Any) -> None:
    decoded = apply(DECODE, image=files(png(PICTURE[..., 0])))["image"][0]
    np.testing.assert_array_equal(decoded, np.repeat(PICTURE[..., :1], 3, axis=2))


def test_transparency_is_dropped(apply: Any, files: Any) -> None:
    clear = np.dstack([PICTURE[..., ::-1], np.zeros((12, 20), np.uint8)])
    decoded = apply(DECODE, image=files(bytes(cv2.imencode(".png", clear)[1])))["image"][0]
    np.testing.assert_array_equal(decoded, PICTURE)


def test_a_palette_png_becomes_rgb(apply: Any, files: Any, png_of: Any) -> None:
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    data = png_of(2, 1, b"\0\x00\x01", colour=3, extra=palette)
    assert apply(DECODE, image=files(data))["image"][0].tolist() == [[[255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"\r\n", b"a trailer that a camera wrote"])
@pytest.mark.parametrize("encode", [png, jpeg])
def test_bytes_after_the_end_marker_are_ignored(apply: Any, files: Any, encode: Any, tail: bytes) -> None:
    assert apply(DECODE, image=files(encode() + tail))["image"][0].shape == (12, 20, 3)


# --- decode_image: what it refuses

REFUSED = [
    (b"", "want a PNG or JPEG file, got row 0: 0 bytes that are neither"),
    (b"seventeen bytes!!", "want a PNG or JPEG file, got row 0: 17 bytes that are neither"),
    (png()[:20], "a PNG file cut off after 20 bytes"),
    (png()[:-1], "a PNG file cut off after"),
    (png()[:-12], "a PNG file cut off after"),
    (png()[:200], "a PNG file cut off after 200 bytes"),
    (jpeg()[:-2], "a JPEG file cut off after"),
    (jpeg()[: len(jpeg()) // 2], "a JPEG file cut off after"),
    (jpeg()[:30], "a JPEG file cut off after 30 bytes"),
    (b"\xff\xd8\xff", "a JPEG file cut off after 3 bytes"),
    (b"\xff\xd8\xff\xe0\x00\x04abXX" + bytes(40), "a JPEG file cut off after 50 bytes"),
    (png()[:60] + b"????" + png()[64:], "a PNG file of"),
]


@pytest.mark.parametrize(("data", "text"), REFUSED)
def test_what_is_no_whole_picture_is_refused_with_the_reason(
    apply: Any, files: Any, data: bytes, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        apply(DECODE, image=files(data))
    assert "input 'image': want a PNG or JPEG file, got row 0: " in str(caught.value)
    assert text in str(caught.value)
    assert "WARN" not in capfd.readouterr().err


def test_the_message_names_the_row(apply: Any, files: Any) -> None:
    with pytest.raises(InvalidInput, match=r"got row 2: 3 bytes that are neither"):
        apply(DECODE, image=files(png(), jpeg(), b"abc"))


def test_a_format_that_the_contract_leaves_out_is_refused(apply: Any, files: Any) -> None:
    with pytest.raises(InvalidInput, match=r"want a PNG file, got row 0: a JPEG file"):
        apply({**DECODE, "formats": ["png"]}, image=files(jpeg()))


def test_a_huge_png_is_refused_by_its_header_alone(
    apply: Any, files: Any, png_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InvalidInput, match=r"want at most 25000000 pixels, got row 0: 65000x65000 pixels"):
        apply(DECODE, image=files(png_of(65000, 65000, b"")))


def test_a_huge_jpeg_is_refused_by_its_header_alone(apply: Any, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65000, 60000)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InvalidInput, match=r"got row 0: 60000x65000 pixels"):
        apply(DECODE, image=files(bytes(data)))


def test_the_bytes_of_the_pixels_are_known_from_the_headers(files: Any, png_of: Any) -> None:
    step = DecodeImage(op="decode_image", input="image", max_pixels=20 * 20)
    unpacked = step.unpacked_bytes
    assert unpacked({"image": files(png(), jpeg(PICTURE[:5, :9]))}) == 3 * (20 * 12 + 9 * 5)
    assert unpacked({"image": files(png(np.zeros((20, 21, 3), np.uint8)))}) == 0  # refused, and never unpacked
    assert unpacked({"image": files(b"", b"hello", png()[:20], jpeg()[:30])}) == 0
    assert unpacked({"image": np.ones((2, 2), np.float32)}) == unpacked({}) == 0
    only_jpeg = DecodeImage(op="decode_image", input="image", formats=("jpeg",))
    assert only_jpeg.unpacked_bytes({"image": files(png())}) == 0


def test_pictures_are_a_sequence_as_a_list_is() -> None:
    pictures = Pictures(4, lambda row: np.full((1, 1), row))
    assert [int(picture[0, 0]) for picture in pictures] == [0, 1, 2, 3]
    assert int(pictures[-1][0, 0]) == 3
    assert [int(picture[0, 0]) for picture in pictures[1:]] == [1, 2, 3]
    assert [int(picture[0, 0]) for picture in pictures[::-2][1:]] == [1]
    with pytest.raises(IndexError):
        pictures[4]


def test_exactly_the_most_pixels_are_accepted(apply: Any, files: Any) -> None:
    apply({**DECODE, "max_pixels": 240}, image=files(png()))
    with pytest.raises(InvalidInput, match="at most 239 pixels"):
        apply({**DECODE, "max_pixels": 239}, image=files(png()))


def test_a_picture_without_pixels_is_refused(apply: Any, files: Any, png_of: Any) -> None:
    with pytest.raises(InvalidInput, match="a PNG file of 0x5 pixels"):
        apply(DECODE, image=files(png_of(0, 5, b"")))


def test_a_jpeg_of_thousands_of_scans_is_refused(apply: Any, files: Any) -> None:
    data = jpeg()
    with pytest.raises(InvalidInput, match="more than 100 scans"):
        apply(DECODE, image=files(data[:-2] + b"\xff\xda\x00\x02" * 200 + data[-2:]))


def test_a_thumbnail_does_not_pass_for_the_end_of_a_cut_jpeg() -> None:
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(jpeg()) + 2) + jpeg()
    data = jpeg()[:2] + thumbnail + jpeg()[2:-40]
    with pytest.raises(BrokenImage, match="cut off"):
        work_of(data, "jpeg", ImageHeader(8, 8))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_header_reader(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        kind = format_of(start + data)
        if kind is None:
            continue
        try:
            work_of(start + data, kind, header_of(start + data, kind))
        except BrokenImage as error:
            assert str(error)  # noqa: PT017 - raising is allowed, not required


@settings(deadline=None)
@given(st.integers(0, len(jpeg()) - 1), st.integers(0, 255))
def test_a_changed_byte_ends_in_a_picture_or_in_invalid_input(at: int, value: int) -> None:
    for whole in (jpeg(), png()):
        data = bytearray(whole)
        data[at % len(data)] = value
        files = np.empty(1, np.object_)
        files[0] = bytes(data)
        step = DecodeImage.model_validate({**DECODE, "max_pixels": 10_000})
        try:
            assert step.function(Scope())(files)[0].ndim == 3
        except InvalidInput as error:
            assert error.name == "image"  # noqa: PT017 - raising is allowed, not required


# --- crop


def box(*corners: list[int]) -> np.ndarray[Any, Any]:
    return np.array(corners, np.int32)


CROP = {"op": "crop", "input": "picture", "box": "box"}


def test_crop_cuts_x_y_width_height(apply: Any) -> None:
    cut = apply(CROP, picture=[PICTURE, PICTURE], box=box([2, 1, 5, 4], [0, 0, 20, 12]))["picture"]
    np.testing.assert_array_equal(cut[0], PICTURE[1:5, 2:7])
    np.testing.assert_array_equal(cut[1], PICTURE)


def test_crop_does_nothing_when_the_box_was_left_out(apply: Any) -> None:
    assert apply({**CROP, "output": "cut"}, picture=[PICTURE])["cut"][0] is PICTURE


@pytest.mark.parametrize(
    "corners",
    [
        [-1, 0, 5, 5], [0, -1, 5, 5], [0, 0, 0, 5], [0, 0, 5, 0], [0, 0, -5, 5],
        [0, 0, 21, 5], [0, 0, 5, 13], [19, 0, 2, 1], [2**31 - 1, 0, 2**31 - 1, 1],
    ],
)  # fmt: skip
def test_a_box_that_is_not_within_the_picture_is_refused(apply: Any, corners: list[int]) -> None:
    with pytest.raises(InvalidInput) as caught:
        apply(CROP, picture=[PICTURE, PICTURE], box=box([0, 0, 1, 1], corners))
    assert "input 'box': want x, y >= 0" in str(caught.value)
    assert f"got row 1: {', '.join(map(str, corners))} in a picture of 20x12 pixels" in str(caught.value)


# --- colour, size, numbers, order


def test_pure_colours_have_their_hsv_and_lab_and_grey(apply: Any) -> None:
    picture = np.array([[[255, 0, 0], [0, 255, 0], [255, 255, 255]]], np.uint8)

    def converted(target: str) -> Any:
        step = {"op": "convert_color", "input": "p", "source": "rgb", "target": target}
        return apply(step, p=[picture])["p"][0].tolist()

    assert converted("hsv") == [[[0, 255, 255], [60, 255, 255], [0, 0, 255]]]
    assert converted("gray") == [[76, 150, 255]]
    assert converted("bgr") == [[[0, 0, 255], [0, 255, 0], [255, 255, 255]]]
    assert converted("lab") == [[[136, 208, 195], [224, 42, 211], [255, 128, 128]]]


def test_colour_of_an_array_stays_an_array(apply: Any) -> None:
    step = {"op": "convert_color", "input": "p", "source": "rgb", "target": "gray"}
    assert apply(step, p=np.stack([PICTURE, PICTURE]))["p"].shape == (2, 12, 20)


def test_resize_makes_one_array_of_pictures_of_any_size(apply: Any) -> None:
    step = {"op": "resize", "input": "p", "width": 4, "height": 3}
    out = apply(step, p=[PICTURE, PICTURE[:3, :4]])["p"]
    assert out.shape == (2, 3, 4, 3)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out[1], PICTURE[:3, :4])
    blocks = PICTURE.reshape(3, 4, 4, 5, 3).mean(axis=(1, 3))  # area: the mean of each 4x5 block
    assert np.abs(out[0] - blocks).max() <= 1


@pytest.mark.parametrize("other", [PICTURE[..., 0], PICTURE.astype(np.float32)])
def test_resize_refuses_pictures_of_different_kinds(apply: Any, other: Any) -> None:
    """OpenCV would not write into the row of such a picture, and the answer would be zeros."""
    step = {"op": "resize", "input": "p", "width": 4, "height": 3}
    with pytest.raises(ContractViolation, match=r"want pictures of one kind, got .* after uint8\[height,width,3\]"):
        apply(step, p=[PICTURE, other])


def test_resize_keeps_grey_pictures_two_dimensional(apply: Any) -> None:
    step = {"op": "resize", "input": "p", "width": 4, "height": 3, "interpolation": "nearest"}
    assert apply(step, p=[PICTURE[..., 0]])["p"].shape == (1, 3, 4)


def test_normalize_scales_each_channel_in_fp32(apply: Any) -> None:
    step = {"op": "normalize", "input": "p", "scale": [1, 2, 0.5], "offset": [0, -1, 3]}
    out = apply(step, p=np.array([[[[10, 20, 30]]]], np.uint8))["p"]
    assert out.dtype == np.float32
    assert out.tolist() == [[[[10.0, 39.0, 18.0]]]]


def test_normalize_takes_one_number_for_all(apply: Any) -> None:
    step = {"op": "normalize", "input": "p", "scale": 0.5}
    assert apply(step, p=np.array([[2.0, 4.0]], np.float32))["p"].tolist() == [[1.0, 2.0]]


def test_layout_puts_channels_first_in_contiguous_fp32(apply: Any) -> None:
    out = apply({"op": "layout", "input": "p", "order": "nchw"}, p=PICTURE[np.newaxis])["p"]
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out[0, 1], PICTURE[..., 1])


def test_layout_gives_grey_pictures_their_one_channel(apply: Any) -> None:
    step = {"op": "layout", "input": "p", "order": "nchw", "datatype": "UINT8"}
    out = apply(step, p=PICTURE[np.newaxis, ..., 0])["p"]
    assert out.shape == (1, 1, 12, 20)
    assert out.dtype == np.uint8


def test_opencv_starts_no_threads_of_its_own() -> None:
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize("fields", [{"scale": 2.0}, {"mean": 1.0, "std": 2.0}, {"scale": 0.5, "offset": [1.0, 2.0]}])
def test_normalize_is_the_same_step_with_its_defaults_written_out(fields: dict[str, Any]) -> None:
    step = parse_step({"op": "normalize", "input": "x", **fields})
    assert parse_step(step.model_dump(mode="json", by_alias=True, exclude_none=True)) == step
