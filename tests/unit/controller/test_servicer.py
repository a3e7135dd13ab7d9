"""Answers of the controller that grow with the number of models."""

from __future__ import annotations

import asyncio
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from controller.servicer import YIELD_EVERY, CatalogServicer
from triptych.protocol.call import Call


async def test_an_index_of_many_models_gives_other_tasks_their_turn() -> None:
    entry = pb.RepositoryIndexResponse.ModelIndex(name="m", version="1", state="READY")
    servicer: Any = object.__new__(CatalogServicer)
    servicer.check, servicer._indexing = lambda _request: None, asyncio.Lock()
    servicer._index = lambda: iter([entry] * (10 * YIELD_EVERY))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    answer = await servicer.repository_index(pb.RepositoryIndexRequest(), Call.within(60))
    task.cancel()
    assert len(answer.models) == 10 * YIELD_EVERY
    assert turns >= 9
