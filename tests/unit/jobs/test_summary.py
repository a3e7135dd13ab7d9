"""The running summary: exact, whatever the order in which parts are committed."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.summary import MAX_VALUES, PartSummary, merge, values_of

OPS = {"total": "sum", "middle": "mean", "high": "max", "low": "min", "seen": "count", "label": "vote", "units": "sum"}
DOUBLES = st.floats(allow_nan=True, allow_infinity=True, width=64)
ROWS = st.lists(
    st.tuples(DOUBLES, st.integers(-(2**63), 2**63 - 1), st.sampled_from("abc"), st.booleans()), max_size=30
)


def answers(rows: list[Any]) -> Any:
    """The answers of rows `(double, whole number, word, is bad)`: a bad row has an error, and no answers."""
    doubles = pa.array([None if bad else double for double, _, _, bad in rows], pa.float64())
    labels = [None if bad else [word.encode(), b"z"] for _, _, word, bad in rows]
    units = [None if bad else [whole, 1] for _, whole, _, bad in rows]
    errors = [{"code": "X"} if bad else None for *_, bad in rows]
    return pa.RecordBatch.from_pydict(
        {
            **dict.fromkeys(("total", "middle", "high", "low", "seen"), doubles),
            "label": pa.array(labels, pa.list_(pa.binary())),
            "units": pa.array(units, pa.list_(pa.int64())),
            "error": pa.array(errors, pa.struct([("code", pa.string())])),
        }
    )


def state_of(rows: list[Any]) -> Any:
    """The state of a part, as the ledger keeps it."""
    part = PartSummary(OPS)
    part.add(answers(rows))
    return json.loads(json.dumps(part.state, allow_nan=False))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=4), order=st.randoms())
def test_the_summary_after_any_order_of_commits_is_that_over_all_rows(rows: Any, cuts: Any, order: Any) -> None:
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [state_of(rows[begin:end]) for begin, end in zip(edges, edges[1:], strict=False)]
    order.shuffle(parts)
    merged = None
    for part in parts:
        merged = json.loads(json.dumps(merge(merged, part)))
    assert values_of(merged) == values_of(state_of(rows))
    json.dumps(values_of(merged), allow_nan=False)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_sums_and_means_are_rounded_once(values: list[float]) -> None:
    found = values_of(state_of([(value, 0, "a", False) for value in values]))
    exact = sum(map(Fraction, values))
    assert found["middle"]["mean"] == float(exact / len(values))
    total = found["total"]["sum"]
    try:
        assert total == float(exact) or exact == total
    except OverflowError:
        assert total == ("inf" if exact > 0 else "-inf")
    assert (found["high"]["max"], found["low"]["min"]) == (max(values), min(values))


def test_bad_rows_do_not_count() -> None:
    rows = [(1.5, 7, "a", False), (100.0, 9, "b", True), (2.0, -8, "a", False)]
    assert values_of(state_of(rows)) == {
        "total": {"sum": 3.5, "rows": 2},
        "middle": {"mean": 1.75, "rows": 2},
        "high": {"max": 2.0, "rows": 2},
        "low": {"min": 1.5, "rows": 2},
        "seen": {"count": 2, "rows": 2},
        "label": {"vote": "a", "votes": {"a": 2}, "rows": 2},
        "units": {"sum": [-1, 2], "rows": 2},
    }


def test_nothing_was_answered_yet() -> None:
    empty = values_of(state_of([(1.0, 1, "a", True)]))
    assert empty["total"] == {"sum": None, "rows": 0}
    assert empty["high"] == {"max": None, "rows": 0}
    assert empty["label"] == {"vote": None, "votes": {}, "rows": 0}
    assert values_of(None) == {}


@pytest.mark.parametrize(
    ("values", "total", "high", "low"),
    [
        ([1.0, math.inf], "inf", "inf", 1.0),
        ([1.0, -math.inf], "-inf", 1.0, "-inf"),
        ([math.inf, -math.inf], "nan", "inf", "-inf"),
        ([math.nan, 1.0], "nan", "nan", "nan"),
        ([-math.inf], "-inf", "-inf", "-inf"),
        ([1e308, 1e308], "inf", 1e308, 1e308),
    ],
)
def test_values_that_are_not_finite(values: list[float], total: Any, high: Any, low: Any) -> None:
    found = values_of(state_of([(value, 0, "a", False) for value in values]))
    assert (found["total"]["sum"], found["high"]["max"], found["low"]["min"]) == (total, high, low)


def test_a_tie_goes_to_the_first_in_order() -> None:
    rows = [(0.0, 0, word, False) for word in "bcaabc"]
    assert values_of(state_of(rows))["label"] == {"vote": "a", "votes": {"a": 2, "b": 2, "c": 2}, "rows": 6}


def test_too_many_values_are_no_vote_in_any_order() -> None:
    def part(words: list[str]) -> Any:
        summary = PartSummary({"label": "vote"})
        summary.add(pa.RecordBatch.from_pydict({"label": words}))
        return summary.state

    some, others = [str(word) for word in range(MAX_VALUES)], ["other"]
    assert values_of(part(some))["label"]["vote"] == "0"
    for states in ([some, others, some], [others, some], [[*some, *others]]):
        merged = None
        for words in states:
            merged = merge(merged, part(words))
        assert values_of(merged)["label"]["vote"] is None
    assert values_of(part(["x" * 300]))["label"]["vote"] is None


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.int8(), pa.uint64(), pa.large_list(pa.float32())])
def test_datatypes_of_outputs(kind: Any) -> None:
    values = [[1, 2]] * 3 if pa.types.is_nested(kind) else np.array([1, 2, 3], kind.to_pandas_dtype())
    summary = PartSummary({"x": "sum"})
    summary.add(pa.RecordBatch.from_arrays([pa.array(values, kind)], ["x"]))
    assert values_of(summary.state)["x"]["sum"] == ([3, 6] if pa.types.is_nested(kind) else 6)


def test_without_operations_there_is_no_summary() -> None:
    summary = PartSummary({})
    summary.add(answers([]))
    assert summary.state is None
