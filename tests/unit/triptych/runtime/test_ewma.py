"""The moving average follows the latest samples."""

from __future__ import annotations

import pytest

from triptych.runtime.ewma import Ewma


def test_without_an_initial_value_the_first_sample_is_the_average() -> None:
    average = Ewma(0.1)
    assert average.value == 0
    average.add(10)
    assert average.value == 10
    average.add(20)
    assert average.value == pytest.approx(11)


def test_an_initial_value_is_followed_by_the_weight_from_the_first_sample_on() -> None:
    average = Ewma(0.5, initial=0.0)
    average.add(8)
    average.add(8)
    assert average.value == 6
