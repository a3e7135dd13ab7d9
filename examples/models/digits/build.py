"""Training, check and publication of the digits models."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from examples.models import contracts, publish
from examples.models.digits import train as digits_train
from examples.models.digits.handwriting import HELD_OUT_SAMPLES, Handwriting, split
from examples.models.digits.pictures import digits_plan, held_out_questions, pixels, question
from examples.models.digits.styles import ANY
from examples.models.labels import DIGIT_WORDS, class_order, versions
from examples.models.onnx_graphs import digits_graph
from examples.models.progress import TaskProgress
from examples.models.triton_config import digits_config

HELD_OUT_PICTURES: Final = HELD_OUT_SAMPLES  # a country
_RENDERINGS: Final = 3  # of each training sample, in the style of each country
_RENDERINGS_ANY: Final = 2
_WOBBLE: Final = 0.35  # of a sample's pixel
_BOXED_EVERY: Final = 16  # the crop of a scene looks like a sheet, and costs five times as much to draw
_BASE_EPOCHS, _BASE_RATE = 12, 2e-3
_OWN_EPOCHS, _OWN_RATE = 2, 5e-4

Floats = NDArray[np.float32]
Digits = NDArray[np.uint8]
Weights = dict[str, Floats]


class DigitsResult(NamedTuple):
    """Accuracy of one country's network on its held-out pictures, and that of the base network."""

    code: str
    own: float
    base: float


def build(codes: Sequence[str], repository: Path, pool: Executor, progress: TaskProgress) -> list[DigitsResult]:
    """Train and publish digits_<cc> for the countries."""
    jobs = [(style, number) for style in (*DIGIT_WORDS, ANY) for number in range(_renderings(style))]
    drawn = list(progress.over("digits: drawing pictures", pool.map(_draw, *zip(*jobs, strict=True)), len(jobs)))
    styles = np.array([style for style, _ in jobs])
    shown, digits = np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])  # [jobs, samples, ...]
    progress.begin("digits: training the base network")
    base = _train(digits_train.initial(1), _flat(shown), digits.reshape(-1), _BASE_EPOCHS, _BASE_RATE)
    own = [(code, base, shown[mine], digits[mine]) for code in codes for mine in [(styles == code) | (styles == ANY)]]
    finished = pool.map(_finish, *zip(*own, strict=True))
    results = []
    for weights, result, sample in progress.over("digits: countries", finished, len(codes)):
        _publish(result.code, weights, sample, repository)
        results.append(result)
    return results


def _renderings(style: str) -> int:
    return _RENDERINGS_ANY if style == ANY else _RENDERINGS


def _draw(style: str, number: int) -> tuple[Floats, Digits]:
    """One picture of each training sample, as the model's input."""
    samples: Handwriting = split()[0]
    questions = [
        question(samples, row, style, f"training {number}", row % _BOXED_EVERY == number, _WOBBLE)
        for row in range(len(samples.digits))
    ]
    return pixels(digits_plan(), questions), samples.digits


def _finish(code: str, base: Weights, shown: Floats, digits: Digits) -> tuple[Weights, DigitsResult, Floats]:
    """Train a country's network. Returns its weights, its accuracy, and some held-out pixels."""
    weights = _train(base, _flat(shown), digits.reshape(-1), _OWN_EPOCHS, _OWN_RATE)
    questions = held_out_questions(split()[1], code, HELD_OUT_PICTURES)
    unseen, truth = pixels(digits_plan(), questions), np.array([q.digit for q in questions], np.uint8)
    own, before = (digits_train.accuracy(w, unseen, truth) for w in (weights, base))
    return weights, DigitsResult(code, own, before), unseen[: contracts.DIGITS_MAX_ROWS]


def _train(start: Weights, shown: Floats, digits: Digits, epochs: int, rate: float) -> Weights:
    trained = digits_train.train(start, shown, digits, epochs, rate, seed=1)
    return {name: np.asarray(value) for name, value in trained.items()}


def _flat(shown: Floats) -> Floats:
    return shown.reshape(-1, *shown.shape[2:])


def _publish(code: str, weights: Weights, sample: Floats, repository: Path) -> None:
    name = f"digits_{code.lower()}"
    expected = np.asarray(digits_train.logits(weights, sample))
    files = {}
    for version in versions(code):
        order = class_order(version)
        graph = digits_graph(weights, order, name)
        publish.check_same(f"{name} version {version}", graph, sample, expected[:, order])
        files[version] = graph, contracts.digits(code, version)
    publish.write_model(repository, name, digits_config(name), files)
