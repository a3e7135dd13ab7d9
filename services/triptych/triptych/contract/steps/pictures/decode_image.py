"""The step from encoded files to pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal

import cv2
import numpy as np
from pydantic import Field

from triptych.contract.steps.base import MapStep, Scope
from triptych.contract.steps.image_files.decoding import decode, header_of, upright_size, work_of
from triptych.contract.steps.image_files.formats import BrokenImage, Format, ImageHeader, format_of, other_format
from triptych.contract.steps.pictures.pictures import Pictures
from triptych.datatypes import Array
from triptych.errors import InvalidInput
from triptych.runtime.cancellation import check_cancelled

_FORMAT_NAMES: Final[Mapping[Format, str]] = {"png": "PNG", "jpeg": "JPEG"}


class DecodeImage(MapStep):
    """PNG or JPEG files to pictures: RGB, 8 bit, turned upright as EXIF says.

    Grey, CMYK and palette pictures become RGB, 16 bit become 8, transparency is dropped, profiles are not applied.
    An animation is its still picture. Bytes behind the picture's end do not count. A file of which a row is missing
    or damaged is refused; damage that leaves a JPEG's codes valid cannot be seen. Sizes are read from the headers,
    and too many pixels are refused before one is decoded.
    """

    op: Literal["decode_image"]
    formats: Annotated[tuple[Format, ...], Field(strict=False, min_length=1)] = ("png", "jpeg")
    max_pixels: Annotated[int, Field(ge=1, le=2**30, description="of one picture")] = 25_000_000
    max_request_pixels: Annotated[
        int,
        Field(
            ge=1,
            le=2**36,
            description="of all pictures of one request, by the work to decode them: a JPEG in one scan counts a "
            "quarter, any other, or one of four colours, once for every 20 scans, and a PNG of more than 24 bits more "
            "than once",
        ),
    ] = 64_000_000

    def examples(self) -> dict[str, object]:
        return {self.input: cv2.imencode(f".{self.formats[0]}", np.zeros((8, 8, 3), np.uint8))[1].tobytes()}

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        files = inputs.get(self.input)
        if files is None or files.dtype != np.object_:
            return 0
        return sum(self._bytes_of(data) for data in files.flat)

    def _bytes_of(self, data: bytes) -> int:
        """Bytes of the decoded picture; 0 for a file that will be refused by its header."""
        kind = format_of(data)
        if kind is None or kind not in self.formats:
            return 0
        try:
            header = header_of(data, kind)
        except BrokenImage:
            return 0
        return header.unpacked_bytes if header.pixels <= self.max_pixels else 0

    def function(self, scope: Scope) -> Callable[[Array], Pictures]:
        def pictures(files: Array) -> Pictures:
            inspected = [self._inspect(data, row) for row, data in enumerate(files)]
            work = sum(work for _, _, work in inspected)
            if work > self.max_request_pixels:
                most = f"at most {self.max_request_pixels} pixels to decode in one request"
                raise InvalidInput(self.input, most, f"{work} in {len(files)} pictures")
            return Pictures(
                len(files),
                lambda row: self._decode(files[row], row, *inspected[row][:2]),
                lambda row: self._size(files[row], row, *inspected[row][:2]),
            )

        return pictures

    def _inspect(self, data: bytes, row: int) -> tuple[Format, ImageHeader, int]:
        """Format, header and work of a file, without decoding it."""
        kind = format_of(data)
        if kind is None or kind not in self.formats:
            raise InvalidInput(self.input, f"a {self._names} file", f"row {row}: {self._other(data, kind)}")
        try:
            header = header_of(data, kind)
            size = f"row {row}: {header.width}x{header.height} pixels"
            if header.pixels > self.max_pixels:
                raise InvalidInput(self.input, f"at most {self.max_pixels} pixels", size)
            return kind, header, work_of(data, kind, header)
        except BrokenImage as error:
            raise self._broken(kind, row, error) from None

    def _decode(self, data: bytes, row: int, kind: Format, header: ImageHeader) -> Array:
        check_cancelled()
        try:
            return decode(data, kind, header)
        except BrokenImage as error:
            raise self._broken(kind, row, error) from None

    def _size(self, data: bytes, row: int, kind: Format, header: ImageHeader) -> tuple[int, int]:
        try:
            return upright_size(data, kind, header)
        except BrokenImage as error:
            raise self._broken(kind, row, error) from None

    def _broken(self, kind: Format, row: int, error: BrokenImage) -> InvalidInput:
        return InvalidInput(self.input, f"a {self._names} file", f"row {row}: a {_FORMAT_NAMES[kind]} file {error}")

    @property
    def _names(self) -> str:
        return " or ".join(_FORMAT_NAMES[kind] for kind in self.formats)

    def _other(self, data: bytes, kind: Format | None) -> str:
        name = _FORMAT_NAMES[kind] if kind is not None else other_format(data)
        if name is not None:
            return f"a file of the format {name}" if kind is None else f"a {name} file"
        return f"{len(data)} bytes that are {'neither' if len(self.formats) > 1 else 'not'}"


STEPS: Final = (DecodeImage,)
