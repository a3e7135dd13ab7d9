"""Steps on the size of pictures. Those whose result has one size make the array that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal, Self

import cv2
import numpy as np
from PIL import Image
from pydantic import Discriminator, Field, Tag, model_validator

from triptych.contract.specs import Name
from triptych.contract.steps.base import Environment, Facts, MapStep, Run, Scope, Step
from triptych.contract.steps.pictures.pictures import MAX_SIDE, Pictures, Pixels, Rounding, rounded, stacked
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidInput

_INTERPOLATIONS: Final[Mapping[str, int]] = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
_ANTIALIASED: Final[Mapping[str, Image.Resampling]] = {
    "linear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "cubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MAX_PIXELS: Final = 25_000_000  # of a resized picture whose size depends on the caller's


def _tag(value: object) -> str:
    return "(list)" if isinstance(value, (list, tuple)) else "(name)"


Box = Annotated[tuple[int, int, int, int], Field(strict=False)]
Size = Annotated[tuple[Pixels, Pixels], Field(strict=False)]
NameOrBox = Annotated[Annotated[Name, Tag("(name)")] | Annotated[Box, Tag("(list)")], Discriminator(_tag)]
Scaled = Callable[[Array, int, int, Array | None], Array]  # a picture, width, height, where to put the result


class SizedStep(MapStep):
    """A step whose result has the same size in every row, if its fields say so."""

    def size(self) -> tuple[int, int]:
        """Width and height of the result; 0 if each row has its own."""
        raise NotImplementedError

    def row_bytes(self) -> int:
        width, height = self.size()
        return 3 * width * height

    def made_bytes(self, env: Environment) -> int:
        return env.rows * self.row_bytes()

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        return max((array.shape[0] for array in inputs.values() if array.shape), default=0) * self.row_bytes()


class Crop(SizedStep):
    """Cuts a box out of each picture: x, y, width, height in pixels, from an input or constant; or its centre.

    Nothing happens when `box` is an optional input that the request left out. `center` is width and height, placed as
    torchvision's `center_crop` does. A picture that is smaller than the box is refused.
    """

    op: Literal["crop"]
    box: Annotated[NameOrBox | None, Field(description="an input INT32 [n,4], or four numbers")] = None
    center: Annotated[Size | None, Field(description="width and height, instead of `box`")] = None
    rounding: Annotated[
        Literal["nearest", "down"], Field(description="of the half pixel before `center`: PaddleClas has `down`")
    ] = "nearest"

    @model_validator(mode="after")
    def _one_box(self) -> Self:
        if (self.box is None) == (self.center is None):
            raise ValueError("give box or center")
        if isinstance(self.box, tuple):
            x, y, width, height = self.box
            if min(x, y) < 0 or min(width, height) < 1 or max(self.box) > MAX_SIDE:
                raise ValueError(f"box: want x, y >= 0, width, height >= 1, all at most {MAX_SIDE}; got {self.box}")
        return self

    def reads(self) -> Iterator[tuple[str, str, bool]]:
        yield "input", self.input, True
        if isinstance(self.box, str):
            yield "box", self.box, False

    def examples(self) -> dict[str, object]:
        return {self.box: (1, 2, 6, 5)} if isinstance(self.box, str) else {}

    def size(self) -> tuple[int, int]:
        if isinstance(self.box, tuple):
            return self.box[2], self.box[3]
        return self.center or (0, 0)

    def compile(self, scope: Scope) -> Run:
        source, target = self.input, self.result
        if isinstance(self.box, str):
            return _crop_by(source, target, self.box)
        width, height = self.size()
        fixed = self.box[:2] if isinstance(self.box, tuple) else None
        before = _middle if self.rounding == "nearest" else _half
        least = f"{width}x{height}" if fixed is None else f"{fixed[0] + width}x{fixed[1] + height}"

        def place(row: int, picture: Array, out: Array) -> None:
            free_x, free_y = picture.shape[1] - width, picture.shape[0] - height
            x, y = fixed or (before(free_x), before(free_y))
            if x > free_x or y > free_y or min(free_x, free_y) < 0:
                raise InvalidInput(source, f"pictures of at least {least} pixels", f"row {row}: {size_of(picture)}")
            out[...] = picture[y : y + height, x : x + width]

        def run(env: Environment) -> None:
            env[target] = stacked(env[source], height, width, place)

        return run


def _middle(free: int) -> int:
    """Pixels before a part in the middle, of those that are free. Half a pixel goes to the even one, as torchvision."""
    return round(free / 2)


def _half(free: int) -> int:
    return free // 2


def size_of(picture: Array) -> str:
    """`640x480`, width and height."""
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _crop_by(source: str, target: str, box: str) -> Run:
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


class Resize(SizedStep):
    """Scales pictures to `width` and `height`, or to a size that keeps their shape.

    One of: `width` and `height`; the same with `fit: inside`, the largest size within both that keeps the shape; one of
    the two; `shortest_edge`; `longest_edge`. The other side is rounded to the nearest pixel, for `shortest_edge` cut as
    in torchvision, unless `rounding` says otherwise: YOLOX has `down`, PaddleOCR `up`. With `width` and `height` alone,
    the rows become one array [n,height,width,channels]; otherwise `crop` or `pad` makes one of them.

    OpenCV interpolates. With `antialias` it is Pillow, as torchvision does it for pictures: the filter is as wide as
    the reduction. `area` is antialiased by itself.
    """

    op: Literal["resize"]
    width: Pixels | None = None
    height: Pixels | None = None
    fit: Literal["stretch", "inside"] = "stretch"
    rounding: Annotated[
        Rounding | None,
        Field(description="of a side that is computed: `nearest` when left out, `down` for `shortest_edge`"),
    ] = None
    shortest_edge: Pixels | None = None
    longest_edge: Pixels | None = None
    interpolation: Literal["nearest", "linear", "area", "cubic", "lanczos"] = "area"
    antialias: Annotated[bool, Field(description="as Pillow and torchvision; not for `nearest`")] = False

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        sizes = [name for name in ("shortest_edge", "longest_edge") if getattr(self, name) is not None] + [
            "width and height"
        ] * (self.width is not None or self.height is not None)
        if len(sizes) != 1:
            got = " and ".join(sizes) or "none"
            raise ValueError(f"give width and height, one of them, shortest_edge or longest_edge; got {got}")
        if self.fit == "inside" and (self.width is None or self.height is None):
            raise ValueError("fit: inside needs width and height")
        if self.antialias and self.interpolation not in _ANTIALIASED:
            raise ValueError(f"antialias: want interpolation {', '.join(_ANTIALIASED)}; got {self.interpolation}")
        return self

    @property
    def is_exact(self) -> bool:
        """Whether all results have one size."""
        return self.width is not None and self.height is not None and self.fit == "stretch"

    def size(self) -> tuple[int, int]:
        return (self.width or 0, self.height or 0) if self.is_exact or self.fit == "inside" else (0, 0)

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        if self.size() == (0, 0):  # the size depends on the caller's picture: not on the event loop
            return 3 * MAX_PIXELS
        return super().unpacked_bytes(inputs)

    def compile(self, scope: Scope) -> Run:
        source, target = self.input, self.result
        scaled = _pillow(_ANTIALIASED[self.interpolation]) if self.antialias else _opencv(self.interpolation)
        if not self.is_exact:
            size_for, most = self._size_for, f"at most {MAX_SIDE} pixels a side and {MAX_PIXELS} in all when resized"

            def resize(picture: Array, row: int) -> Array:
                width, height = size_for(picture.shape[1], picture.shape[0])
                if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
                    raise InvalidInput(source, most, f"row {row}: {size_of(picture)} to {width}x{height}")
                return scaled(picture, width, height, None)

            def run(env: Environment) -> None:
                pictures = env[source]
                env[target] = Pictures(len(pictures), lambda row: resize(pictures[row], row))

            return run
        width, height = self.width or 0, self.height or 0

        def place(_row: int, picture: Array, out: Array) -> None:
            scaled(picture, width, height, out)

        def run_exact(env: Environment) -> None:
            env[target] = stacked(env[source], height, width, place)

        return run_exact

    def _size_for(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result for a picture of that size."""
        if self.shortest_edge is not None:
            shortest = self.shortest_edge
            other = int(rounded(shortest * max(width, height) / min(width, height), self.rounding or "down"))
            return (shortest, other) if width <= height else (other, shortest)
        if self.longest_edge is not None:
            factor = self.longest_edge / max(width, height)
        else:
            factors = [want / side for want, side in ((self.width, width), (self.height, height)) if want is not None]
            factor = min(factors)
        rounding = self.rounding or "nearest"
        return int(rounded(width * factor, rounding)), int(rounded(height * factor, rounding))


