"""Style of the pictures by country: papers, inks and ruled lines."""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_CONTRAST: Final = 70.0  # of 255, between the luma of ink and paper

Colour = NDArray[np.uint8]  # [3], RGB


class Shade(NamedTuple):
    """A range of colours: hue in degrees (may run beyond 360), saturation and value from 0 to 1."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]


class Style(NamedTuple):
    """Pairs of (paper, ink), one of which is drawn for a picture, and the share of ruled papers."""

    pairs: tuple[tuple[Shade, Shade], ...]
    ruled: float = 0.0


_WHITE = Shade((0, 360), (0.0, 0.06), (0.88, 1.0))
_CREAM = Shade((35, 60), (0.06, 0.25), (0.85, 1.0))
_YELLOW = Shade((45, 62), (0.45, 0.85), (0.85, 1.0))
_PINK = Shade((320, 350), (0.15, 0.45), (0.85, 1.0))
_TERRACOTTA = Shade((8, 28), (0.35, 0.65), (0.70, 0.95))
_BOARD = Shade((130, 170), (0.30, 0.60), (0.16, 0.32))
_SLATE = Shade((200, 240), (0.05, 0.30), (0.10, 0.28))
_BLACK_INK = Shade((0, 360), (0.0, 0.3), (0.0, 0.22))
_BLUE_INK = Shade((212, 245), (0.65, 1.0), (0.25, 0.75))
_VIOLET_INK = Shade((262, 290), (0.5, 0.9), (0.25, 0.6))
_GREEN_INK = Shade((120, 160), (0.6, 1.0), (0.15, 0.42))
_RED_INK = Shade((348, 368), (0.75, 1.0), (0.55, 0.85))
_CHALK = Shade((0, 360), (0.0, 0.15), (0.85, 1.0))
_YELLOW_CHALK = Shade((45, 60), (0.3, 0.7), (0.85, 1.0))
_ANY = Shade((0, 360), (0.0, 1.0), (0.0, 1.0))

ANY: Final = "any"
STYLES: Final[dict[str, Style]] = {
    "GB": Style(((_WHITE, _BLUE_INK), (_CREAM, _BLUE_INK), (_WHITE, _BLACK_INK)), ruled=0.2),
    "DE": Style(((_YELLOW, _BLACK_INK), (_WHITE, _BLACK_INK), (_YELLOW, _RED_INK))),
    "FR": Style(((_WHITE, _VIOLET_INK), (_WHITE, _BLUE_INK), (_CREAM, _VIOLET_INK)), ruled=0.8),
    "ES": Style(((_TERRACOTTA, _CHALK), (_TERRACOTTA, _BLACK_INK), (_PINK, _GREEN_INK))),
    "JP": Style(((_BOARD, _CHALK), (_SLATE, _YELLOW_CHALK), (_WHITE, _RED_INK), (_BOARD, _YELLOW_CHALK))),
    ANY: Style(((_ANY, _ANY),), ruled=0.3),
}


def luma(colour: Colour) -> float:
    """Luma of a colour, 0 to 255 (ITU-R BT.601)."""
    red, green, blue = (float(part) for part in colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def colours(style: Style, draw: np.random.Generator) -> tuple[Colour, Colour]:
    """Draw paper and ink with enough contrast."""
    paper_shade, ink_shade = style.pairs[int(draw.integers(len(style.pairs)))]
    while True:
        paper, ink = pick(paper_shade, draw), pick(ink_shade, draw)
        if abs(luma(paper) - luma(ink)) >= MIN_CONTRAST:
            return paper, ink


def pick(shade: Shade, draw: np.random.Generator) -> Colour:
    """Draw a colour of the range."""
    hue = draw.uniform(*shade.hue) % 360
    pixel = np.array([[[hue, draw.uniform(*shade.saturation), draw.uniform(*shade.value)]]], np.float32)
    rgb = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]
    return np.asarray(np.clip(np.rint(rgb * 255), 0, 255), np.uint8)
