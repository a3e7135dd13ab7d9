"""A made-up CT volume: a body of soft tissue with a spine of bone, in air. NIfTI-1 with voxels of 1 mm."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ct_reader.header import HEADER_BYTES, Header

AIR, SOFT, BONE = -1000, 40, 700  # Hounsfield units


def write_volume(file: Path, side: int, slices: int) -> None:
    """Write a volume, a slice at a time; packed if the name ends in .gz."""
    header = Header(side, side, slices, voxel_ml=0.001, offset=HEADER_BYTES + 4)
    with file.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb") if file.suffix == ".gz" else raw as out:
        out.write(header.pack())
        for each in made_slices(side, slices):
            out.write(each.tobytes())


def made_slices(side: int, slices: int) -> Iterator[np.ndarray[Any, np.dtype[np.int16]]]:
    """Slices [side, side] with some noise. The body is widest in the middle; the spine has the same size in each."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    for number in range(slices):
        body = 0.2 + 0.2 * np.sin(np.pi * (number + 0.5) / slices)
        picture = np.where(x**2 + y**2 < body**2, SOFT, AIR)
        picture[x**2 + (y - 0.1) ** 2 < 0.05**2] = BONE
        yield (picture + random.integers(-20, 21, (side, side))).astype("<i2")
