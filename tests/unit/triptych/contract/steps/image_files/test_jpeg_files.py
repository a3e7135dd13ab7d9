"""JPEG files: every pixel comes from the file, or the file is refused. Pillow is the reference."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.pictures import behind_start, exif, flat_jpeg, jpeg, segment, smooth, with_exif
from triptych.contract.steps.image_files.decoding import MAX_PADDING_BYTES
from triptych.errors import InvalidInput

DECODE = {"op": "decode_image", "input": "image"}
PICTURE = smooth(67, 45)
PLAIN = jpeg(PICTURE)
PROGRESSIVE = jpeg(PICTURE, progressive=True)
INKS = np.dstack([PICTURE, PICTURE[..., 0]])
SCAN = PLAIN.index(b"\xff\xda")
MIDDLE = (SCAN + len(PLAIN)) // 2


def decoded(apply: Any, files: Any, data: bytes) -> Any:
    return apply(DECODE, image=files(data))["image"][0]


def pillows(data: bytes) -> Any:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe\0d\0\0\0\0" + bytes([transform]))


def without(data: bytes, marker: int) -> bytes:
    """The JPEG without its first segment of a kind."""
    at = data.index(bytes([0xFF, marker]))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def frame_changed(data: bytes, at: int, value: bytes) -> bytes:
    """Bytes of the first frame's header replaced; 0 is its precision."""
    start = next(data.index(bytes([0xFF, marker, 0])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker, 0]) in data)
    return data[: start + 4 + at] + value + data[start + 4 + at + len(value) :]


# --- every kind of JPEG

