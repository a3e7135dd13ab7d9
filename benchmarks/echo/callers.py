"""`python -m benchmarks.echo.callers TRANSPORT ADDRESS CALLERS CALLS`: prints the client's CPU seconds of all calls."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import numpy as np
import uvloop
from tritonclient.grpc import service_pb2 as pb

from triptych.client.upstream import Upstream
from triptych.protocol.call import Call
from triptych.protocol.tensors import encode_request
from triptych.server.inference_servicer import SERVICE

Send = Callable[[pb.ModelInferRequest], Awaitable[pb.ModelInferResponse]]


def caller(address: str, transport: str) -> Send:
    """A sender of calls as the stages send them."""
    upstream = Upstream("echo", address, SERVICE, relays=False, transport=transport)

    async def send(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        answer: pb.ModelInferResponse = await upstream.call("ModelInfer", request, Call.within(10))
        return answer

    return send


async def measure(transport: str, address: str, callers: int, calls: int) -> float:
    send = caller(address, transport)
    request = encode_request(pb.ModelInferRequest(model_name="echo"), {"rows": np.ones((1, 28), np.float32)})
    for _ in range(100):
        await send(request)
    numbers = iter(range(calls))

    async def one_after_another() -> None:
        for _ in numbers:
            await send(request)

    start = time.process_time()
    await asyncio.gather(*(one_after_another() for _ in range(callers)))
    return time.process_time() - start


if __name__ == "__main__":
    transport, address, callers, calls = sys.argv[1:]
    print(uvloop.run(measure(transport, address, int(callers), int(calls))))
