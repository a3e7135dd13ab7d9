"""The output of `triptych verify`: problems by model, each with its place, and advice once."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych_cli.verify import advice_on, format_model, group_by_model


def test_problems_are_grouped_by_model_in_the_order_of_their_first() -> None:
    problems = ["m/b/1/contract.yaml:3: x", "m/a:1: y", "m:1: z", "m/b/config.pbtxt:1: w"]
    assert group_by_model(problems, Path("m")) == {
        "b": ["m/b/1/contract.yaml:3: x", "m/b/config.pbtxt:1: w"],
        "a": ["m/a:1: y"],
        "": ["m:1: z"],
    }


def test_a_model_is_a_heading_a_line_for_each_problem_and_each_advice_once() -> None:
    problems = [f"m/a/1/contract.yaml:{line}: preprocess[0].op: unknown step 'x'; known: clip" for line in (3, 4)]
    assert format_model("a", problems) == [
        "a: 2 problem(s)",
        f"  {problems[0]}",
        "    -> all steps with their fields: triptych steps",
        f"  {problems[1]}",
    ]


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ("m/a/1/contract.yaml:1: cannot be read: No such file or directory", "write a contract there"),
        ("m/a/1/model.onnx: want sha256:1, got sha256:2", "triptych digests"),
        ("m/a/1/contract.yaml:1: sales/DE belongs to model 'b' already", "another route"),
        (
            "m/a/1/contract.yaml:1: family 'sales' must look alike to callers: here [], in b []",
            "same inputs and outputs",
        ),
        ("m/a/config.pbtxt:4: input 'features' has dims [-1, 41], but [42] in the contract", "same tensors"),
        ("m/a/1/model.onnx: no such file", "copy the model's file there"),
        ("m/a:1: has no version; a version is a folder with a whole number", "whole number as its name"),
        ("m/a/config.pbtxt:1: version_policy leaves out 1; want { all { } }", ""),
    ],
)
def test_advice_says_what_to_do_where_the_problem_does_not(problem: str, advice: str) -> None:
    assert advice_on(problem).count(advice) or not advice
    assert bool(advice_on(problem)) == bool(advice)
