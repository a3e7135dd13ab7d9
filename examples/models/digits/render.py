"""Rendering of 8x8 pixels of handwriting to colour pictures, larger than the model's input.

There are two kinds: a *sheet*, which the digit fills, and a *scene*, a larger picture with a sheet in it and a box
around it. All random numbers come from a stream named by style, sample and variant, so a picture is reproducible.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.models.countries import random_stream
from examples.models.digits.styles import ANY, STYLES, Style, colours, pick

Format = Literal["png", "jpeg"]
Picture = NDArray[np.uint8]  # [height, width, 3], RGB
Sample = NDArray[np.uint8]  # [8, 8], 0 to 16

GLYPH_PIXELS: Final = (60, 200)  # height of the digit in the picture
SCENE_SIZES: Final = ((640, 480), (480, 640), (800, 600), (512, 512))  # width, height


class Rendered(NamedTuple):
    """A picture and, for a scene, the box of the digit in it."""

    picture: Picture
    box: tuple[int, int, int, int] | None  # x, y, width, height


def render(sample: Sample, style: str, seed: str, boxed: bool, wobble: float = 0.0) -> Rendered:
    """Render one sample; the same arguments always give the same picture.

    `wobble` bends the strokes by about that many pixels of the sample, to augment the training data.
    """
    draw = random_stream("picture", style, seed, str(boxed))
    sample = _bend(sample, wobble, draw) if wobble else sample
    if not boxed:
        return Rendered(sheet(sample, STYLES[style], draw), None)
    width, height = SCENE_SIZES[int(draw.integers(len(SCENE_SIZES)))]
    return scene(sheet(sample, STYLES[style], draw), width, height, draw)


def encode(picture: Picture, form: Format, quality: int = 90) -> bytes:
    """The picture as the bytes of a file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if form == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, data = cv2.imencode(f".{form}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV could not write a {form} of {picture.shape}")
    return data.tobytes()


def sheet(sample: Sample, style: Style, draw: np.random.Generator) -> Picture:
    """A digit in ink that fills most of the paper."""
    glyph = float(draw.uniform(*GLYPH_PIXELS))
    height = round(glyph * draw.uniform(1.1, 1.45))
    width = round(height * draw.uniform(0.8, 1.2))
    ink_cover = _strokes(sample, glyph, width, height, draw)
    paper, ink = colours(style, draw)
    under = _paper(paper, width, height, draw)
    if draw.random() < style.ruled:
        _rule(under, glyph, draw)
    mixed = under + ink_cover[..., None] * (ink.astype(np.float32) - under)
    return _develop(mixed, draw)


def scene(card: Picture, width: int, height: int, draw: np.random.Generator) -> Rendered:
    """A card on a table with other coloured objects; the box fits it to a few pixels."""
    tall, wide = card.shape[:2]
    table = _paper(pick(STYLES[ANY].pairs[0][0], draw), width, height, draw)
    for _ in range(int(draw.integers(2, 6))):
        _thing(table, draw)
    picture = _develop(table, draw)
    x, y = int(draw.integers(0, width - wide + 1)), int(draw.integers(0, height - tall + 1))
    picture[y : y + tall, x : x + wide] = card
    slack = [int(s) for s in draw.integers(0, 1 + round(0.04 * tall), 4)]
    left, top = x + slack[0], y + slack[1]
    return Rendered(picture, (left, top, x + wide - slack[2] - left, y + tall - slack[3] - top))


def _bend(sample: Sample, wobble: float, draw: np.random.Generator) -> Sample:
    """Bend a sample: move each pixel by a smooth random field."""
    field = cv2.resize(draw.normal(0, wobble, (4, 4, 2)).astype(np.float32), (8, 8), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[0:8, 0:8].astype(np.float32)
    bent = cv2.remap(sample.astype(np.float32), columns + field[..., 0], rows + field[..., 1], cv2.INTER_CUBIC)
    return np.asarray(np.clip(np.rint(bent), 0, 16), np.uint8)


def _strokes(sample: Sample, glyph: float, width: int, height: int, draw: np.random.Generator) -> NDArray[Any]:
    """Share of ink on each pixel, 0 to 1: the sample enlarged, rotated, slanted and shifted."""
    scale = glyph / 8
    angle, slant = np.deg2rad(draw.uniform(-12, 12)), draw.uniform(-0.12, 0.12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[draw.uniform(0.88, 1.12), slant], [0.0, 1.0]])
    spare = 0.5 * np.array([max(width - glyph, 0.0), max(height - glyph, 0.0)])
    centre = np.array([width, height]) / 2 + draw.uniform(-0.7, 0.7, 2) * spare
    shift = centre - matrix @ np.array([3.5, 3.5])
    cover = cv2.warpAffine(
        sample.astype(np.float32) / 16, np.column_stack([matrix, shift]), (width, height), flags=cv2.INTER_CUBIC
    )
    threshold, softness = draw.uniform(0.42, 0.6), draw.uniform(0.15, 0.4)
    edge = np.clip((cover - threshold) / softness + 0.5, 0, 1)
    return np.asarray(edge * edge * (3 - 2 * edge) * draw.uniform(0.85, 1.0), np.float32)


def _paper(colour: NDArray[np.uint8], width: int, height: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """Paper with uneven light and mottling, float 0 to 255."""
    slope = draw.uniform(-0.12, 0.12, 2)
    light = 1 + slope[0] * np.linspace(-1, 1, width)[None, :] + slope[1] * np.linspace(-1, 1, height)[:, None]
    coarse = draw.normal(0, 0.025, (6, 8)).astype(np.float32)
    mottle = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(colour.astype(np.float32) * (light + mottle)[..., None], np.float32)


def _rule(paper: NDArray[np.float32], glyph: float, draw: np.random.Generator) -> None:
    """Draw faint horizontal lines on the paper, and in some styles vertical ones."""
    height, width = paper.shape[:2]
    spacing = max(8, int(glyph * draw.uniform(0.22, 0.5)))
    strength, tint = draw.uniform(0.08, 0.28), draw.uniform(90, 200, 3).astype(np.float32)
    thickness = 1 + int(glyph > 110)
    lines = [(slice(y, y + thickness), slice(None)) for y in range(int(draw.integers(spacing)), height, spacing)]
    if draw.random() < 0.5:
        lines += [(slice(None), slice(x, x + thickness)) for x in range(int(draw.integers(spacing)), width, spacing)]
    for line in lines:
        paper[line] += strength * (tint - paper[line])


def _thing(table: NDArray[np.float32], draw: np.random.Generator) -> None:
    """Draw a rectangle or an ellipse of any colour."""
    height, width = table.shape[:2]
    colour = [float(part) for part in pick(STYLES[ANY].pairs[0][0], draw)]
    x, y = int(draw.integers(width)), int(draw.integers(height))
    half_w, half_h = (int(v) for v in draw.integers(20, 160, 2))
    if draw.random() < 0.5:
        cv2.rectangle(table, (x - half_w, y - half_h), (x + half_w, y + half_h), colour, -1)
    else:
        cv2.ellipse(table, (x, y), (half_w, half_h), float(draw.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)


def _develop(pixels: NDArray[np.float32], draw: np.random.Generator) -> Picture:
    """Add camera noise, and round to 8 bits."""
    grain = draw.standard_normal(pixels.shape[:2], dtype=np.float32) * np.float32(draw.uniform(1, 9))
    return np.asarray(np.clip(np.rint(pixels + grain[..., None]), 0, 255), np.uint8)
