"""Trials: one at a time, and as many steps as ran."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.page.form import Typed
from controller.page.trial import Trials, request_message
from tests.unit.controller.page.test_form import contract
from triptych.contract import Plan
from triptych.errors import Unavailable


class Facts:
    """Versions and predictors of a placement that has nothing loaded."""

    @property
    def versions(self) -> Facts:
        return self

    fleet = versions

    async def plan_of(self, key: tuple[str, int]) -> Plan | None:
        return Plan(contract()) if key == ("shop", 1) else None

    def holders(self, _key: tuple[str, int]) -> list[Any]:
        return []


class Silent:
    """A preprocess that does not answer before it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def call(self, *_arguments: Any) -> Any:
        await self.released.wait()
        raise Unavailable("gone")


async def test_a_second_request_waits_for_no_first() -> None:
    preprocess, typed = Silent(), Typed({"age": "[[1, 2]]"}, {})
    trials = Trials(preprocess, Facts(), 5.0)  # type: ignore[arg-type]
    first = asyncio.create_task(trials.run("shop", 1, typed))
    await asyncio.sleep(0.05)
    with pytest.raises(Unavailable, match="another request is being tried"):
        await trials.run("shop", 1, typed)
    preprocess.released.set()
    trial = await first
    assert trial.error == "gone"
    assert [moment.part for moment in trial.moments] == ["request"]
    assert trial.stopped == "no predictor has shop version 1 loaded"


async def test_a_version_that_is_gone_is_a_sentence() -> None:
    trials = Trials(Silent(), Facts(), 5.0)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="shop version 2 is not in the catalog any more"):
        await trials.run("shop", 2, Typed({}, {}))


def test_each_parameter_has_its_type() -> None:
    message = request_message("shop", 1, {}, {"a": True, "b": 2, "c": 0.5, "d": "x"})
    kinds = {name: each.WhichOneof("parameter_choice") for name, each in message.parameters.items()}
    assert kinds == {"a": "bool_param", "b": "int64_param", "c": "double_param", "d": "string_param"}
