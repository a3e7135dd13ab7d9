"""Orientation of a photograph from its EXIF data (TIFF 6.0; EXIF 2.3, tag 274)."""

from __future__ import annotations

from typing import Final, Literal

import cv2

from triptych.datatypes import Array

_ORIENTATION: Final = 0x0112
_BYTE_ORDERS: Final[dict[bytes, Literal["little", "big"]]] = {b"II*\0": "little", b"MM\0*": "big"}
_SIZES: Final = {1: 1, 3: 2, 4: 4}  # bytes of the whole numbers of TIFF: BYTE, SHORT, LONG


def orientation_of(exif: bytes) -> int:
    """Orientation from 1 to 8; 1 (upright) if the EXIF data has none or cannot be read.

    The last of several tags counts, as in Pillow.
    """
    exif = exif.removeprefix(b"Exif\0\0")  # some programs put JPEG's prefix into a PNG's chunk
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return 1
    at = int.from_bytes(exif[4:8], order)
    entries = int.from_bytes(exif[at : at + 2], order)
    orientation = 1
    for entry in range(at + 2, min(at + 2 + 12 * entries, len(exif) - 11), 12):
        is_one = int.from_bytes(exif[entry + 4 : entry + 8], order) == 1
        if is_one and int.from_bytes(exif[entry : entry + 2], order) == _ORIENTATION:
            size = _SIZES.get(int.from_bytes(exif[entry + 2 : entry + 4], order), 0)
            orientation = int.from_bytes(exif[entry + 8 : entry + 8 + size], order)
    return orientation if 1 <= orientation <= 8 else 1


FIRST_TURNED: Final = 5  # orientation from which width and height are exchanged

# Argument of cv2.flip, after a transposition.
_FLIPS: Final = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}


def upright(picture: Array, orientation: int) -> Array:
    """The upright picture. `picture` itself may be overwritten."""
    if orientation >= FIRST_TURNED:
        picture = cv2.transpose(picture)
    if orientation in _FLIPS:
        cv2.flip(picture, _FLIPS[orientation], dst=picture)  # in place: a third copy would be 36 MB of a photograph
    return picture
