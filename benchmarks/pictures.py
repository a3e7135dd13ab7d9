"""CPU time to decode pictures of each kind, and the most expensive request that `max_request_pixels` lets through."""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.report import Report
from tests.pictures import PNG_SIGNATURE, chunk, flat_jpeg, ihdr, jpeg, png, smooth
from triptych.contract.steps.image_files.decoding import decode, header_of, work_of
from triptych.contract.steps.image_files.formats import format_of
from triptych.contract.steps.pictures.decode_image import DecodeImage

HELP = "decoding of pictures of each kind, and of the most expensive request"
TITLE = "The work of pictures"

COLUMNS = ("picture", "MB", "million pixels", "counted, million", "CPU, s", "CPU of the most expensive request, s")
MESSAGE_BYTES = 64 << 20


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=3_000, help="width and height")
    parser.add_argument("--rounds", type=int, default=3, help="of which the least counts")


def main(given: argparse.Namespace, report: Report) -> None:
    most = int(DecodeImage.model_fields["max_request_pixels"].default)
    rows = []
    for name, data in pictures(given.size):
        kind = format_of(data)
        assert kind is not None
        header = header_of(data, kind)
        work, cpu_s = work_of(data, kind, header), min(_cpu_s(data) for _ in range(given.rounds))
        count = min(most / work, MESSAGE_BYTES / len(data))
        figures = (len(data) / 1e6, header.pixels / 1e6, work / 1e6, cpu_s, count * cpu_s)
        rows.append((name, *(f"{figure:.2f}" for figure in figures)))
    report.table("Pictures", COLUMNS, rows)


def pictures(size: int) -> Iterator[tuple[str, bytes]]:
    """Pictures of each kind: of one colour, as a camera makes them, and as expensive as their kind can be."""
    random = np.random.default_rng(0)
    photo: Any = smooth(size, size).astype(int) + random.integers(-12, 12, (size, size, 3))
    photo, noise = np.clip(photo, 0, 255).astype(np.uint8), random.integers(0, 256, (size, size, 4), np.uint8)
    yield "JPEG of one colour", flat_jpeg(size, size)
    yield "JPEG like a photograph", jpeg(photo)
    yield "JPEG of noise, quality 100", jpeg(noise[..., :3], quality=100)
    yield "progressive JPEG like a photograph", jpeg(photo, progressive=True)
    yield "progressive JPEG of noise", jpeg(noise[..., :3], progressive=True)
    yield "JPEG in 20 scans", flat_jpeg(size, size, (0x11,) * 3, scans=20)
    yield "JPEG in 100 scans", flat_jpeg(size, size, (0x11,) * 3, scans=100)
    yield "JPEG of four colours", flat_jpeg(size, size, (0x11,) * 4)
    yield "progressive JPEG of four colours, noise", jpeg(noise, progressive=True)
    yield "PNG of one colour", png(np.zeros((size, size, 3), np.uint8))
    yield "PNG like a photograph", png(photo)
    for bits, colour in ((24, 2), (64, 6)):
        for name, values in (("zeros", 1), ("little noise", 4)):
            yield f"PNG of {bits} bits, Paeth filters, {name}", _paeth(random, size, bits, colour, values)


def _paeth(random: np.random.Generator, size: int, bits: int, colour: int, values: int) -> bytes:
    """A PNG whose rows have the filter that takes longest."""
    lines = random.integers(0, values, (size, 1 + size * bits // 8), np.uint8)
    lines[:, 0] = 4
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY if values > 1 else zlib.Z_DEFAULT_STRATEGY)
    packed = packer.compress(lines.tobytes()) + packer.flush()
    header = ihdr(size, size, 16 if bits == 64 else 8, colour)
    return PNG_SIGNATURE + header + chunk(b"IDAT", packed) + chunk(b"IEND")


def _cpu_s(data: bytes) -> float:
    kind = format_of(data)
    assert kind is not None
    started_s = time.process_time()
    decode(data, kind, header_of(data, kind))
    return time.process_time() - started_s
