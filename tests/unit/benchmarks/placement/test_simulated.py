"""The simulated Triton answers the controller's client as a real one does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tritonclient.grpc import model_config_pb2 as mc

from benchmarks.placement.simulated import SimulatedTriton, listing, serve
from controller.placement.predictors.triton_client import Index, TritonClient
from triptych.errors import LoadFailed

A1, A2 = ("a", 1), ("a", 2)


@asynccontextmanager
async def simulated(unload_s: float = 60.0) -> AsyncIterator[TritonClient]:
    server, address = await serve(SimulatedTriton(listing(["a", "b"]), load_s=0.0, unload_s=unload_s))
    triton = TritonClient(address)
    try:
        yield triton
    finally:
        await triton.close()
        await server.stop(0)


async def test_a_load_makes_just_those_versions_ready() -> None:
    async with simulated() as triton:
        await triton.load("a", mc.ModelConfig(name="a"), [1, 2], 5.0)
        assert await triton.index(whole=False) == Index(ready=frozenset({A1, A2}))
        await triton.load("a", mc.ModelConfig(name="a"), [2], 5.0)
        assert await triton.index(whole=True) == Index(ready=frozenset({A2}), unloading=frozenset({A1}))
        assert [await triton.is_ready(*key) for key in (A1, A2)] == [False, True]


async def test_what_is_unloaded_is_in_the_whole_index_until_it_is_dropped() -> None:
    async with simulated() as triton:
        await triton.load("a", mc.ModelConfig(name="a"), [1], 5.0)
        await triton.unload("a")
        assert await triton.index(whole=False) == Index()
        assert await triton.index(whole=True) == Index(unloading=frozenset({A1}))


async def test_what_is_dropped_is_in_no_index() -> None:
    async with simulated(unload_s=0.0) as triton:
        await triton.load("a", mc.ModelConfig(name="a"), [1], 5.0)
        await triton.unload("a")
        while await triton.index(whole=True) != Index():
            await asyncio.sleep(0.01)


async def test_only_what_is_ready_has_statistics() -> None:
    async with simulated() as triton:
        assert await triton.counts() == {}
        await triton.load("a", mc.ModelConfig(name="a"), [1], 5.0)
        assert (await triton.counts())[A1].requests == 1


async def test_a_model_without_a_folder_cannot_be_loaded() -> None:
    async with simulated() as triton:
        with pytest.raises(LoadFailed, match="failed to load 'zz', no such folder"):
            await triton.load("zz", mc.ModelConfig(name="zz"), [1], 5.0)
