"""Renders without a cluster differ only in keys that the chart makes, and these say how to name one instead."""

from __future__ import annotations

import difflib

import pytest

from tools.chart.program import template

MODES = ("Standard", "Knative", "Grouped", "Deployment")
BACKEND = ("--set", "backend.enabled=true")
NAMED = ("--set", "predictor.modelControl.secret=model-key,backend.jwt.secret=token-key")


def changes(*options: str) -> list[str]:
    """The lines of a second render that the first has not."""
    first, second = (template(*BACKEND, *options).splitlines() for _ in range(2))
    return [line[2:] for line in difflib.ndiff(first, second) if line.startswith("+ ")]


@pytest.mark.parametrize("mode", MODES)
def test_only_the_keys_differ(mode: str) -> None:
    found = changes("--set", f"mode={mode}")
    assert len(found) == 2
    assert all(line.startswith("  key: ") for line in found)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_differs_with_secrets_of_ones_own(mode: str) -> None:
    assert not changes("--set", f"mode={mode}", *NAMED)


def test_a_made_key_says_which_value_names_another() -> None:
    text = template(*BACKEND)
    for value in ("predictor.modelControl.secret", "backend.jwt.secret"):
        assert f"another key each time: name a Secret of your own in {value}." in text
