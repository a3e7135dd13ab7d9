"""Steps on pictures: from encoded files to the pixels of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import cv2
import numpy as np
from pydantic import Field

from triptych.contract.specs import Name
from triptych.contract.steps.base import Environment, Facts, MapStep, NumberOrList, Run, Scope, Step
from triptych.contract.steps.image_files.decoding import decode, header_of, passes_of
from triptych.contract.steps.image_files.formats import BrokenImage, Format, Header, format_of, other_format
from triptych.datatypes import TO_NUMPY, Array
from triptych.errors import ContractViolation, InvalidInput
from triptych.runtime.cancellation import check_cancelled

_FORMAT_NAMES: Final[Mapping[Format, str]] = {"png": "PNG", "jpeg": "JPEG"}
_INTERPOLATIONS: Final[Mapping[str, int]] = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
_CONVERSIONS: Final[Mapping[tuple[str, str], int]] = {
    ("rgb", "hsv"): cv2.COLOR_RGB2HSV,
    ("rgb", "gray"): cv2.COLOR_RGB2GRAY,
    ("rgb", "bgr"): cv2.COLOR_RGB2BGR,
    ("rgb", "lab"): cv2.COLOR_RGB2LAB,
    ("bgr", "rgb"): cv2.COLOR_BGR2RGB,
    ("hsv", "rgb"): cv2.COLOR_HSV2RGB,
    ("lab", "rgb"): cv2.COLOR_LAB2RGB,
    ("gray", "rgb"): cv2.COLOR_GRAY2RGB,
}

# 25 million pixels in 20 scans of zeros take 0.15 to 0.39 s of CPU, as a PNG of that size: 0.18 to 0.63 s (2026-11-28).
SCANS_AT_ONCE: Final = 20

Pixels = Annotated[int, Field(ge=1, le=16384)]


class Pictures(Sequence[Array]):
    """Lazy sequence of pictures of different sizes. Each is made when it is read, and is not stored.

    A picture of 12 million pixels takes 36 MB, so the pictures of a request are never in memory together.
    """

    def __init__(self, rows: int, make: Callable[[int], Array]) -> None:
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: Any) -> Any:
        rows = range(self._rows)[row]
        return self._make(rows) if isinstance(rows, int) else Pictures(len(rows), lambda at: self._make(rows[at]))


class DecodeImage(MapStep):
    """PNG or JPEG files to pictures: RGB, 8 bit, turned upright as EXIF says.

    Grey, CMYK and palette pictures become RGB, 16 bit become 8, transparency is dropped, profiles are not applied.
    An animation is its still picture. Bytes behind the picture's end do not count. A file of which a row is missing
    or damaged is refused; damage that leaves a JPEG's codes valid cannot be seen. Sizes are read from the headers,
    and too many pixels are refused before one is decoded.
    """

    op: Literal["decode_image"]
    formats: Annotated[tuple[Format, ...], Field(strict=False, min_length=1)] = ("png", "jpeg")
    max_pixels: Annotated[
        int, Field(ge=1, le=2**30, description="of one picture; a JPEG counts once for every 20 scans that it has")
    ] = 25_000_000
    max_request_pixels: Annotated[
        int, Field(ge=1, le=2**36, description="of all pictures of one request, counted alike")
    ] = 250_000_000

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
            counted = sum(pixels for _, _, pixels in inspected)
            if counted > self.max_request_pixels:
                most = f"at most {self.max_request_pixels} pixels in one request"
                raise InvalidInput(self.input, most, f"{counted} in {len(files)} pictures")
            return Pictures(len(files), lambda row: self._decode(files[row], row, *inspected[row][:2]))

        return pictures

    def _inspect(self, data: bytes, row: int) -> tuple[Format, Header, int]:
        """Format, header and counted pixels of a file, without decoding it."""
        kind = format_of(data)
        if kind is None or kind not in self.formats:
            raise InvalidInput(self.input, f"a {self._names} file", f"row {row}: {self._other(data, kind)}")
        try:
            header = header_of(data, kind)
            size = f"row {row}: {header.width}x{header.height} pixels"
            if header.pixels > self.max_pixels:
                raise InvalidInput(self.input, f"at most {self.max_pixels} pixels", size)
            scans = passes_of(data, kind)
        except BrokenImage as error:
            raise self._broken(kind, row, error) from None
        counted = header.pixels * -(-scans // SCANS_AT_ONCE)
        if counted > self.max_pixels:
            most = f"at most {self.max_pixels} pixels, counted once for every {SCANS_AT_ONCE} scans"
            raise InvalidInput(self.input, most, f"{size} in {scans} scans")
        return kind, header, counted

    def _decode(self, data: bytes, row: int, kind: Format, header: Header) -> Array:
        check_cancelled()
        try:
            return decode(data, kind, header)
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


class Crop(MapStep):
    """Cuts a box out of each picture: x, y, width, height in pixels.

    Nothing happens when `box` is an optional input that the request left out.
    """

    READS_IF_PRESENT = ("box",)

    op: Literal["crop"]
    box: Name

    def examples(self) -> dict[str, object]:
        return {self.box: (1, 2, 6, 5)}

    def compile(self, scope: Scope) -> Run:
        source, target, box = self.input, self.result, self.box

        def run(env: Environment) -> None:
            boxes = env.get(box)
            if boxes is None:
                env[target] = env[source]
                return
            pictures, corners = env[source], boxes.tolist()
            env[target] = Pictures(len(pictures), lambda row: _cut(pictures[row], corners[row], box, row))

        return run


def _cut(picture: Array, corners: list[int], name: str, row: int) -> Array:
    x, y, width, height = corners
    rows, columns = picture.shape[:2]
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > columns or y + height > rows:
        raise InvalidInput(
            name,
            "x, y >= 0 and width, height >= 1 within the picture",
            f"row {row}: {x}, {y}, {width}, {height} in a picture of {columns}x{rows} pixels",
        )
    return picture[y : y + height, x : x + width]


class ConvertColor(MapStep):
    """Changes the colour space. HSV and Lab as OpenCV has them for 8 bit: H from 0 to 179, L, a, b to 255."""

    op: Literal["convert_color"]
    source: Literal["rgb", "bgr", "gray", "hsv", "lab"]
    target: Literal["rgb", "bgr", "gray", "hsv", "lab"]

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        if (self.source, self.target) not in _CONVERSIONS:
            known = ", ".join(f"{a} to {b}" for a, b in _CONVERSIONS)
            yield "target", f"no conversion from {self.source} to {self.target}; known: {known}"

    def function(self, scope: Scope) -> Callable[[Any], Any]:
        code = _CONVERSIONS[self.source, self.target]

        def convert(pictures: Sequence[Array] | Array) -> Pictures | Array:
            converted = Pictures(len(pictures), lambda row: cv2.cvtColor(pictures[row], code))
            return np.stack(converted) if isinstance(pictures, np.ndarray) else converted

        return convert


class Resize(MapStep):
    """Scales all pictures to one size, so that the rows become one UINT8 array [n,height,width,channels]."""

    op: Literal["resize"]
    width: Pixels
    height: Pixels
    interpolation: Literal["nearest", "linear", "area", "cubic", "lanczos"] = "area"

    def row_bytes(self) -> int:
        return 3 * self.width * self.height

    def made_bytes(self, env: Environment) -> int:
        return env.rows * self.row_bytes()

    def function(self, scope: Scope) -> Callable[[Any], Array]:
        width, height, interpolation = self.width, self.height, _INTERPOLATIONS[self.interpolation]

        def resize(pictures: Sequence[Array] | Array) -> Array:
            out = np.zeros(0)
            for row, picture in enumerate(pictures):
                if not row:
                    out = np.zeros((len(pictures), height, width, *picture.shape[2:]), picture.dtype)
                elif (picture.shape[2:], picture.dtype) != (out.shape[3:], out.dtype):
                    # OpenCV would leave the row of `out` as it is, and put its result into an array of its own.
                    raise ContractViolation(f"want pictures of one kind, got {_kind(picture)} after {_kind(out[0])}")
                cv2.resize(picture, (width, height), dst=out[row], interpolation=interpolation)
            return out

        return resize


def _kind(picture: Array) -> str:
    return f"{picture.dtype}[height,width{''.join(f',{channels}' for channels in picture.shape[2:])}]"


class Normalize(MapStep):
    """`x * scale + offset` in FP32; one number, or one for each channel (the last dimension)."""

    op: Literal["normalize"]
    scale: NumberOrList
    offset: NumberOrList = 0.0

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        scales, offsets = (len(v) if isinstance(v, tuple) else 1 for v in (self.scale, self.offset))
        if scales != offsets and 1 not in (scales, offsets):
            yield "offset", f"{offsets} numbers, but scale has {scales}"

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=facts.get(self.input, Facts()).width)}

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        scale = np.asarray(self.scale, np.float32)
        offset = np.asarray(self.offset, np.float32)

        def normalize(values: Array) -> Array:
            out = np.multiply(values, scale, dtype=np.float32)
            out += offset
            return out

        return normalize


class Layout(MapStep):
    """Orders the dimensions of a picture array for the model, and gives it the model's datatype."""

    op: Literal["layout"]
    order: Literal["nchw", "nhwc"]
    datatype: Literal["FP16", "FP32", "UINT8"] = "FP32"

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        dtype, channels_first = TO_NUMPY[self.datatype], self.order == "nchw"

        def layout(pictures: Array) -> Array:
            if pictures.ndim == 3:  # grey: one channel
                pictures = pictures[..., np.newaxis]
            ordered = pictures.transpose(0, 3, 1, 2) if channels_first else pictures
            return np.ascontiguousarray(ordered, dtype=dtype)

        return layout


STEPS: Final[tuple[type[Step], ...]] = (DecodeImage, Crop, ConvertColor, Resize, Normalize, Layout)
