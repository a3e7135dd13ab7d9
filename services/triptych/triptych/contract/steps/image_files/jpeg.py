"""JPEG files: segments, number of scans, and a header that a strict decoder accepts.

ITU-T T.81 annex B (markers and segments), JFIF 1.02, and Adobe technical note 5116 (APP14).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from triptych.contract.steps.image_files.formats import BrokenImage, ImageHeader, cut_off

# Each scan passes over all pixels. Encoders make 1 to 20; a small file with thousands is an attack.
MAX_SCANS: Final = 100
# Cameras write some ten segments, and one for each 64 KiB of a profile, thumbnail or depth map.
MAX_SEGMENTS: Final = 10_000

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
_SOI, _SOS, _EOI, _APP0, _APP1, _APP14, _APP15, _COM = 0xD8, 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RSTn, SOI
_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1, 0xC9})
_NOT_SERVED: Final = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "coded hierarchically"),
    0xC3: "coded without loss",
    0xCB: "coded without loss",
}
# Within coded data FF is followed by 00 or RSTn. More FF before a marker are fill bytes.
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JFIF: Final = b"\xff\xe0\x00\x10JFIF\0\x01\x02\0\0\x01\0\x01\0\0"
_ADOBE: Final = b"\xff\xee\x00\x0eAdobe\0d\0\0\0\0"


class Segment(NamedTuple):
    """Segment of the header: its marker, and its position in the file."""

    marker: int
    start: int
    body: int
    end: int


class Scans(NamedTuple):
    """Number of passes over the pixels, and position of the end marker."""

    number: int
    end: int


def header_of(data: bytes) -> ImageHeader:
    """Size of the picture and number of its colours. Raises BrokenImage."""
    for segment in _segments(data):
        if segment.marker in _SOF:
            return _frame(data, segment)
        if segment.marker == _SOS:
            raise BrokenImage("without a header")
    raise cut_off(data)


def scans_of(data: bytes, most: int = MAX_SCANS) -> Scans:
    """Scans of the picture. Raises BrokenImage for a file without an end, or with more than `most` scans.

    Bytes behind the end marker are ignored: phones append a video there, and stereo cameras a second picture.
    """
    first = next((segment for segment in _segments(data) if segment.marker == _SOS), None)
    if first is None:
        raise cut_off(data)
    number, at = 1, first.end
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise cut_off(data)
        at = found.end()
        marker = data[at - 1]
        if marker == _EOI:
            return Scans(number, at - 2)
        if marker == _SOS:
            number += 1
            if number > most:
                raise BrokenImage(f"of more than {most} scans")
        if marker not in _STANDALONE:
            at += int.from_bytes(data[at : at + 2], "big")
    raise BrokenImage(f"of more than {MAX_SEGMENTS} segments")


def exif_of(data: bytes) -> bytes:
    """TIFF structure of the first EXIF segment before the pixels, or empty bytes."""
    for marker, _, body, end in _segments(data):
        if marker == _APP1 and data.startswith(b"Exif\0\0", body):
            return data[body + 6 : end]
    return b""


def plain(data: bytes) -> bytes:
    """The picture with a minimal header: no profiles, no comments, no stray bytes.

    The markers of JFIF and Adobe define the colour space; they are rewritten with known values. A sequential scan
    always has all coefficients, so its header is corrected.
    """
    output = [SOI]
    components, sequential = header_of(data).channels, False
    for marker, start, body, end in _segments(data):
        if marker == _APP0 and data.startswith(b"JFIF\0", body):
            output.append(_JFIF)
        elif marker == _APP14 and data.startswith(b"Adobe", body) and end - body >= 12:
            coded = 2 if components == 4 else 1  # YCCK, YCbCr
            output.append(_ADOBE + bytes([0 if data[body + 11] == 0 else coded]))
        elif marker == _SOS:
            head = data[start : end - 3] + b"\0\x3f\0" if sequential else data[start:end]
            return b"".join([*output, head, memoryview(data)[end:]])
        elif not (_APP0 <= marker <= _APP15 or marker == _COM):
            sequential = sequential or marker in _SEQUENTIAL
            output.append(data[start:end])
    raise cut_off(data)


def _frame(data: bytes, segment: Segment) -> ImageHeader:
    at = segment.body
    if at + 6 > len(data):
        raise cut_off(data)
    if segment.marker in _NOT_SERVED:
        raise BrokenImage(_NOT_SERVED[segment.marker])
    bits, components = data[at], data[at + 5]
    height, width = int.from_bytes(data[at + 1 : at + 3], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
    if bits != 8:
        raise BrokenImage(f"of {bits} bits for each colour, not 8")
    if not height:
        raise BrokenImage("without a height in its header")  # a DNL marker behind the first scan may have it
    if not width:
        raise BrokenImage(f"of {width}x{height} pixels")
    if components not in (1, 3, 4):
        raise BrokenImage(f"of {components} colours, not 1, 3 or 4")
    return ImageHeader(width, height, components)


def _segments(data: bytes) -> Iterator[Segment]:
    """Segments up to the first scan's header; fewer if the file is cut off.

    Stray bytes between segments are skipped, as in every decoder.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = data.find(b"\xff", at)
        while at >= 0 and data[at + 1 : at + 2] == b"\xff":
            at += 1
        if at < 0 or at + 4 > len(data):
            return
        marker = data[at + 1]
        if marker == _EOI:
            raise BrokenImage("without pixels")
        if marker == _SOI:
            raise BrokenImage("with a second start marker in its header")
        if marker == 0x00 or marker in _STANDALONE:
            at += 2
            continue
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        yield Segment(marker, at, at + 4, end)
        if marker == _SOS:
            return
        at = end
    raise BrokenImage(f"of more than {MAX_SEGMENTS} segments")
