"""Installed packages add steps by entry points."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any, Literal, Self

import numpy as np
import pytest
from pydantic import model_validator

from triptych.contract import Contract, Plan, Scope, Step
from triptych.contract.schema.json_schema import contract_schema, steps_table
from triptych.contract.steps import registry
from triptych.contract.steps.base import MapStep
from triptych.contract.verification.trial import trial
from triptych.datatypes import Array


class Double(MapStep):
    """Twice the value."""

    op: Literal["double"]
    times: int = 1

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        factor = 2**self.times
        return lambda values: np.asarray(values * factor, values.dtype)


class AnotherClip(MapStep):
    """A step with the name of an existing one."""

    op: Literal["clip"]


class RefusesItsDefault(Double):
    """A step whose default is refused if it is written out."""

    op: Literal["refuses"]  # type: ignore[assignment]

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if {"output", "times"} <= self.model_fields_set:
            raise ValueError("give output or times")
        return self


class Nameless(MapStep):
    """A step without an op of its own."""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Register classes as entry points of a fake package."""

    def offer(*offered: object) -> None:
        entries = []
        for i, step in enumerate(offered):
            entry = EntryPoint(f"s{i}", f"acme_steps:S{i}", registry.GROUP)
            monkeypatch.setitem(loaded, entry.name, step)
            entries.append(entry)
        monkeypatch.setattr(registry, "entry_points", lambda group: entries)
        registry.vocabulary.cache_clear()

    loaded: dict[str, Any] = {}
    monkeypatch.setattr(EntryPoint, "load", lambda self: loaded[self.name])
    yield offer
    registry.vocabulary.cache_clear()


def test_a_step_of_an_installed_package_joins_the_vocabulary(
    install: Callable[..., None], sales_document: dict[str, Any]
) -> None:
    install(Double)
    sales_document["postprocess"].insert(0, {"op": "double", "input": "forecast", "times": 2})
    contract = Contract.model_validate_json(json.dumps(sales_document))
    answer = Plan(contract).postprocess({"forecast": np.ones((1, 7), np.float32)})
    assert answer["units"].tolist() == [[4] * 7]
    assert b'{"input":"forecast","op":"double","times":2}' in contract.canonical_json()
    assert "### `double`" in steps_table()
    assert "double" in contract_schema()["$defs"]["Step"]["properties"]["op"]["enum"]


def test_a_step_that_refuses_its_own_default_is_found_before_any_request(
    install: Callable[..., None], sales_document: dict[str, Any]
) -> None:
    """The stages read the contract as the controller writes it, with every default."""
    install(RefusesItsDefault)
    sales_document["postprocess"].insert(0, {"op": "refuses", "input": "forecast", "output": "forecast"})
    (problem,) = trial(Contract.model_validate_json(json.dumps(sales_document)))
    assert problem.location == ("postprocess", 0)
    assert "cannot be read with its defaults written out: Value error, give output or times" in problem.text


def test_without_the_package_the_step_is_unknown(sales_document: dict[str, Any]) -> None:
    sales_document["postprocess"].insert(0, {"op": "double", "input": "forecast"})
    with pytest.raises(ValueError, match="unknown step 'double'"):
        Contract.model_validate_json(json.dumps(sales_document))


@pytest.mark.parametrize(
    ("offered", "text"),
    [
        (AnotherClip, "there is a step 'clip'"),
        (dict, "no subclass of Step"),
        (Nameless, "op must be Literal"),
    ],
)
def test_what_cannot_join_says_so_at_once(install: Callable[..., None], offered: object, text: str) -> None:
    install(offered)
    with pytest.raises(registry.StepConflict, match=text):
        registry.vocabulary()


def test_every_step_is_documented_and_compiles_something() -> None:
    for op, step in registry.vocabulary().items():
        assert registry.op_of(step) == op
        assert (step.__doc__ or "").strip().endswith(".")
        assert step.compile is not Step.compile
