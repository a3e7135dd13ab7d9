"""Decoder of PNG and JPEG files. A file is refused unless every pixel comes from it."""

from __future__ import annotations

import os
import re
from typing import Final

import cv2
import numpy as np
import simplejpeg

from triptych.contract.steps.image_files import jpeg, png
from triptych.contract.steps.image_files.exif import FIRST_TURNED, orientation_of, upright
from triptych.contract.steps.image_files.formats import BrokenImage, Format, ImageHeader, cut_off
from triptych.datatypes import Array

# The stage's thread pool has a thread for each core; OpenCV's own threads would compete with them.
cv2.setNumThreads(1)
# The caller gets an error for a broken picture; OpenCV's warnings about it would let callers fill the log.
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# Non-zero bytes that a camera may leave between the last pixel and the end marker; more of them are damage.
MAX_PADDING_BYTES: Final = 16
_ROWS_AT_ONCE: Final = 16

# Units of work, so that equal work takes about equal time (docs/decisions/2026-11-29-work-of-pictures.md).
_PNG_BITS: Final = 24
_SCANS_AT_ONCE: Final = 20

# libjpeg's warnings that concern no pixel: about headers, and about bytes between the last pixel and the end marker.
_IN_HEADER: Final = re.compile(
    "unknown JFIF revision|Unknown Adobe color transform|bad ICC marker|Invalid SOS parameters for sequential JPEG|"
    "extraneous bytes before marker 0x(?!d[0-79])"
)
_BEFORE_END: Final = re.compile("([0-9]+) extraneous bytes before marker 0xd9")
_CUT_OFF: Final = "Premature end of JPEG file"
_RARE_SAMPLING: Final = "Could not determine subsampling"


def header_of(data: bytes, kind: Format) -> ImageHeader:
    """Header of a picture, read without decoding a pixel. Raises BrokenImage."""
    return png.header_of(data) if kind == "png" else jpeg.header_of(data)


def work_of(data: bytes, kind: Format, header: ImageHeader) -> int:
    """Work of decoding a picture, in pixels of a PNG of 24 bits. Raises BrokenImage for a JPEG of too many scans."""
    if kind == "png":
        return header.pixels * max(_PNG_BITS, png.bits_of(data)) // _PNG_BITS
    scans = jpeg.scans_of(data).number
    if scans == 1 and header.channels != 4:
        return header.pixels // 4
    return header.pixels * -(-scans // _SCANS_AT_ONCE)


def decode(data: bytes, kind: Format, header: ImageHeader) -> Array:
    """Upright picture, uint8 [height,width,3] in RGB. Raises BrokenImage unless the file has all of it."""
    if kind == "png":
        whole = png.whole_png(data)
        picture, orientation = _png(whole.data, header), orientation_of(whole.exif)
    else:
        picture, orientation = _jpeg(data, header), orientation_of(jpeg.exif_of(data))
    return upright(picture, orientation)


def upright_size(data: bytes, kind: Format, header: ImageHeader) -> tuple[int, int]:
    """Width and height of the upright picture, without decoding a pixel. Raises BrokenImage."""
    exif = png.whole_png(data).exif if kind == "png" else jpeg.exif_of(data)
    is_turned = orientation_of(exif) >= FIRST_TURNED
    return (header.height, header.width) if is_turned else (header.width, header.height)


def _png(data: bytes, header: ImageHeader) -> Array:
    """Decode a PNG. libpng refuses a picture that lacks a row, has a wrong checksum or is cut off."""
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        picture = None
    if picture is None or picture.shape != (header.height, header.width, 3):
        raise _damaged(data)
    return picture


def _jpeg(data: bytes, header: ImageHeader) -> Array:
    """Decode a JPEG. libjpeg's warnings are errors, because after most of them it invents pixels.

    After a warning that concerns no pixel, the file is decoded again without its cause, as it may hide another.
    """
    out = np.zeros((header.height, header.width, 4 if header.channels == 4 else 3), np.uint8)
    rest = data
    for _ in range(3):
        try:
            simplejpeg.decode_jpeg(rest, "CMYK" if header.channels == 4 else "RGB", buffer=out)
        except ValueError as error:
            rest = _without_cause(rest, str(error))
        else:
            return _rgb(out) if header.channels == 4 else out
    raise _damaged(data)


def _without_cause(data: bytes, warning: str) -> bytes:
    """The file without the cause of a warning. Raises BrokenImage if the warning concerns pixels."""
    if _IN_HEADER.search(warning):
        return jpeg.plain(data)
    if (found := _BEFORE_END.search(warning)) is not None:
        end = jpeg.scans_of(data).end
        start = end - int(found[1])
        if len(data[start:end].strip(b"\0")) <= MAX_PADDING_BYTES:
            return data[:start] + jpeg.EOI
    if _CUT_OFF in warning:
        raise cut_off(data)
    if _RARE_SAMPLING in warning:  # TurboJPEG does not support it; libjpeg does, but invents damaged pixels
        raise BrokenImage("of a rare chroma subsampling; served are 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1 and 4:4:1")
    raise _damaged(data)


def _rgb(inks: Array) -> Array:
    """RGB of CMYK in Adobe's inverted form, which all decoders assume: 255 is no ink."""
    out = np.zeros((*inks.shape[:2], 3), np.uint8)
    for row in range(0, len(inks), _ROWS_AT_ONCE):
        some = inks[row : row + _ROWS_AT_ONCE].astype(np.uint16)
        product = some[..., :3] * some[..., 3:] + 128
        out[row : row + _ROWS_AT_ONCE] = (product + (product >> 8)) >> 8  # product / 255, rounded
    return out


def _damaged(data: bytes) -> BrokenImage:
    return BrokenImage(f"of {len(data)} bytes that is damaged")
