"""A connection has an age, after which it is opened again, elsewhere; behind a proxy it has none."""

from __future__ import annotations

import asyncio

from grpc import ChannelConnectivity
from tritonclient.grpc import service_pb2 as pb

from tests.contract.test_door import INFER, echo, run, serving

REQUEST = pb.ModelInferRequest(id="1", model_name="good").SerializeToString()


def test_a_connection_is_closed_at_its_age_and_the_next_call_opens_another() -> None:
    async def test() -> None:
        async with serving(echo, connection_age_s=0.2) as (channel, _):
            call = channel.unary_unary(INFER)
            for _turn in range(2):
                await call(REQUEST, timeout=5)
                async with asyncio.timeout(10):
                    await channel.wait_for_state_change(ChannelConnectivity.READY)

    run(test())


def test_an_age_of_zero_closes_none() -> None:
    async def test() -> None:
        async with serving(echo, connection_age_s=0) as (channel, _):
            call = channel.unary_unary(INFER)
            for _turn in range(10):
                await call(REQUEST, timeout=5)
                await asyncio.sleep(0.05)
                assert channel.get_state() is ChannelConnectivity.READY

    run(test())
