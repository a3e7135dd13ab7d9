"""PNG files: the pixels are those of the IDAT chunks, all of them, or the file is refused. Pillow is the reference."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.pictures import (
    CHANNELS,
    DEPTHS,
    PNG_SIGNATURE,
    animated,
    chunk,
    exif,
    frame_control,
    ihdr,
    png,
    scanlines,
    smooth,
)
from triptych.errors import InvalidInput

DECODE = {"op": "decode_image", "input": "image"}
PICTURE = smooth(24, 16)
LINES = scanlines(PICTURE)
STREAM = zlib.compress(LINES)
WHOLE = png(PICTURE)
TEXT = chunk(b"tEXt", b"a\0b")
RED = np.full((256, 256, 3), (255, 0, 0), np.uint8)
BLUE = RED[..., ::-1]
ANIMATION = chunk(b"acTL", struct.pack(">II", 2, 0))


def decoded(apply: Any, files: Any, data: bytes) -> Any:
    return apply(DECODE, image=files(data))["image"][0]


def pillows(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I"):  # 16 bit grey
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    return np.asarray(image.convert("RGB"))


# --- every kind of PNG


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's
@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(("colour", "depth"), [(colour, depth) for colour in DEPTHS for depth in DEPTHS[colour]])
def test_every_colour_type_and_depth_is_as_in_pillow(
    apply: Any, files: Any, colour: int, depth: int, interlace: bool
) -> None:
    most = min(16, 2**depth) if colour == 3 else 2**depth
    samples = np.random.default_rng(depth).integers(0, most, (9, 13, CHANNELS[colour]))
    palette = chunk(b"PLTE", bytes(range(3 * most))) + chunk(b"tRNS", bytes(most)) if colour == 3 else b""
    data = png(samples, depth=depth, colour=colour, interlace=interlace, before=palette)
    np.testing.assert_array_equal(decoded(apply, files, data), pillows(data))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 2), (9, 8)])
@pytest.mark.parametrize("interlace", [False, True])
def test_pictures_smaller_than_a_pass_of_adam7(apply: Any, files: Any, size: tuple[int, int], interlace: bool) -> None:
    part = PICTURE[: size[0], : size[1]]
    np.testing.assert_array_equal(decoded(apply, files, png(part, interlace=interlace)), part)


SAME = {
    "zero-length IDAT chunks": png(PICTURE, idat=[b"", STREAM[:9], b"", STREAM[9:], b""]),
    "an IDAT chunk for each byte": png(PICTURE, idat=[STREAM[at : at + 1] for at in range(len(STREAM))]),
    "bytes behind the end": WHOLE + bytes(99),
    "another PNG behind the end": WHOLE + png(PICTURE[::-1]),
    "a wrong checksum in an ancillary chunk": png(PICTURE, before=TEXT[:-1] + b"x"),
    "a wrong checksum in IEND": WHOLE[:-4] + bytes(4),
    "gamma": png(PICTURE, before=chunk(b"gAMA", struct.pack(">I", 220_000))),
    "chromaticities of zero": png(PICTURE, before=chunk(b"cHRM", bytes(32))),
    "sRGB": png(PICTURE, before=chunk(b"sRGB", b"\0")),
    "a profile that is none": png(PICTURE, before=chunk(b"iCCP", b"x\0\0abc")),
    "a text that unpacks to 20 MB": png(PICTURE, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000)))),
    "text behind the pixels": png(PICTURE, after=TEXT),
    "a palette that is not used": png(PICTURE, before=chunk(b"PLTE", bytes(48))),
    "a transparent colour": png(PICTURE, before=chunk(b"tRNS", PICTURE[0, 0].astype(">u2").tobytes())),
    "more scanlines than rows": png(PICTURE, raw=LINES + LINES),
    "bytes behind the stream": png(PICTURE, idat=[STREAM + b"xyz"]),
    "an animation chunk that is none": png(PICTURE, before=chunk(b"acTL", b"abc") + chunk(b"fcTL", b"d")),
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME)
def test_what_has_no_part_in_the_pixels_changes_none(
    apply: Any, files: Any, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    np.testing.assert_array_equal(decoded(apply, files, data), PICTURE)
    written = capfd.readouterr().err
    assert not written or "Too much image data" in written or "Extra compressed data" in written


@pytest.mark.parametrize(
    ("chunks", "orientation"),
    [
        (chunk(b"eXIf", exif(6)), 6),
        (chunk(b"eXIf", exif(8, ">")), 8),
        (chunk(b"eXIf", b"Exif\0\0" + exif(6)), 6),  # JPEG's prefix, as some programs write it
        (chunk(b"eXIf", exif(6)) + chunk(b"eXIf", exif(3)), 6),  # PNG allows one
        (chunk(b"eXIf", exif(0)), 1),
        (chunk(b"eXIf", exif(9)), 1),
        (chunk(b"eXIf", exif(6)[:20]), 1),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_exif_turns_a_png_wherever_it_is(apply: Any, files: Any, chunks: bytes, orientation: int, behind: bool) -> None:
    upright = {1: PICTURE, 6: np.rot90(PICTURE, -1), 3: np.rot90(PICTURE, 2), 8: np.rot90(PICTURE)}[orientation]
    data = png(PICTURE, after=chunks) if behind else png(PICTURE, before=chunks)
    np.testing.assert_array_equal(decoded(apply, files, data), upright)


# --- animations (opencv#27074): the picture is that of IDAT


def frame(number: int, rows: int) -> bytes:
    return chunk(b"fdAT", struct.pack(">I", number) + zlib.compress(scanlines(BLUE)[: rows * 769]))


ANIMATED = {
    "a blue animation behind": animated(RED, BLUE),
    "half a blue frame behind": animated(RED, BLUE, rows=128),
    "a blue frame before": png(RED, before=ANIMATION + frame_control(256, 256, 0) + frame(1, 256)),
    "half a blue frame before": png(RED, before=ANIMATION + frame_control(256, 256, 0) + frame(1, 128)),
    "a first frame of half the rows": png(RED, before=ANIMATION + frame_control(256, 128, 0)),
    "a first frame larger than the picture": png(RED, before=ANIMATION + frame_control(512, 512, 0)),
    "a frame that is disposed to the background (opencv#29643)": png(
        RED, before=ANIMATION + frame_control(256, 256, 0, dispose=1), after=frame(1, 256)
    ),
    "controls without frames": png(RED, before=ANIMATION, after=frame_control(256, 256, 0)),
}


@pytest.mark.parametrize("data", ANIMATED.values(), ids=ANIMATED)
def test_an_animation_is_its_still_picture(apply: Any, files: Any, data: bytes) -> None:
    np.testing.assert_array_equal(decoded(apply, files, data), RED)


# --- what lacks a part

BROKEN = {
    "an animation's first frame with half the rows": (
        png(RED, raw=scanlines(RED)[: 128 * 769], before=ANIMATION + frame_control(256, 256, 0)),
        "that is damaged",
    ),
    "the same, as its control says": (
        png(RED, raw=scanlines(RED)[: 128 * 769], before=ANIMATION + frame_control(256, 128, 0)),
        "that is damaged",
    ),
    "an animation's first frame with a filter that is none (opencv#27744)": (
        png(
            RED,
            raw=scanlines(RED)[: 128 * 769] + b"\7" + bytes(127 * 769 + 768),
            before=ANIMATION + frame_control(256, 256, 0),
        ),
        "that is damaged",
    ),
    "one row too few": (png(PICTURE, raw=LINES[:-73]), "that is damaged"),
    "one byte too few": (png(PICTURE, raw=LINES[:-1]), "that is damaged"),
    "a stream that breaks off": (png(PICTURE, idat=[STREAM[: len(STREAM) // 2]]), "that is damaged"),
    "no checksum of the stream": (png(PICTURE, idat=[STREAM[:-4]]), "that is damaged"),
    "a wrong checksum of the stream": (png(PICTURE, idat=[STREAM[:-1] + b"?"]), "that is damaged"),
    "a wrong checksum of IDAT": (WHOLE[:-16] + bytes(4) + WHOLE[-12:], "that is damaged"),
    "a wrong checksum of IHDR": (WHOLE[:29] + bytes(4) + WHOLE[33:], "that is damaged"),
    "a filter that is none": (png(PICTURE, raw=b"\5" + LINES[1:]), "that is damaged"),
    "an empty stream": (png(PICTURE, idat=[b""]), "that is damaged"),
    "no IDAT": (png(PICTURE, idat=[]), "without pixels"),
    "IDAT chunks with text between": (
        png(PICTURE, before=chunk(b"IDAT", STREAM[:20]) + TEXT, idat=[STREAM[20:]]),
        "whose IDAT chunks are not consecutive",
    ),
    "no IEND": (WHOLE[:-12], "cut off after"),
    "a chunk longer than the file": (WHOLE[:33] + struct.pack(">I", 2**31 - 1) + WHOLE[37:], "cut off after"),
    "no palette": (png(PICTURE[..., :1], colour=3), "that is damaged"),
    "a second header": (png(PICTURE, before=ihdr(24, 16)), "that is damaged"),
    "a chunk before the header": (PNG_SIGNATURE + TEXT + WHOLE[8:], "without a header"),
    "a header of another length": (PNG_SIGNATURE + chunk(b"IHDR", bytes(14)) + WHOLE[33:], "without a header"),
    "Apple's variant": (PNG_SIGNATURE + chunk(b"CgBI", bytes(4)) + WHOLE[8:], "of Apple's own variant (CgBI)"),
    "a critical chunk that is not known": (png(PICTURE, before=chunk(b"ABCD")), "with a critical chunk 'ABCD'"),
    "a width of 0": (PNG_SIGNATURE + ihdr(0, 5) + WHOLE[33:], "of 0x5 pixels"),
    "a height of 0": (PNG_SIGNATURE + ihdr(5, 0) + WHOLE[33:], "of 5x0 pixels"),
    "a width of 2^31": (PNG_SIGNATURE + ihdr(2**31, 1) + WHOLE[33:], "of 2147483648x1 pixels"),
    "a depth that is none": (PNG_SIGNATURE + ihdr(24, 16, 3) + WHOLE[33:], "that is damaged"),
    "a colour type that is none": (PNG_SIGNATURE + ihdr(24, 16, 8, 5) + WHOLE[33:], "that is damaged"),
    "an interlace method that is none": (PNG_SIGNATURE + ihdr(24, 16, 8, 2, 2) + WHOLE[33:], "that is damaged"),
    "more chunks than any encoder makes": (png(PICTURE, after=chunk(b"tEXt") * 100_001), "more than 100000 chunks"),
}


@pytest.mark.parametrize(("data", "text"), BROKEN.values(), ids=BROKEN)
def test_a_png_that_lacks_a_part_is_refused(apply: Any, files: Any, data: bytes, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decoded(apply, files, data)
    assert "got row 0: a PNG file " in str(caught.value)
    assert text in str(caught.value)


def test_a_png_cut_anywhere_is_refused(apply: Any, files: Any) -> None:
    for at in range(len(WHOLE)):
        with pytest.raises(InvalidInput):
            decoded(apply, files, WHOLE[:at])


def test_the_decoder_sees_an_ordinary_file_as_it_is_and_others_without_what_it_does_not_need(
    apply: Any, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    decode = cv2.imdecode

    def watched(data: Any, flags: int) -> Any:
        seen.append(data.tobytes())
        return decode(data, flags)

    monkeypatch.setattr(cv2, "imdecode", watched)
    decoded(apply, files, WHOLE)
    decoded(apply, files, png(PICTURE, before=TEXT + chunk(b"eXIf", exif(1)), after=TEXT) + bytes(1000))
    assert seen == [WHOLE, WHOLE]
