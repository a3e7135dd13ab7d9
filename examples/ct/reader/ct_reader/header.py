"""The header of a NIfTI-1 volume, 348 bytes in front of the voxels.

https://nifti.nimh.nih.gov/nifti-1: dimensions at byte 40, datatype at 70, sizes of a voxel in mm at 76, the offset of
the voxels at 108, scale at 112 and 116, magic at 344.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

HEADER_BYTES: Final = 348
MAGIC: Final = b"n+1\0"  # header and voxels in one file
DATATYPES: Final = {4: "int16"}  # Hounsfield units
MAX_SIDE: Final = 8192  # of a volume, in voxels
MAX_OFFSET: Final = 1 << 20


class WrongHeader(ValueError):
    """The header is not one of a volume that is read here. The text says what was wanted and what came."""


@dataclass(frozen=True)
class Header:
    """Sizes of a volume: `width` is x, `height` y, `slices` z; `voxel_ml` is the volume of a voxel in ml."""

    width: int
    height: int
    slices: int
    voxel_ml: float
    offset: int

    @property
    def slice_bytes(self) -> int:
        return 2 * self.width * self.height

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file, unpacked."""
        return self.offset + self.slices * self.slice_bytes

    @property
    def text(self) -> str:
        """`512 x 512 x 400 voxels`."""
        return f"{self.width} x {self.height} x {self.slices} voxels"

    def pack(self) -> bytes:
        """The header as bytes, with zeros up to the voxels."""
        header = bytearray(self.offset)
        struct.pack_into("<i", header, 0, HEADER_BYTES)
        struct.pack_into("<8h", header, 40, 3, self.width, self.height, self.slices, 1, 1, 1, 1)
        struct.pack_into("<2h", header, 70, 4, 16)
        side_mm = (self.voxel_ml * 1000) ** (1 / 3)
        struct.pack_into("<8f", header, 76, 1, side_mm, side_mm, side_mm, 0, 0, 0, 0)
        struct.pack_into("<3f", header, 108, self.offset, 1, 0)
        header[344:348] = MAGIC
        return bytes(header)


def read_header(data: bytes) -> Header:
    """The header at the start of a file. Raises `WrongHeader`."""
    if len(data) < HEADER_BYTES:
        raise WrongHeader(f"want a header of NIfTI-1 of {HEADER_BYTES} bytes, got {len(data)}")
    size, magic = struct.unpack_from("<i", data)[0], data[344:348]
    if size != HEADER_BYTES or magic != MAGIC:
        raise WrongHeader(f"want a volume of NIfTI-1 in one file, little-endian, got size {size} and magic {magic!r}")
    dims, datatype, bits = struct.unpack_from("<8h", data, 40), *struct.unpack_from("<2h", data, 70)
    count, width, height, slices, *others = dims
    if count not in (3, 4) or (count == 4 and others[0] != 1):
        raise WrongHeader(f"want one volume of 3 dimensions, got {list(dims[1 : max(count, 0) + 1])}")
    if not all(1 <= side <= MAX_SIDE for side in (width, height, slices)):
        raise WrongHeader(f"want 1 to {MAX_SIDE} voxels a side, got {width} x {height} x {slices}")
    if DATATYPES.get(datatype) is None or bits != 16:
        raise WrongHeader(f"want voxels of int16 (datatype 4), got datatype {datatype} of {bits} bits")
    sides_mm, (offset, slope, intercept) = struct.unpack_from("<3f", data, 80), struct.unpack_from("<3f", data, 108)
    if not all(0 < abs(side) < 1000 for side in sides_mm):  # NaN is none of them
        raise WrongHeader(f"want voxels of more than 0 and less than 1000 mm, got {[f'{side:g}' for side in sides_mm]}")
    if not HEADER_BYTES + 4 <= offset <= MAX_OFFSET or offset % 1:
        raise WrongHeader(f"want voxels from byte {HEADER_BYTES + 4} to {MAX_OFFSET} on, got {offset:g}")
    if slope not in (0.0, 1.0) or intercept != 0.0:
        raise WrongHeader(f"want Hounsfield units without a scale, got slope {slope:g} and intercept {intercept:g}")
    voxel_ml = abs(sides_mm[0] * sides_mm[1] * sides_mm[2]) / 1000
    return Header(width, height, slices, voxel_ml, int(offset))