def _opencv(interpolation: str) -> Scaled:
    flag = _INTERPOLATIONS[interpolation]
    return lambda picture, width, height, out: cv2.resize(picture, (width, height), dst=out, interpolation=flag)


def _pillow(resampling: Image.Resampling) -> Scaled:
    def scaled(picture: Array, width: int, height: int, out: Array | None) -> Array:
        if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)):
            raise ContractViolation(f"antialias: want UINT8 pictures of 1 or 3 channels, got {picture.dtype}")
        result = np.asarray(Image.fromarray(picture).resize((width, height), resampling))
        if out is not None:
            out[...] = result
        return result

    return scaled


class ImageSize(MapStep):
    """Width and height of each picture in pixels, INT32 [n,2]; of decoded files, by the header alone.

    Before `resize` these are the sizes of the caller's pictures, which `scale_boxes` takes in postprocess.
    """

    op: Literal["image_size"]
    output: Name

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.output: Facts(width=2)}

    def function(self, scope: Scope) -> Callable[[Sequence[Array]], Array]:
        def sizes(pictures: Sequence[Array]) -> Array:
            if isinstance(pictures, Pictures):
                return np.array([pictures.size(row) for row in range(len(pictures))], np.int32).reshape(-1, 2)
            return np.array([picture.shape[1::-1] for picture in pictures], np.int32).reshape(-1, 2)

        return sizes


STEPS: Final[tuple[type[Step], ...]] = (Crop, Resize, ImageSize)
