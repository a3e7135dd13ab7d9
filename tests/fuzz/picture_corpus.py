"""Small picture files of every kind, and their mutations."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from tests.pictures import (
    CHANNELS,
    DEPTHS,
    PNG_SIGNATURE,
    animated,
    behind_start,
    chunk,
    chunks_of,
    exif,
    flat_jpeg,
    jpeg,
    png,
    scanlines,
    segment,
    smooth,
    with_exif,
)

PALETTE = chunk(b"PLTE", bytes(range(48)))


def corpus() -> list[bytes]:
    return [*_pngs(), *_jpegs()]


def _pngs() -> Iterator[bytes]:
    rng = np.random.default_rng(1)
    for colour, depths in DEPTHS.items():
        for depth in depths:
            for interlace in (False, True):
                most = 16 if colour == 3 else 2**depth
                samples = rng.integers(0, min(most, 2**depth), (9, 13, CHANNELS[colour]))
                before = PALETTE + chunk(b"tRNS", bytes(range(9))) if colour == 3 else b""
                yield png(samples, depth=depth, colour=colour, interlace=interlace, before=before)
    picture = smooth(24, 16)
    yield animated(picture, picture[::-1])
    yield animated(picture, picture[::-1], rows=8)
    data = zlib.compress(scanlines(picture))
    yield png(picture, idat=[data[:10], b"", data[10:50], data[50:]])
    yield png(picture, before=chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"eXIf", exif(6)))
    yield png(picture, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10_000))), after=chunk(b"tEXt", b"a\0b"))
    yield bytes(cv2.imencode(".png", picture)[1])


def _jpegs() -> Iterator[bytes]:
    picture = smooth(27, 19)
    for subsampling in (0, 1, 2):
        yield jpeg(picture, subsampling=subsampling)
        yield jpeg(picture, subsampling=subsampling, progressive=True)
    yield jpeg(picture, restart_marker_rows=1)
    yield jpeg(picture, keep_rgb=True)
    yield jpeg(picture[..., 0])
    yield jpeg(np.dstack([picture, picture[..., 0]]))
    yield with_exif(jpeg(picture), exif(6))
    yield with_exif(jpeg(picture), exif(5, ">"))
    yield behind_start(jpeg(picture), segment(0xE2, b"ICC_PROFILE\0\1\2abc") + segment(0xFE, b"comment"))
    yield jpeg(picture) + b"\0\0\0\x18ftypmp42" + bytes(range(256))
    yield flat_jpeg(40, 24, (0x42, 0x11, 0x11))
    yield flat_jpeg(40, 24, (0x11,), scans=4)
    yield flat_jpeg(40, 24, (0x11,), frame=0xC9)


def mutated(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    """Apply one to four mutations. Half of the PNGs are mutated by chunk, with valid checksums."""
    if data.startswith(PNG_SIGNATURE) and rng.random() < 0.6:
        data = _changed_chunks(data, rng)
        if rng.random() < 0.6:
            return data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_CHANGES)(data, files, rng)
    return data


def _changed_chunks(data: bytes, rng: random.Random) -> bytes:
    chunks = chunks_of(data)
    if not chunks:
        return data
    at = rng.randrange(len(chunks))
    kind, body = chunks[at]
    match rng.randrange(6):
        case 0:
            del chunks[at]
        case 1:
            chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
        case 2:
            chunks[at] = (rng.choice((b"IDAT", b"tEXt", b"acTL", b"fcTL", b"fdAT", b"ABCD", b"IHDR")), body)
        case 3:
            chunks[at] = (kind, _bytes_changed(body, [], rng))
        case 4:
            chunks[at : at + 1] = [(kind, body[: len(body) // 2]), (kind, body[len(body) // 2 :])]
        case _:
            chunks = _changed_pixels(chunks, rng)
    return PNG_SIGNATURE + b"".join(chunk(kind, body) for kind, body in chunks)


def _changed_pixels(chunks: list[tuple[bytes, bytes]], rng: random.Random) -> list[tuple[bytes, bytes]]:
    """Valid zlib stream with too few or too many scanlines, or with other filters."""
    try:
        raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    except zlib.error:
        return chunks
    raw = rng.choice((_bytes_changed, _cut, _repeated))(raw, [], rng)
    first = next(at for at, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    kept = [pair for pair in chunks if pair[0] != b"IDAT"]
    return [*kept[:first], (b"IDAT", zlib.compress(raw)), *kept[first:]]


def _bytes_changed(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] = rng.choice((0, 0xFF, 0xD9, 0xDA, 0x7F, rng.randrange(256)))
    return bytes(changed)


def _bit_changed(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _cut(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _removed(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 4, 40)) :]


def _repeated(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at : at + rng.choice((1, 2, 20, 200))] + data[at:]


def _inserted(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"\xff\xd9", b"\xff\xd8", b"\xff\xff", b"\xff\xda", bytes(5), b"xyz")) + data[at:]


def _spliced(data: bytes, files: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(files) if files else data
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


_CHANGES: tuple[Callable[[bytes, list[bytes], random.Random], bytes], ...] = (
    _bytes_changed, _bytes_changed, _bit_changed, _bit_changed, _cut, _removed, _repeated, _inserted, _spliced,
)  # fmt: skip
