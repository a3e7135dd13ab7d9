"""What an encoded image says of itself, read without decoding a pixel.

PNG: https://www.w3.org/TR/png-3/ (signature, chunks). JPEG: ITU-T T.81 annex B (markers and segments).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Format = Literal["png", "jpeg"]

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE: Final = b"\xff\xd8\xff"
# A progressive JPEG is decoded once per scan; a small file with thousands of them is an attack.
MAX_JPEG_SCANS: Final = 100
# A PNG of more pieces than this was not made by any encoder: a 25 megapixel file has about 3,000 of 8 KiB.
MAX_PNG_CHUNKS: Final = 100_000

_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, all codings
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers with no length: TEM, RSTn
_SOS, _SOI, _EOI = 0xDA, 0xD8, 0xD9


class Header(NamedTuple):
    """Width and height in pixels as stored, before any EXIF rotation."""

    width: int
    height: int


class BrokenImage(ValueError):
    """The bytes end early or contradict themselves; the text says how."""


def format_of(data: bytes) -> Format | None:
    """The format by its first bytes, or None."""
    if data.startswith(PNG_SIGNATURE):
        return "png"
    return "jpeg" if data.startswith(JPEG_SIGNATURE) else None


def header_of(data: bytes, kind: Format) -> Header:
    """Size of the picture. Raises BrokenImage when the file is cut off or has no picture."""
    header = _png_header(data) if kind == "png" else _jpeg_header(data)
    if header.width < 1 or header.height < 1:
        raise BrokenImage(f"of {header.width}x{header.height} pixels")
    return header


def check_end(data: bytes, kind: Format) -> None:
    """Raises BrokenImage unless the file reaches its end marker; anything may follow it.

    OpenCV itself fills what is missing of a JPEG with grey and says nothing.
    """
    if kind == "png":
        _png_end(data)
    else:
        _jpeg_end(data)


def _png_header(data: bytes) -> Header:
    if len(data) < 24:
        raise BrokenImage(f"cut off after {len(data)} bytes")
    if data[12:16] != b"IHDR":
        raise BrokenImage("without a header")
    return Header(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))


def _png_end(data: bytes) -> None:
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_PNG_CHUNKS):
        if at + 12 > len(data):
            raise BrokenImage(f"cut off after {len(data)} bytes")
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += 12 + length
        if kind == b"IEND" and at <= len(data):
            return
    raise BrokenImage(f"in more than {MAX_PNG_CHUNKS} pieces")


def _jpeg_header(data: bytes) -> Header:
    for marker, at in _jpeg_segments(data):
        if marker in _SOF:
            if at + 9 > len(data):
                break
            height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return Header(int.from_bytes(width, "big"), int.from_bytes(height, "big"))
        if marker == _SOS:
            raise BrokenImage("without a header")
    raise BrokenImage(f"cut off after {len(data)} bytes")


def _jpeg_end(data: bytes) -> None:
    scan = next((at for marker, at in _jpeg_segments(data) if marker == _SOS), len(data))
    # Within coded data every FF is followed by 00 or RSTn, so these pairs are markers.
    if data.rfind(b"\xff\xd9", scan) < 0:
        raise BrokenImage(f"cut off after {len(data)} bytes")
    if data.count(b"\xff\xda", scan) > MAX_JPEG_SCANS:
        raise BrokenImage(f"of more than {MAX_JPEG_SCANS} scans")


def _jpeg_segments(data: bytes) -> list[tuple[int, int]]:
    """(marker, offset of its FF) up to and with the first scan; ends early where the file does."""
    found: list[tuple[int, int]] = []
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise BrokenImage(f"damaged at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in (_SOI, _EOI, 0x00):
            raise BrokenImage(f"damaged at byte {at}")
        else:
            found.append((marker, at))
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == _SOS or length < 2:
                break
            at += 2 + length
    return found
