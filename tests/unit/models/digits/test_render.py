"""Pictures of handwriting: the same every time, within bounds, legible."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from examples.models.countries import random_stream
from examples.models.digits.handwriting import HELD_OUT_SAMPLES, read_held_out
from examples.models.digits.pictures import digits_plan, held_out_questions, pixels
from examples.models.digits.render import GLYPH_PIXELS, SCENE_SIZES, encode, render
from examples.models.digits.styles import MIN_CONTRAST, STYLES, colours, luma

SAMPLES = read_held_out()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("boxed", [False, True])
def test_a_picture_is_the_same_whenever_it_is_drawn(style: str, boxed: bool) -> None:
    first, again = (render(SAMPLES.images[3], style, "seed", boxed) for _ in range(2))
    other = render(SAMPLES.images[3], style, "another seed", boxed)
    assert (first.picture == again.picture).all()
    assert first.box == again.box
    assert first.picture.shape != other.picture.shape or (first.picture != other.picture).any()


@pytest.mark.parametrize("number", range(20))
def test_a_box_lies_within_its_picture(number: int) -> None:
    picture, box = render(SAMPLES.images[number], "any", str(number), boxed=True)
    assert box is not None
    x, y, width, height = box
    tall, wide = picture.shape[:2]
    assert (wide, tall) in SCENE_SIZES
    assert x >= 0
    assert y >= 0
    assert min(width, height) > 0.6 * GLYPH_PIXELS[0]
    assert x + width <= wide
    assert y + height <= tall


def test_a_picture_is_larger_than_what_the_model_sees() -> None:
    pictures = [render(SAMPLES.images[n], "GB", str(n), boxed=False).picture for n in range(20)]
    assert all(min(picture.shape[:2]) > 32 and picture.shape[2] == 3 for picture in pictures)


@pytest.mark.parametrize("style", STYLES)
def test_ink_has_contrast_to_paper(style: str) -> None:
    draw = random_stream("test", style)
    for _ in range(50):
        paper, ink = colours(STYLES[style], draw)
        assert abs(luma(paper) - luma(ink)) >= MIN_CONTRAST


def test_a_png_holds_the_picture_unchanged() -> None:
    picture = render(SAMPLES.images[0], "ES", "png", boxed=False).picture
    decoded = cv2.imdecode(np.frombuffer(encode(picture, "png"), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    assert (decoded == picture).all()


def test_bending_changes_the_strokes_and_is_the_same_every_time() -> None:
    straight, bent, again = (render(SAMPLES.images[0], "GB", "bend", False, wobble).picture for wobble in (0, 0.5, 0.5))
    assert (bent == again).all()
    assert straight.shape != bent.shape or (straight != bent).any()


def test_the_held_out_samples_are_real_and_of_all_digits() -> None:
    assert SAMPLES.images.shape == (HELD_OUT_SAMPLES, 8, 8)
    assert SAMPLES.images.max() == 16
    assert len(set(SAMPLES.numbers.tolist())) == HELD_OUT_SAMPLES
    assert np.bincount(SAMPLES.digits).min() >= 30


def test_the_questions_of_the_evaluation_do_not_change_and_half_have_a_box() -> None:
    first, again = (held_out_questions(SAMPLES, "JP", 6) for _ in range(2))
    assert [hashlib.sha256(q.image).digest() for q in first] == [hashlib.sha256(q.image).digest() for q in again]
    assert [q.box is not None for q in first] == [False, True] * 3


def test_the_contracts_steps_scale_pictures_to_the_models_range() -> None:
    shown = pixels(digits_plan(), held_out_questions(SAMPLES, "FR", 6))
    assert shown.shape == (6, 3, 32, 32)
    assert shown.min() >= -1.0
    assert shown.max() <= 1.0
    assert np.abs(shown).sum(axis=(1, 2, 3)).min() > 0
