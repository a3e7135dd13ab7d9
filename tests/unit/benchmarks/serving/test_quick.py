"""Comparison with the committed figures: which changes count as worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.serving import quick
from benchmarks.serving.figures.statistics import Spread
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.quick import Cost, Costs
from local.errors import LocalError

RUN = Run("triptych", "W1", "64 callers", 0, 1000, 400.0, 10.0, 20.0, 40.0, 0, 2.5, {}, 0.1, 0.0)


def costs(preprocess: float, spread: float = 0.02) -> Costs:
    def cost(times: float) -> Cost:
        return Cost(100 * times, Spread(times, times * (1 - spread), times * (1 + spread), 5))

    rest = {"postprocess": cost(1.0), "controller": cost(0.05)}
    return {"W1": {"all": cost(preprocess + 1.05), "preprocess": cost(preprocess), **rest}}


def comparisons(known: Costs, found: Costs) -> dict[str, bool]:
    return {line.text.split("  ")[0]: line.worse for line in quick.compared(known, found)}


def test_a_process_whose_cost_rose_beyond_noise_is_worse() -> None:
    assert comparisons(costs(3.0), costs(3.6)) == {"W1 all": True, "W1 preprocess": True, "W1 postprocess": False}


def test_less_than_a_tenth_and_cheaper_are_not_worse() -> None:
    assert not any(comparisons(costs(3.0), costs(3.25)).values())
    assert not any(comparisons(costs(3.0), costs(2.0)).values())


def test_rounds_that_differ_much_allow_more() -> None:
    assert not any(comparisons(costs(3.0, 0.2), costs(3.6, 0.2)).values())
    assert comparisons(costs(3.0, 0.2), costs(5.0, 0.2))["W1 preprocess"]


def test_a_process_that_is_new_is_worse_and_a_small_one_is_not_compared() -> None:
    found = costs(3.0)
    found["W1"]["other"] = Cost(60.0, Spread(0.6, 0.6, 0.6, 5))
    found["W1"]["controller"] = Cost(15.0, Spread(0.15, 0.15, 0.15, 5))
    assert comparisons(costs(3.0), found) == {
        **{"W1 all": False, "W1 preprocess": False, "W1 postprocess": False},
        "W1 other": True,
    }


def test_costs_are_relative_to_the_reference_of_the_same_round() -> None:
    ours = [replace(RUN, round=at, cpu={"preprocess": 0.3 * (at + 1), "predictor": 0.1 * (at + 1)}) for at in range(3)]
    theirs = [replace(RUN, system="triton", round=at, cpu={"predictor": 0.2 * (at + 1)}) for at in range(3)]
    found = quick.costs_of([*ours, *theirs])["W1, 64 callers"]
    times = found["preprocess"].times
    assert [times.least, times.median, times.most] == pytest.approx([1.5, 1.5, 1.5])
    assert found["preprocess"].microseconds == pytest.approx(600)
    assert found["all"].times.median == pytest.approx(2.0)


def test_the_lone_request_is_compared_beside_many_callers() -> None:
    many = replace(RUN, cpu={"preprocess": 0.2})
    alone = replace(RUN, point="1 caller", cpu={"preprocess": 2.0})
    runs = [many, replace(many, system="triton"), alone, replace(alone, system="triton", cpu={"predictor": 0.5})]
    found = quick.costs_of(runs)
    assert {point: each["preprocess"].times.median for point, each in found.items()} == {
        "W1, 64 callers": 1.0,
        "W1, 1 caller": 4.0,
    }
    assert ("W1", 1) in quick.POINTS


def test_a_file_without_the_lone_request_is_refused_before_anything_is_measured() -> None:
    known: Costs = {"W1, 64 callers": {}, "W2, 16 callers": {}}
    with pytest.raises(LocalError, match="no 'W1, 1 caller'; write it anew with --keep"):
        quick.check(known)
    quick.check({**known, "W1, 1 caller": {}})


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    quick.write(tmp_path / "quick.json", costs(3.0))
    assert quick.read(tmp_path / "quick.json") == costs(3.0)


@pytest.mark.parametrize("text", [None, "{}", "[]", '{"costs": {"W1": {"all": {"microseconds": 1}}}}'])
def test_a_file_that_is_not_there_or_broken_says_how_to_make_it(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "quick.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(LocalError, match="--keep"):
        quick.read(file)
