"""A watcher of the hub that joins and decodes what a stage gets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from controller.traffic.watch_hub import WatchHub
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.update_parts import PartJoiner


async def watch(watch_hub: WatchHub, call: Call | None = None) -> AsyncGenerator[cp.CatalogUpdate]:
    """Whole updates."""
    joiner = PartJoiner()
    async with aclosing(cast(Any, watch_hub.updates(call or Call.within(60)))) as parts:
        async for data in parts:
            if update := joiner.add(cp.CatalogUpdate.FromString(data)):
                yield update
