"""Open-loop load: each request is sent when it is due, and its latency counts from that moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from grpc import aio
from tritonclient.grpc import service_pb2 as pb

from benchmarks.model_folders import FAMILY, route_of
from triptych.protocol.tensors import encode_request

INFER = "/inference.GRPCInferenceService/ModelInfer"
DEADLINE_S = 30.0


@dataclass(frozen=True)
class ScheduledRequest:
    """A request for a model, due at `at_s` seconds from the start of a phase."""

    at_s: float
    model: int


@dataclass(frozen=True)
class Answer:
    """An answered or failed request.

    `sent_s` is when it was due, on the clock of `time.time`. `seconds` is the latency from then.
    """

    due: ScheduledRequest
    sent_s: float
    seconds: float
    error: str = ""


def message(model: int) -> bytes:
    """Serialised request for a forecast of one row, addressed by family and route; the same values for every model."""
    request = pb.ModelInferRequest(model_name=FAMILY, id=str(model))
    request.parameters["route"].string_param = route_of(model)
    tensors: Mapping[str, Any] = {
        "history": np.full((1, 28), 100, np.float32),
        "price": np.full((1, 7), 2, np.float32),
        "promotion": np.zeros((1, 7), bool),
    }
    encode_request(request, tensors)
    data: bytes = request.SerializeToString()
    return data


async def send(address: str, dues: Sequence[ScheduledRequest]) -> list[Answer]:
    """Send each request when it is due, and return all answers."""
    async with aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(INFER)
        await channel.channel_ready()
        start, wall_s = time.perf_counter(), time.time()
        running = []
        for due in dues:
            await asyncio.sleep(max(0.0, start + due.at_s - time.perf_counter()))
            running.append(asyncio.create_task(_one(method, due, start, wall_s)))
        return await asyncio.gather(*running)


async def send_all(address: str, models: Sequence[int], at_once: int) -> list[Answer]:
    """Send one request to each model, with at most `at_once` in flight."""
    gate = asyncio.Semaphore(at_once)
    async with aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(INFER)

        async def one(model: int) -> Answer:
            async with gate:
                return await _one(method, ScheduledRequest(0.0, model), time.perf_counter(), time.time())

        return await asyncio.gather(*(one(model) for model in models))


async def _one(method: Any, due: ScheduledRequest, start: float, wall_s: float) -> Answer:
    error = ""
    try:
        await method(message(due.model), timeout=DEADLINE_S)
    except aio.AioRpcError as refused:
        error = f"{refused.code().name}: {refused.details()}"
    return Answer(due, wall_s + due.at_s, time.perf_counter() - start - due.at_s, error)
