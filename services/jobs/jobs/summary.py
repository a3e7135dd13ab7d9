"""Running summary of a job: one value of each output that the contract names, over all rows that were answered.

The summary of a part and that of a job are states of one form, JSON, and `merge` joins two of them. It is exact, so the
order of commits does not matter: sums of floating values are fractions, without any rounding. `values_of` rounds once.

    {"total": {"op": "sum", "rows": 3, "sums": ["7/2"], "odd": []}}      sum, mean: a fraction for each element
    {"peak": {"op": "max", "rows": 3, "ends": [9.5], "odd": [[]]}}       max, min: a value, or null without rows
    {"label": {"op": "vote", "rows": 3, "votes": {"8": 2, "3": 1}}}      vote: null beyond MAX_VALUES values
    {"label": {"op": "count", "rows": 3}}

`odd` has the values of an element that are no fractions: "nan", "inf" and "-inf". A row is one that has an answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_VALUES: Final = 1_000  # that a vote counts; more are no vote, whatever the order of the parts
MAX_VALUE_BYTES: Final = 256  # of one of them
ERROR: Final = "error"  # the column of bad rows

State = Mapping[str, Any]


class PartSummary:
    """Collects the summary of one part, batch by batch. `ops` has the operation of each output."""

    def __init__(self, ops: Mapping[str, str]) -> None:
        self._ops = ops
        self.state: State | None = None  # None if nothing is summarised

    def add(self, answers: Any) -> None:
        """Add a `pyarrow.RecordBatch` of answers. Rows with an error do not count."""
        if not self._ops:
            return
        if ERROR in answers.schema.names:
            answers = answers.filter(pc.is_null(answers.column(ERROR)))
        found = {name: {"op": op, **_STATES[op](answers.column(name))} for name, op in self._ops.items()}
        self.state = merge(self.state, found)


def merge(before: State | None, other: State) -> State:
    """The summary of the rows of both. It implements `jobs.ledger.Merge`."""
    if before is None:
        return other
    return {name: _MERGES[after["op"]](before[name], after) for name, after in other.items()}


def values_of(state: State | None) -> dict[str, Any]:
    """The values for people: `{"total": {"sum": 3.5, "rows": 3}}`. Empty without a summary."""
    return {name: {**_VALUES[found["op"]](found), "rows": found["rows"]} for name, found in (state or {}).items()}


# States of one batch.


def _count(column: Any) -> dict[str, Any]:
    return {"rows": len(column) - column.null_count}


def _sum(column: Any) -> dict[str, Any]:
    rows = _rows(column)
    sums, odd = [], []
    for element in rows.T:
        if element.dtype.kind == "f":
            finite = np.isfinite(element)
            odd.append(_odd_names(element[~finite]))
            sums.append(str(_exact_sum(element[finite])))
        else:
            odd.append([])
            sums.append(str(sum(element.tolist())))
    return {"rows": len(rows), "sums": sums, "odd": odd}


def _end(column: Any, choose: Callable[..., Any]) -> dict[str, Any]:
    rows = _rows(column)
    ends, odd = [], []
    for element in rows.T:
        finite = np.isfinite(element) if element.dtype.kind == "f" else np.ones(len(element), bool)
        odd.append(_odd_names(element[~finite]))
        ends.append(choose(element[finite].tolist()) if finite.any() else None)
    return {"rows": len(rows), "ends": ends, "odd": odd}


def _vote(column: Any) -> dict[str, Any]:
    firsts = [_first(value) for value in column.drop_null().to_pylist()]
    votes = Counter(_word(value) for value in firsts if value is not None)
    return {"rows": len(firsts), "votes": _limited(votes)}


def _first(value: Any) -> Any:
    """The first element of a row; None if it has none."""
    while isinstance(value, list):
        value = value[0] if value else None
    return value


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _limited(votes: Mapping[str, int]) -> dict[str, int] | None:
    if len(votes) > MAX_VALUES or any(len(word.encode(errors="replace")) > MAX_VALUE_BYTES for word in votes):
        return None
    return dict(votes)


def _rows(column: Any) -> np.ndarray[Any, Any]:
    """The values of rows that have any, as [rows, elements]."""
    column = column.drop_null()
    count = len(column)
    while pa.types.is_nested(column.type):
        column = column.flatten()
    values: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
    return values.reshape(count, -1) if count else values.reshape(0, 0)


def _exact_sum(values: np.ndarray[Any, Any]) -> Fraction:
    """The sum of finite doubles without any rounding.

    Each is a whole number of 53 bits times a power of 2. Halves of these numbers are added for each power, which the 53
    bits of a double hold up to 2**26 rows.
    """
    mantissas, exponents = np.frexp(values)
    numbers = np.ldexp(mantissas, 53).astype(np.int64)
    powers, places = np.unique(exponents, return_inverse=True)
    high, low = np.bincount(places, numbers >> 27), np.bincount(places, numbers & ((1 << 27) - 1))
    total = Fraction(0)
    for power, above, below in zip(powers.tolist(), high.tolist(), low.tolist(), strict=True):
        number = (int(above) << 27) + int(below)
        shift = power - 53
        total += Fraction(number << shift) if shift >= 0 else Fraction(number, 1 << -shift)
    return total


def _odd_names(values: np.ndarray[Any, Any]) -> list[str]:
    return sorted({"nan" if math.isnan(value) else "inf" if value > 0 else "-inf" for value in values.tolist()})


# Two states as one.


def _joined_odd(before: State, after: State) -> list[list[str]]:
    return [sorted({*one, *two}) for one, two in zip(before["odd"], after["odd"], strict=True)]


def _merge_count(before: State, after: State) -> State:
    return {"op": after["op"], "rows": before["rows"] + after["rows"]}


def _merge_sum(before: State, after: State) -> State:
    if not (before["rows"] and after["rows"]):  # which has no elements
        return after if after["rows"] else before
    pairs = zip(before["sums"], after["sums"], strict=True)
    sums = [str(Fraction(one) + Fraction(two)) for one, two in pairs]
    return {**_merge_count(before, after), "sums": sums, "odd": _joined_odd(before, after)}


def _merge_end(before: State, after: State, choose: Callable[..., Any]) -> State:
    if not (before["rows"] and after["rows"]):
        return after if after["rows"] else before
    pairs = zip(before["ends"], after["ends"], strict=True)
    ends = [choose((each for each in pair if each is not None), default=None) for pair in pairs]
    return {**_merge_count(before, after), "ends": ends, "odd": _joined_odd(before, after)}


def _merge_vote(before: State, after: State) -> State:
    votes = None
    if before["votes"] is not None and after["votes"] is not None:
        votes = _limited(Counter(before["votes"]) + Counter(after["votes"]))
    return {**_merge_count(before, after), "votes": votes}


# Values for people.


def _value_count(found: State) -> dict[str, Any]:
    return {"count": found["rows"]}


def _value_sum(found: State) -> dict[str, Any]:
    pairs = zip(found["sums"], found["odd"], strict=True)
    return {"sum": _one_or_all([_special(odd) or _number(Fraction(each)) for each, odd in pairs])}


def _value_mean(found: State) -> dict[str, Any]:
    pairs = zip(found["sums"], found["odd"], strict=True)
    return {"mean": _one_or_all([_special(odd) or float(Fraction(each) / found["rows"]) for each, odd in pairs])}


def _value_end(found: State) -> dict[str, Any]:
    first, last = ("inf", "-inf") if found["op"] == "max" else ("-inf", "inf")
    values = []
    for end, odd in zip(found["ends"], found["odd"], strict=True):
        if "nan" in odd:
            values.append("nan")
        elif first in odd:
            values.append(first)
        else:
            values.append(last if end is None and last in odd else end)
    return {found["op"]: _one_or_all(values)}


def _value_vote(found: State) -> dict[str, Any]:
    """The value with the most votes; of several the first in order. None beyond the limit of values, or without any."""
    votes = found["votes"]
    if votes is None:
        return {"vote": None, "reason": f"more than {MAX_VALUES} values, or one of more than {MAX_VALUE_BYTES} bytes"}
    ordered = dict(sorted(votes.items(), key=lambda each: (-each[1], each[0])))
    return {"vote": next(iter(ordered), None), "votes": ordered}


def _special(odd: Sequence[str]) -> str:
    """The sum of values that are not finite; '' without any."""
    return "nan" if len(odd) > 1 else odd[0] if odd else ""


def _number(sum_: Fraction) -> int | float | str:
    """A whole number as it is: JSON has them of any size."""
    if sum_.denominator == 1 and abs(sum_) < 1 << 63:
        return int(sum_)
    try:
        return float(sum_)
    except OverflowError:
        return "inf" if sum_ > 0 else "-inf"


def _one_or_all(values: Sequence[Any]) -> Any:
    """The value of an output with one value a row; None before the first row."""
    return list(values) if len(values) > 1 else values[0] if values else None


_STATES: Final[Mapping[str, Callable[[Any], dict[str, Any]]]] = {
    "count": _count,
    "sum": _sum,
    "mean": _sum,
    "max": lambda column: _end(column, max),
    "min": lambda column: _end(column, min),
    "vote": _vote,
}
_MERGES: Final[Mapping[str, Callable[[State, State], State]]] = {
    "count": _merge_count,
    "sum": _merge_sum,
    "mean": _merge_sum,
    "max": lambda before, after: _merge_end(before, after, max),
    "min": lambda before, after: _merge_end(before, after, min),
    "vote": _merge_vote,
}
_VALUES: Final[Mapping[str, Callable[[State], dict[str, Any]]]] = {
    "count": _value_count,
    "sum": _value_sum,
    "mean": _value_mean,
    "max": _value_end,
    "min": _value_end,
    "vote": _value_vote,
}
