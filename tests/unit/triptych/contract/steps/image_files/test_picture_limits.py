"""Work on pictures is bounded for each request, whatever its bytes are, and known before a pixel is decoded."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np
import pytest

from tests.pictures import PNG_SIGNATURE, chunk, flat_jpeg, ihdr, jpeg, png, smooth
from triptych.contract.steps.image_files.formats import other_format
from triptych.contract.steps.pictures import decode_image
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
    assert str(caught.value) == "input 'image': want at most 600 pixels to decode in one request, got 800 in 4 pictures"


@pytest.mark.usefixtures("decodes_nothing")
def test_small_files_of_many_pixels_are_refused_by_their_headers(apply: Any, files: Any) -> None:
    """3.1 KiB cost 0.40 s of CPU (2026-11-27): sixty-four such pictures would have cost 26 s."""
    bomb = PNG_SIGNATURE + ihdr(5000, 5000, 1, 0) + chunk(b"IDAT") + chunk(b"IEND")
    with pytest.raises(InvalidInput, match=r"at most 64000000 pixels to decode in one request, got 75000000 in 3 pic"):
        apply(DECODE, image=files(*[bomb] * 3))


WORK = {
    "PNG": (png(PICTURE), 200),
    "PNG of a colour": (png(PICTURE[..., :1], colour=0), 200),
    "PNG with transparency": (png(np.dstack([PICTURE, PICTURE[..., 0]]), colour=6), 266),
    "PNG of 16 bits": (png(PICTURE, depth=16), 400),
    "JPEG": (jpeg(PICTURE), 50),
    "progressive JPEG": (jpeg(PICTURE, progressive=True), 200),
    "JPEG of four colours": (jpeg(np.dstack([PICTURE, PICTURE[..., 0]])), 200),
    "JPEG in 20 scans": (flat_jpeg(20, 10, scans=20), 200),
    "JPEG in 21 scans": (flat_jpeg(20, 10, scans=21), 400),
}


@pytest.mark.parametrize("kind", WORK)
def test_a_picture_counts_by_the_work_to_decode_it(apply: Any, files: Any, kind: str) -> None:
    data, work = WORK[kind]
    assert len(apply({**DECODE, "max_request_pixels": work}, image=files(data))["image"]) == 1
    with pytest.raises(InvalidInput, match=f"at most {work - 1} pixels to decode in one request, got {work} in 1 pic"):
        apply({**DECODE, "max_request_pixels": work - 1}, image=files(data))


@pytest.mark.usefixtures("decodes_nothing")
@pytest.mark.parametrize(("size", "scans"), [(5000, 41), (4000, 90)])
def test_scans_count_as_pixels(apply: Any, files: Any, size: int, scans: int) -> None:
    """100 KiB in 100 scans cost 1.9 s (2026-11-27)."""
    data = flat_jpeg(8, 8, scans=scans)
    at = data.index(b"\xff\xc2") + 5
    data = data[:at] + size.to_bytes(2, "big") * 2 + data[at + 4 :]
    with pytest.raises(InvalidInput, match=rf"to decode in one request, got {-(-scans // 20) * size * size} in 1"):
        apply(DECODE, image=files(data))


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


PNG, JPEG = png(PICTURE), jpeg(PICTURE)
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
    (b"data:image/png;base64," + base64.b64encode(PNG), "data URL"),
    (base64.b64encode(PNG), "PNG in base64"),
    (base64.b64encode(JPEG), "JPEG in base64"),
    (PNG.decode(errors="replace").encode(), "PNG converted as text"),
    (PNG.decode("latin-1").encode(), "PNG converted as text"),
    (JPEG.decode(errors="replace").encode(), "JPEG converted as text"),
    (JPEG.decode("latin-1").encode(), "JPEG converted as text"),
    (PNG.replace(b"\r\n", b"\n"), "PNG with converted line ends"),
    (PNG.replace(b"\n", b"\r\n"), "PNG with converted line ends"),
    (gzip.compress(PNG), "gzip"),
    (b"PK\3\4" + bytes(60), "ZIP"),
    (b"\x93NUMPY\1\0" + bytes(60), "NumPy"),
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
