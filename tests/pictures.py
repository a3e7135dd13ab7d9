"""PNG and JPEG files encoded by hand, so that tests can create files that no encoder produces."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# x and y of the first pixel, and the steps, of Adam7's passes
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


# --- PNG


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def scanlines(samples: Array, depth: int = 8, interlace: bool = False) -> bytes:
    """Unfiltered scanlines of samples [height,width,channels]."""
    return b"".join(_rows(samples, depth, interlace))


def _rows(samples: Array, depth: int, interlace: bool) -> Iterator[bytes]:
    for x, y, dx, dy in ADAM7 if interlace else ((0, 0, 1, 1),):
        part = samples[y::dy, x::dx]
        if not part.size:
            continue
        for row in part.reshape(len(part), -1):
            if depth == 16:
                yield b"\0" + row.astype(">u2").tobytes()
            else:
                bits = np.unpackbits(row.astype(np.uint8)[:, np.newaxis], axis=1)[:, 8 - depth :]
                yield b"\0" + np.packbits(bits.reshape(-1)).tobytes()


def png(
    samples: Array,
    *,
    depth: int = 8,
    colour: int = 2,
    interlace: bool = False,
    before: bytes = b"",
    after: bytes = b"",
    raw: bytes | None = None,
    idat: Sequence[bytes] | None = None,
) -> bytes:
    """PNG of samples [height,width,channels].

    `raw` or `idat` replace the scanlines; `before` and `after` are chunks around the pixels."""
    height, width = samples.shape[:2]
    data = zlib.compress(scanlines(samples, depth, interlace) if raw is None else raw)
    pixels = b"".join(chunk(b"IDAT", part) for part in ([data] if idat is None else idat))
    return PNG_SIGNATURE + ihdr(width, height, depth, colour, int(interlace)) + before + pixels + after + chunk(b"IEND")


def animated(still: Array, frame: Array, rows: int | None = None) -> bytes:
    """APNG whose still picture is not part of the animation; the first frame of that has `rows` rows of scanlines."""
    height, width = still.shape[:2]
    lines = scanlines(frame)[: None if rows is None else rows * (1 + 3 * width)]
    return png(
        still,
        before=chunk(b"acTL", struct.pack(">II", 2, 0)),
        after=frame_control(width, height, 0) + chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(lines)),
    )


def frame_control(width: int, height: int, number: int, dispose: int = 0) -> bytes:
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, dispose, 0))


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Chunks of a valid PNG as (kind, body)."""
    found, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


# --- JPEG


def segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(picture: Array, **options: Any) -> bytes:
    """JPEG by Pillow of RGB [height,width,3], grey [height,width] or CMYK [height,width,4]."""
    mode = "L" if picture.ndim == 2 else {3: "RGB", 4: "CMYK"}[picture.shape[2]]
    file = io.BytesIO()
    Image.frombytes(mode, picture.shape[1::-1], picture.tobytes()).save(file, "JPEG", **{"quality": 92, **options})
    return file.getvalue()


def behind_start(data: bytes, inserted: bytes) -> bytes:
    """JPEG with segments inserted after its start marker."""
    return data[:2] + inserted + data[2:]


def flat_jpeg(width: int, height: int, sampling: Sequence[int] = (0x11,), scans: int = 1, frame: int = 0xC0) -> bytes:
    """Grey JPEG in a few bytes, with all coefficients 0. `sampling` has a byte per component, encoded as in T.81.

    With more than one scan it is progressive; each scan covers all pixels.
    """
    count = len(sampling)
    parts = b"".join(bytes([number, factors, 0]) for number, factors in enumerate(sampling, 1))
    selected = b"".join(bytes([number, 0]) for number in range(1, count + 1))
    blocks = blocks_of(width, height, sampling)
    tables = b"".join(segment(0xC4, bytes([kind, 1, *[0] * 15, 0])) for kind in (0x00, 0x10))
    head = segment(0xDB, bytes([0, *[1] * 64])) + segment(
        0xC2 if scans > 1 else frame, struct.pack(">BHHB", 8, height, width, count) + parts
    )
    if scans == 1:
        body = segment(0xDA, bytes([count]) + selected + b"\0\x3f\0") + _zero_bits(2 * blocks)
    else:  # the first scan has the constant part, the others the rest, all of zeros
        body = segment(0xDA, bytes([count]) + selected + b"\0\0\0") + _zero_bits(blocks)
        one = segment(0xDA, b"\1\1\0\1\x3f\0") + _zero_bits(-(-width // 8) * -(-height // 8))
        body += one * (scans - 1)
    return b"\xff\xd8" + head + tables + body + b"\xff\xd9"


def blocks_of(width: int, height: int, sampling: Sequence[int]) -> int:
    if len(sampling) == 1:
        return -(-width // 8) * -(-height // 8)
    across, down = max(f >> 4 for f in sampling), max(f & 15 for f in sampling)
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return units * sum((f >> 4) * (f & 15) for f in sampling)


def _zero_bits(count: int) -> bytes:
    last = bytes([0xFF >> (count % 8)]) if count % 8 else b""  # padded with ones
    return bytes(count // 8) + last


def exif(orientation: int, order: str = "<", *, kind: int = 3) -> bytes:
    """EXIF data: a TIFF structure with the tag 0x0112 (orientation)."""
    sizes = {3: "H", 4: "I"}
    value = struct.pack(order + sizes[kind], orientation).ljust(4, b"\0")
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)


def with_exif(data: bytes, tiff: bytes) -> bytes:
    """JPEG with an EXIF segment."""
    return behind_start(data, segment(0xE1, b"Exif\0\0" + tiff))


def smooth(width: int, height: int, seed: int = 0) -> Array:
    """Smooth RGB picture, which JPEG preserves well."""
    few = np.random.default_rng(seed).integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC))
