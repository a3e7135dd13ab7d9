"""The work of postprocess: how much of it is in hand at once. What it computes is the contract's, and tested there."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from local.environments import ROOT
from postprocess.transform import Transform
from triptych.contract import Plan, load_contract
from triptych.errors import InvalidRequest, Overloaded
from triptych.room import Room
from triptych.workers import Workers

SALES = Plan(load_contract(ROOT / "model-repository/sales_forecast_de/1/contract.yaml"))
FORECAST = {"forecast": np.ones((2, 7), np.float32)}


def test_more_bytes_than_the_limit_are_refused_while_others_are_in_work() -> None:
    async def test() -> None:
        workers = Workers(1, inline_bytes=0)
        transform = Transform(workers, Room(1))
        first, second = await asyncio.gather(
            *(transform(SALES, FORECAST, {}) for _ in range(2)), return_exceptions=True
        )
        assert not isinstance(first, BaseException)
        assert first["total"].tolist() == [7, 7]
        assert isinstance(second, Overloaded)
        with pytest.raises(InvalidRequest):
            await transform(SALES, {"forecast": np.ones((2, 6), np.float32)}, {})
        assert (await transform(SALES, FORECAST, {}))["total"].tolist() == [7, 7]
        workers.close()

    asyncio.run(test())
