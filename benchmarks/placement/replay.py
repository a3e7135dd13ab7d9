"""Replay of recorded loads and unloads by plain calls to a Triton without a controller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from benchmarks.model_folders import name_of
from benchmarks.placement.controller_log import PlacementEvent
from controller.placement.predictors.triton_client import KEY_HEADER
from local.stack import LocalStack

PREFIX = "/inference.GRPCInferenceService/"
LOAD_S = 60.0


async def replay_events(
    stack: LocalStack, events: Sequence[PlacementEvent], start_s: float, kept: Collection[int], count: int
) -> None:
    """Replay each event at its recorded time; that of a kept model with another of the `count` models."""
    names = stand_ins(events, {name_of(number) for number in kept}, [name_of(number) for number in range(count)])
    key = ((KEY_HEADER, stack.triton_key),)
    async with aio.insecure_channel(stack.address("predictor")) as channel:
        load, unload = _method(channel, "Load", key), _method(channel, "Unload", key)
        now, running, held = time.perf_counter(), [], set()
        for event in sorted(events, key=lambda each: each.began_s):
            model = names[event.model]
            await asyncio.sleep(max(0.0, now + event.began_s - start_s - time.perf_counter()))
            if event.action == "load":
                held.add(model)
                running.append(asyncio.ensure_future(load(model)))
            elif model in held:
                held.discard(model)
                running.append(asyncio.ensure_future(unload(model)))
        await asyncio.gather(*running)
        await asyncio.gather(*(unload(model) for model in held))


def stand_ins(events: Sequence[PlacementEvent], kept: set[str], names: Sequence[str]) -> dict[str, str]:
    """The model to replay each event with: its own, or for a kept one a model without events that is not kept."""
    changed = {event.model for event in events}
    free = iter([name for name in reversed(names) if name not in kept | changed])
    return {model: next(free, model) if model in kept else model for model in sorted(changed)}


def _method(channel: aio.Channel, name: str, key: Sequence[tuple[str, str]]) -> Callable[[str], Awaitable[Any]]:
    message = getattr(pb, f"RepositoryModel{name}Request")
    call: Any = channel.unary_unary(f"{PREFIX}RepositoryModel{name}", message.SerializeToString)
    return lambda model: call(message(model_name=model), timeout=LOAD_S, metadata=key)
