"""Pictures as requests, and the model's input that a contract makes of them.

Training uses the contract's steps, which preprocess runs too, so the inputs of training and serving cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from examples.models import contracts
from examples.models.countries import random_stream
from examples.models.digits.handwriting import Handwriting
from examples.models.digits.render import Format, encode, render
from triptych.contract import Plan, parse_contract


class Question(NamedTuple):
    """One row of a request, and the digit that it shows."""

    image: bytes
    box: tuple[int, int, int, int] | None
    digit: int


def question(samples: Handwriting, row: int, style: str, variant: str, boxed: bool, wobble: float = 0.0) -> Question:
    """Render a sample as a file in the style of a country."""
    seed = f"{samples.numbers[row]}/{variant}"
    draw = random_stream("file", style, seed)
    form: Format = "jpeg" if draw.random() < 0.5 else "png"
    picture, box = render(samples.images[row], style, seed, boxed, wobble)
    return Question(encode(picture, form, int(draw.integers(70, 96))), box, int(samples.digits[row]))


def held_out_questions(samples: Handwriting, style: str, count: int) -> list[Question]:
    """The pictures for a country's accuracy; every second one has a box."""
    return [
        question(samples, number % len(samples.digits), style, f"held out {number}", boxed=number % 2 == 1)
        for number in range(count)
    ]


def pixels(plan: Plan, questions: Sequence[Question]) -> NDArray[np.float32]:
    """The model's input for the questions, in their order."""
    rows = np.empty((len(questions), 3, contracts.PICTURE_PIXELS, contracts.PICTURE_PIXELS), np.float32)
    for boxed in (False, True):  # a request has boxes for all of its rows or for none
        chosen = [number for number, q in enumerate(questions) if (q.box is not None) == boxed]
        for start in range(0, len(chosen), contracts.DIGITS_MAX_ROWS):
            part = chosen[start : start + contracts.DIGITS_MAX_ROWS]
            inputs = request_inputs([questions[number] for number in part])
            plan.check_inputs(inputs)
            rows[part] = plan.preprocess(inputs)["pixels"]
    return rows


def request_inputs(questions: Sequence[Question]) -> dict[str, NDArray[np.object_] | NDArray[np.int32]]:
    """The tensors of a request; all questions have a box, or none."""
    inputs: dict[str, NDArray[np.object_] | NDArray[np.int32]] = {
        "image": np.array([q.image for q in questions], dtype=np.object_)
    }
    boxes = [q.box for q in questions if q.box is not None]
    if boxes:
        inputs["box"] = np.array(boxes, dtype=np.int32)
    return inputs


def digits_plan(code: str = "GB", version: int = 1) -> Plan:
    """The steps of a digits contract; those before the model are the same for every country."""
    text = contracts.digits(code, version)
    return Plan(parse_contract(text.encode(), f"digits_{code.lower()}/{version}/contract.yaml"))
