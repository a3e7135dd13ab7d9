"""Counts of right answers, and the message of a run without answers."""

from __future__ import annotations

import pytest

from examples.models.digits.evaluate import Score, evaluate


def test_scores_add_up() -> None:
    assert Score(3, 4).plus(Score(1, 4)) == Score(4, 8)
    assert Score(3, 4).share == 0.75
    assert Score(0, 0).share == 0.0


def test_a_stack_that_is_not_there_is_one_line_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("127.0.0.1:1", pictures=4) == 1
    assert capsys.readouterr().out.startswith("127.0.0.1:1: ")
