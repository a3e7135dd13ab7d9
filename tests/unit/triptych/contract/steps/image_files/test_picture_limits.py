"""Work on pictures is bounded for each request, whatever its bytes are, and known before a pixel is decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.pictures import PNG_SIGNATURE, chunk, flat_jpeg, ihdr, jpeg, png, smooth
from triptych.contract.steps import decode_image
from triptych.contract.steps.image_files.formats import other_format
from triptych.errors import InvalidInput

DECODE = {"op": "decode_image", "input": "image"}
PICTURE = smooth(20, 10)  # 200 pixels


@pytest.fixture
def decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_image, "decode", lambda *_: pytest.fail("decoded"))


def test_all_pictures_of_a_request_count_together(apply: Any, files: Any) -> None:
    step = {**DECODE, "max_request_pixels": 600}
    assert len(apply(step, image=files(png(PICTURE), jpeg(PICTURE), png(PICTURE)))["image"]) == 3
    with pytest.raises(InvalidInput) as caught:
        apply(step, image=files(*[png(PICTURE)] * 4))
    assert str(caught.value) == "input 'image': want at most 600 pixels in one request, got 800 in 4 pictures"


@pytest.mark.usefixtures("decodes_nothing")
def test_small_files_of_many_pixels_are_refused_by_their_headers(apply: Any, files: Any) -> None:
    """3.1 KiB cost 0.40 s of CPU (2026-11-27): sixty-four such pictures would have cost 26 s."""
    bomb = PNG_SIGNATURE + ihdr(5000, 5000, 1, 0) + chunk(b"IDAT") + chunk(b"IEND")
    with pytest.raises(InvalidInput, match=r"want at most 250000000 pixels in one request, got 1600000000 in 64"):
        apply(DECODE, image=files(*[bomb] * 64))


@pytest.mark.usefixtures("decodes_nothing")
@pytest.mark.parametrize(("size", "scans"), [(5000, 21), (3000, 60), (2000, 100)])
def test_scans_count_as_pixels(apply: Any, files: Any, size: int, scans: int) -> None:
    """100 KiB in 100 scans cost 1.9 s (2026-11-27)."""
    data = flat_jpeg(8, 8, scans=scans)
    at = data.index(b"\xff\xc2") + 5
    data = data[:at] + size.to_bytes(2, "big") * 2 + data[at + 4 :]
    with pytest.raises(InvalidInput, match=rf"counted once for every 20 scans, .* {size}x{size} pixels in {scans} sc"):
        apply({**DECODE, "max_pixels": 10_000_000 if size < 5000 else 25_000_000}, image=files(data))


@pytest.mark.parametrize("scans", [1, 2, 20])
def test_as_many_scans_as_encoders_make_count_once(apply: Any, files: Any, scans: int) -> None:
    step = {**DECODE, "max_pixels": 200, "max_request_pixels": 200}
    assert (apply(step, image=files(flat_jpeg(20, 10, scans=scans)))["image"][0] == 128).all()


def test_scans_count_for_the_request_too(apply: Any, files: Any) -> None:
    step = {**DECODE, "max_pixels": 1000, "max_request_pixels": 1000}
    many = flat_jpeg(20, 10, scans=41)  # three times 200
    apply(step, image=files(many, jpeg(PICTURE), jpeg(PICTURE)))
    with pytest.raises(InvalidInput, match="got 1200 in 2 pictures"):
        apply(step, image=files(many, many))


@pytest.mark.usefixtures("decodes_nothing")
def test_more_scans_than_any_encoder_makes_are_refused_by_their_number(apply: Any, files: Any) -> None:
    with pytest.raises(InvalidInput, match="a JPEG file of more than 100 scans"):
        apply(DECODE, image=files(flat_jpeg(8, 8, scans=101)))


@pytest.mark.usefixtures("decodes_nothing")
def test_a_fault_of_the_last_header_is_reported_before_a_pixel_is_decoded(apply: Any, files: Any) -> None:
    with pytest.raises(InvalidInput, match="row 2: 3 bytes that are neither"):
        apply(DECODE, image=files(png(PICTURE), jpeg(PICTURE), b"abc"))


def test_a_jpeg_of_four_colours_is_unpacked_beside_its_pixels(files: Any) -> None:
    step = decode_image.DecodeImage(op="decode_image", input="image")
    inks = jpeg(np.dstack([PICTURE, PICTURE[..., 0]]))
    assert step.unpacked_bytes({"image": files(inks)}) == (4 + 3) * 200


OTHERS = [
    (b"GIF89a" + bytes(20), "GIF"),
    (b"BM" + bytes(60), "BMP"),
    (b"II*\0" + bytes(60), "TIFF"),
    (b"MM\0*" + bytes(60), "TIFF"),
    (b"II+\0" + bytes(60), "BigTIFF"),
    (b"RIFF\x24\0\0\0WEBPVP8L" + bytes(60), "WebP"),
    (b"\0\0\0\x1cftypavif" + bytes(60), "AVIF"),
    (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC"),
    (b"\0\0\0\x18ftypmif1" + bytes(60), "HEIF"),
    (b"\0\0\0\x18ftypmp42" + bytes(60), "MP4 or QuickTime"),
    (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "JPEG 2000"),
    (b"\xff\x4f\xff\x51" + bytes(60), "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL"),
    (b"\xff\x0a" + bytes(60), "JPEG XL"),
    (b"\x8aMNG\r\n\x1a\n" + bytes(60), "MNG"),
    (b"v/1\x01" + bytes(60), "OpenEXR"),
    (b"#?RADIANCE\n" + bytes(60), "Radiance HDR"),
    (b"P6\n2 2\n255\n" + bytes(12), "PNM"),
    (b"8BPS\0\1" + bytes(60), "Photoshop"),
    (b"\0\0\1\0\1\0" + bytes(60), "ICO"),
    (b"%PDF-1.7\n", "PDF"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
]


@pytest.mark.usefixtures("decodes_nothing")
@pytest.mark.parametrize(("data", "name"), OTHERS)
def test_a_known_format_that_is_not_served_is_refused_by_name(apply: Any, files: Any, data: bytes, name: str) -> None:
    """The file is refused before the decoder, since OpenCV would read most of these."""
    with pytest.raises(InvalidInput) as caught:
        apply(DECODE, image=files(data))
    want = "input 'image': want a PNG or JPEG file, got row 0: a file of the format "
    assert str(caught.value) == want + name


@pytest.mark.parametrize("data", [b"", b"P", b"P9\n", b"hello", b"\xff\xd8", b"\x89PNG\r\n\x1a"])
def test_other_bytes_have_no_name(data: bytes) -> None:
    assert other_format(data) is None
