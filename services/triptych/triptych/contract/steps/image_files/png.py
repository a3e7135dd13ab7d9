"""PNG files: check of the chunks, and a minimal file for the decoder.

https://www.w3.org/TR/png-3/, chapters 5 (chunks) and 11 (their contents).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from triptych.contract.steps.image_files.formats import PNG_SIGNATURE, BrokenImage, ImageHeader, cut_off

# A PNG of more chunks than this was not made by any encoder: a 25 megapixel file has about 3,000 of 8 KiB.
MAX_CHUNKS: Final = 100_000

_COLOURS: Final = {2: 3, 4: 2, 6: 4}  # by colour type; grey and palettes have one
_NEEDED: Final = frozenset({b"IHDR", b"PLTE", b"IDAT"})
_IEND: Final = b"\0\0\0\0IEND\xaeB`\x82"


class Png(NamedTuple):
    """PNG file with the chunks that a decoder needs, and its EXIF data or empty bytes."""

    data: bytes
    exif: bytes


def header_of(data: bytes) -> ImageHeader:
    """Size of the picture. Raises BrokenImage."""
    if len(data) < 26:
        raise cut_off(data)
    if data[12:16] == b"CgBI":
        raise BrokenImage("of Apple's own variant (CgBI), which only iOS reads")
    if data[12:16] != b"IHDR" or data[8:12] != b"\0\0\0\x0d":
        raise BrokenImage("without a header")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise BrokenImage(f"of {width}x{height} pixels")
    return ImageHeader(width, height)


def bits_of(data: bytes) -> int:
    """Bits of a pixel, by the header."""
    return data[24] * _COLOURS.get(data[25], 1)


def whole_png(data: bytes) -> Png:
    """The file without ancillary chunks, and without bytes after IEND. Raises BrokenImage if a part is missing.

    The picture is that of the IDAT chunks, as in every decoder without APNG. OpenCV would decode the first frame of an
    animation, whose missing rows were uninitialised memory (opencv#27074). No other ancillary chunk changes an RGB
    pixel, and libpng writes a line to standard error for many of them.
    """
    spans: list[tuple[int, int]] = []  # of the file, for the output
    exif = last = b""
    has_pixels = False
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            if has_pixels and last != b"IDAT":
                raise BrokenImage("whose IDAT chunks are not consecutive")
            has_pixels = True
        if kind in _NEEDED:
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        elif kind != b"IEND" and not kind[:1].islower():
            raise BrokenImage(f"with a critical chunk {ascii(kind.decode('latin-1'))}, which is not known")
        elif kind == b"eXIf" and not exif:
            exif = data[start + 8 : end - 4]
        last = kind
    if not has_pixels:
        raise BrokenImage("without pixels")
    if len(spans) == 1 and data[spans[0][1] :] == _IEND:
        return Png(data, exif)
    view = memoryview(data)
    return Png(b"".join([PNG_SIGNATURE, *(view[start:end] for start, end in spans), _IEND]), exif)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk, IEND included. Raises BrokenImage if the file ends before it."""
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if end > len(data):
            raise cut_off(data)
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise BrokenImage(f"of more than {MAX_CHUNKS} chunks")