KINDS = {
    **{f"chroma {name}": jpeg(PICTURE, subsampling=name) for name in ("4:4:4", "4:2:2", "4:2:0")},
    "progressive": PROGRESSIVE,
    "progressive grey": jpeg(PICTURE[..., 0], progressive=True),
    "grey": jpeg(PICTURE[..., 0]),
    "RGB without YCbCr": jpeg(PICTURE, keep_rgb=True),
    "no Huffman tables, as in motion JPEG": without(without(without(without(PLAIN, 0xC4), 0xC4), 0xC4), 0xC4),
    "optimised tables": jpeg(PICTURE, optimize=True),
    "restarts in each row": jpeg(PICTURE, restart_marker_rows=1),
    "restarts in each block": jpeg(PICTURE, restart_marker_blocks=1),
    "CMYK": jpeg(INKS),
    "CMYK without Adobe's marker": without(jpeg(INKS), 0xEE),
    "YCCK": without(jpeg(INKS), 0xEE).replace(b"\xff\xd8", b"\xff\xd8" + adobe(2), 1),
    **{f"Adobe's transform {number}": behind_start(without(PLAIN, 0xE0), adobe(number)) for number in (0, 1, 2, 5)},
    **{f"JFIF and Adobe's {number}": behind_start(PLAIN, adobe(number)) for number in (0, 5)},
    "no JFIF marker": without(PLAIN, 0xE0),
    "JFIF 3.1": PLAIN.replace(b"JFIF\0\1", b"JFIF\0\3", 1),
    "a profile": jpeg(PICTURE, icc_profile=bytes(70_000)),
    "a profile with a part missing": behind_start(PLAIN, segment(0xE2, b"ICC_PROFILE\0\1\2abc")),
    "a comment": jpeg(PICTURE, comment=b"hello"),
    "a thumbnail": behind_start(PLAIN, segment(0xE1, b"Exif\0\0" + exif(1) + jpeg(PICTURE[:8, :8]))),
    "fill bytes": behind_start(PLAIN, b"\xff\xff\xff"),
    "bytes between segments": PLAIN[:20] + b"\0\0garbage" + PLAIN[20:],
    "padding before the end": PLAIN[:-2] + bytes(40) + PLAIN[-2:],
    "a few stray bytes before the end": PLAIN[:-2] + b"garbage" + PLAIN[-2:],
    "stray bytes in both places": PLAIN[:20] + b"\0\0ab" + PLAIN[20:-2] + bytes(9) + PLAIN[-2:],
    "wrong coefficients in a sequential scan (libjpeg-turbo#778)": PLAIN[: SCAN + 11] + b"\0\0\0" + PLAIN[SCAN + 14 :],
    "sampling 2x2 of the only colour": frame_changed(jpeg(PICTURE[..., 0]), 7, b"\x22"),
    **{
        f"chroma {factors}": flat_jpeg(40, 24, factors)
        for factors in (
            (0x41, 0x11, 0x11),
            (0x12, 0x11, 0x11),
            (0x14, 0x11, 0x11),
            (0x22, 0x21, 0x21),
            (0x22, 0x12, 0x12),  # 4:2:2 in other words (libjpeg-turbo#92)
            (0x21, 0x21, 0x21),  # 4:4:4 in other words (libjpeg-turbo#323)
        )
    },
    "four colours, two of them halved (libjpeg-turbo#236)": flat_jpeg(40, 24, (0x22, 0x11, 0x11, 0x22)),
    "arithmetic coding": flat_jpeg(40, 24, frame=0xC9),
    **{f"{width}x{height}": jpeg(PICTURE[:height, :width]) for width, height in ((1, 1), (1, 45), (67, 1), (17, 3))},
}


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_every_kind_of_jpeg_is_as_in_pillow(
    apply: Any, files: Any, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    np.testing.assert_array_equal(decoded(apply, files, data), pillows(data))
    assert not capfd.readouterr().err


TAILS = {
    "a video, as phones append it": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40 + b"MotionPhoto_Data",
    "a video with 500 scan markers in it": b"\xff\xda\0\2" * 500,
    "a video that has the end of a JPEG in it": b"\xff\xd9" * 500,
    "a second picture, as stereo cameras append it": jpeg(PICTURE[::-1]),
    "a second picture cut off": jpeg(PICTURE[::-1])[:300],
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("data", [PLAIN, PROGRESSIVE], ids=["plain", "progressive"])
def test_bytes_behind_the_end_do_not_count(apply: Any, files: Any, data: bytes, tail: bytes) -> None:
    """libjxl#3502 and libjxl#3110: motion photos and files of several pictures."""
    np.testing.assert_array_equal(decoded(apply, files, data + tail), decoded(apply, files, data))


# --- orientation

TURNED = np.rot90(PICTURE, -1)  # as orientation 6 wants it


@pytest.mark.parametrize(
    ("data", "turned"),
    [
        (with_exif(PLAIN, exif(6)), True),
        (with_exif(PLAIN, exif(6, ">")), True),
        (with_exif(PLAIN, exif(6, kind=4)), True),  # a LONG
        (with_exif(with_exif(PLAIN, exif(3)), exif(6)), True),  # the first of two segments
        (behind_start(PLAIN, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")), False),
        (behind_start(with_exif(PLAIN, exif(6)), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")), True),
        (behind_start(with_exif(PLAIN, exif(6)), segment(0xE2, bytes(9))), True),
        (with_exif(PLAIN, exif(0)), False),
        (with_exif(PLAIN, exif(9)), False),
        (with_exif(PLAIN, exif(6)[:20]), False),  # breaks off within the entry
        (with_exif(PLAIN, exif(6)[:8] + b"\xff\xff" + exif(6)[10:]), True),  # says 65,535 entries
        (with_exif(PLAIN, exif(6)[:4] + b"\xff\xff\xff\xff" + exif(6)[8:]), False),
        (with_exif(PLAIN, exif(6)[:14] + struct.pack("<I", 20) + exif(6)[18:]), False),  # 20 orientations
        (with_exif(PLAIN, b"XX*\0" + exif(6)[4:]), False),
        (with_exif(PLAIN, b""), False),
        (PLAIN + segment(0xE1, b"Exif\0\0" + exif(6)), False),  # behind the end
        (PLAIN[:-2] + segment(0xE1, b"Exif\0\0" + exif(6)) + PLAIN[-2:], False),  # behind the pixels
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about some of them
def test_orientation_is_read_wherever_it_may_be(apply: Any, files: Any, data: bytes, turned: bool) -> None:
    plain = decoded(apply, files, PLAIN)
    np.testing.assert_array_equal(decoded(apply, files, data), np.rot90(plain, -1) if turned else plain)


def test_colours_of_inks_are_right(apply: Any, files: Any) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 1:3] = 255  # magenta and yellow
    assert np.abs(decoded(apply, files, jpeg(inks))[8, 8].astype(int) - (255, 0, 0)).max() < 3


# --- what lacks a part, and what is not served

RESTARTS = jpeg(PICTURE, restart_marker_blocks=1)
RESTART = RESTARTS.index(b"\xff\xd3")
BROKEN = {
    "no end": (PLAIN[:-2], "cut off after"),
    "half of the pixels": (PLAIN[:MIDDLE], "cut off after"),
    "half of the pixels, and an end": (PLAIN[:MIDDLE] + b"\xff\xd9", "that is damaged"),
    "half of the scans": (PROGRESSIVE[: len(PROGRESSIVE) // 2] + b"\xff\xd9", "that is damaged"),
    "pixels that are missing in the middle": (PLAIN[: MIDDLE - 100] + PLAIN[MIDDLE:], "that is damaged"),
    "a restart that is missing": (RESTARTS[:RESTART] + RESTARTS[RESTARTS.index(b"\xff\xd4") :], "that is damaged"),
    "more rows than pixels": (frame_changed(PLAIN, 1, struct.pack(">H", 90)), "that is damaged"),
    "fewer rows than pixels": (frame_changed(PLAIN, 1, struct.pack(">H", 20)), "that is damaged"),
    "many stray bytes before the end": (
        PLAIN[:-2] + b"garbage" * MAX_PADDING_BYTES + PLAIN[-2:],
        "that is damaged",
    ),
    "a height behind the pixels (DNL)": (frame_changed(PLAIN, 1, b"\0\0"), "without a height in its header"),
    "a width of 0": (frame_changed(PLAIN, 3, b"\0\0"), "of 0x45 pixels"),
    "12 bits": (frame_changed(PLAIN, 0, b"\x0c"), "of 12 bits for each colour, not 8"),
    "two colours": (flat_jpeg(40, 24, (0x11, 0x11)), "of 2 colours, not 1, 3 or 4"),
    "coding without loss": (PLAIN.replace(b"\xff\xc0\0", b"\xff\xc3\0", 1), "coded without loss"),
    "hierarchical coding": (PLAIN.replace(b"\xff\xc0\0", b"\xff\xc5\0", 1), "coded hierarchically"),
    "chroma 4:1:0 (libjpeg-turbo#436)": (flat_jpeg(40, 24, (0x42, 0x11, 0x11)), "of a rare chroma subsampling"),
    "pixels before a header": (without(PLAIN, 0xC0), "without a header"),
    "an end before pixels": (PLAIN[:20] + b"\xff\xd9" + PLAIN[20:], "without pixels"),
    "a second start": (behind_start(PLAIN, b"\xff\xd8"), "with a second start marker"),
    "more segments than any camera writes": (behind_start(PLAIN, segment(0xE5) * 10_001), "more than 10000 segments"),
    "more segments between scans": (
        PROGRESSIVE[:-2] + segment(0xE5) * 10_001 + PROGRESSIVE[-2:],
        "more than 10000 segments",
    ),
}


@pytest.mark.parametrize(("data", "text"), BROKEN.values(), ids=BROKEN)
def test_a_jpeg_that_lacks_a_part_is_refused(
    apply: Any, files: Any, data: bytes, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        decoded(apply, files, data)
    assert "got row 0: a JPEG file " in str(caught.value)
    assert text in str(caught.value)
    assert not capfd.readouterr().err


@pytest.mark.parametrize("data", [PLAIN, PROGRESSIVE], ids=["plain", "progressive"])
def test_a_jpeg_cut_anywhere_is_refused(apply: Any, files: Any, data: bytes) -> None:
    for at in range(0, len(data), 3):
        with pytest.raises(InvalidInput):
            decoded(apply, files, data[:at])


def test_a_jpeg_cut_anywhere_is_refused_with_an_end_marker_too(apply: Any, files: Any) -> None:
    for at in range(0, len(PLAIN) - 16, 3):  # a few bits of the last block may be padding
        with pytest.raises(InvalidInput):
            decoded(apply, files, PLAIN[:at] + b"\xff\xd9")
