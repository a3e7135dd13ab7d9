"""Steps whose work can take seconds end between two rows once nobody waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import numpy as np
import pytest

from tests.pictures import png, smooth
from tests.small_tokenizers import bert
from tests.unit.triptych.contract.steps.test_audio_steps import decoded, plain
from tests.unit.triptych.contract.steps.test_tokenize_step import tokenized
from triptych.contract import Environment, Scope
from triptych.contract.steps.registry import parse_step
from triptych.errors import DeadlineExceeded
from triptych.runtime.cancellation import CANCELLED


@pytest.fixture
def nobody_waits() -> Iterator[None]:
    cancelled = Event()
    cancelled.set()
    token = CANCELLED.set(cancelled)
    yield
    CANCELLED.reset(token)


def pictures() -> Any:
    files = np.empty(1, np.object_)
    files[0] = png(smooth(20, 10))
    env = Environment({"image": files}, 1, {})
    for step in ({"op": "decode_image", "input": "image"}, {"op": "resize", "input": "image", "width": 4, "height": 4}):
        parse_step(step).compile(Scope())(env)
    return env


WORK = {
    "pictures": pictures,
    "sounds": lambda: decoded(plain()),
    "another rate": lambda: decoded(plain(rate=16_000), other_rates="resample"),
    "texts": lambda: tokenized(bert(), [b"dog"]),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_work_that_nobody_waits_for_ends(work: Any, nobody_waits: None) -> None:
    with pytest.raises(DeadlineExceeded, match="was given up before its work was done"):
        work()


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_work_that_somebody_waits_for_goes_on(work: Any) -> None:
    assert work() is not None
