"""Sizes of a contract's trial are computed before anything of that size is allocated."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from triptych.contract import Contract
from triptych.contract.verification.trial import trial
from triptych.contract.verification.trial_limits import TrialLimits

SMALL = TrialLimits(row_bytes=1 << 20)


def contract(width: int, steps: list[dict[str, Any]], shape: list[int]) -> Contract:
    """From `x` of `width` numbers through the steps to `y`."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, width]}
    result = {"name": "y", "datatype": "FP32", "shape": shape}
    return Contract.model_validate(
        {
            "apiVersion": "triptych.dev/v1",
            "kind": "Contract",
            "family": "f",
            "route": "R",
            "max_rows": 4,
            "inputs": [tensor],
            "preprocess": steps,
            "model": {"inputs": [result], "outputs": [tensor]},
            "outputs": [tensor],
        }
    )


def peak_bytes(contract: Contract, limits: TrialLimits) -> tuple[list[str], int]:
    tracemalloc.start()
    try:
        problems = [problem.text for problem in trial(contract, limits)]
        return problems, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("width", "height"), [(8192, 8192), (16384, 16384), (16384, 2048)])
def test_a_resize_to_a_huge_picture_is_refused_before_it_is_made(digits_document: Any, width: int, height: int) -> None:
    digits_document["preprocess"][3] |= {"width": width, "height": height}
    problems, peak = peak_bytes(Contract.model_validate(digits_document), TrialLimits())
    assert problems == [f"resize: one row takes {3 * width * height} bytes, want at most {64 << 20}"]
    assert peak < 8 << 20


def test_a_tensor_that_is_declared_huge_is_refused_before_it_is_made() -> None:
    large = contract(100_000, [{"op": "concatenate", "inputs": ["x", "x"], "output": "y"}], [-1, 200_000])
    assert trial(large, TrialLimits(row_bytes=800_000)) == []
    problems, peak = peak_bytes(large, TrialLimits(row_bytes=799_999))
    assert problems == ["one row takes 800000 bytes, want at most 799999"]
    assert peak < 1 << 20


def test_steps_that_double_a_value_again_and_again_are_stopped() -> None:
    double = {"op": "concatenate", "inputs": ["y", "y"], "output": "y"}
    first = {"op": "concatenate", "inputs": ["x"], "output": "y"}
    problems, peak = peak_bytes(contract(100, [first, *[double] * 40], [-1, -1]), SMALL)
    assert [text.startswith("concatenate takes ") for text in problems] == [True]
    assert peak < 2 * SMALL.held_bytes


def test_a_value_that_is_joined_with_itself_very_often_is_refused() -> None:
    problems, peak = peak_bytes(
        contract(1000, [{"op": "concatenate", "inputs": ["x"] * 10_000, "output": "y"}], [-1, -1]), SMALL
    )
    assert [text.startswith("concatenate takes ") for text in problems] == [True]
    assert peak < 4 << 20


def test_words_of_one_hot_cost_what_its_answer_costs(apply: Any) -> None:
    values = [str(number) for number in range(20_000)]
    tracemalloc.start()
    step = {"op": "one_hot", "input": "x", "values": values, "unknown": "zeros"}
    found = apply(step, x=np.array([b"7", b"none", b"19999"], object))["x"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (3, 20_000)
    assert [np.flatnonzero(row).tolist() for row in found] == [[7], [], [19_999]]
    assert peak < 32 << 20


def test_boxes_that_would_be_compared_for_hours_are_refused() -> None:
    boxes = {"name": "b", "datatype": "FP32", "shape": [-1, 500_000, 4]}
    scores = {"name": "s", "datatype": "FP32", "shape": [-1, 500_000]}
    nms = {"op": "nms", "boxes": "b", "scores": "s", "output": "o", "score": "p", "maximum": 10_000}
    outputs = [
        {"name": "o", "datatype": "FP32", "shape": [-1, 10_000, 4]},
        {"name": "p", "datatype": "FP32", "shape": [-1, 10_000]},
    ]
    join = {"op": "concatenate", "inputs": ["x"], "output": "y"}
    document = contract(2, [join], [-1, 2]).model_dump(mode="json", by_alias=True, exclude_none=True)
    document |= {"postprocess": [nms | {"score_threshold": 0.0}], "outputs": outputs}
    document["model"]["outputs"] = [boxes, scores]
    (problem,) = trial(Contract.model_validate(document))
    assert problem.text.startswith("nms goes through 10000000000 elements for 2 rows")


def test_a_trial_that_takes_too_long_ends_between_two_steps() -> None:
    steps = [{"op": "concatenate", "inputs": ["x"], "output": "y"}] * 3
    (problem,) = trial(contract(2, steps, [-1, 2]), TrialLimits(seconds=-1.0))
    assert problem.text == "the steps before concatenate took more than -1 s on 2 rows"
