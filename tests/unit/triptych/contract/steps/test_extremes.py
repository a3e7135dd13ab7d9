"""The smallest and largest value of an array: by Python for few values, by numpy for many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from triptych.contract.steps.base import FEW, extremes
from triptych.datatypes import FLOATS, TO_NUMPY

NUMBERS = [name for name in TO_NUMPY if name not in ("BYTES", "BOOL")]


@pytest.mark.parametrize("datatype", NUMBERS)
@pytest.mark.parametrize("size", [1, 2, FEW, FEW + 1], ids=["one", "two", "few", "many"])
def test_they_are_those_of_numpy(datatype: str, size: int) -> None:
    dtype = TO_NUMPY[datatype]
    limits = np.finfo(dtype) if datatype in FLOATS else np.iinfo(dtype)
    values = np.random.default_rng(1).permutation(np.resize(np.array([3, limits.max, limits.min, 0], dtype), size))
    assert extremes(values.reshape(1, size)) == (values.min(), values.max())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("others", [[], [1.0], [-math.inf, math.inf]], ids=["alone", "a number", "infinities"])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_not_finite_is_seen_wherever_it_is(bad: float, others: list[float], first: bool) -> None:
    values = np.array([bad, *others] if first else [*others, bad], np.float64)
    np.testing.assert_equal(np.array(extremes(values)), np.array([values.min(), values.max()]))
