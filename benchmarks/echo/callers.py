"""`python -m benchmarks.echo.callers KIND ADDRESS CALLERS CALLS`: prints the client's CPU seconds of all calls."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import numpy as np
import uvloop
from tritonclient.grpc import service_pb2 as pb

from triptych.call import Call
from triptych.client import Upstream
from triptych.http2.framing import framed
from triptych.oip import SERVICE
from triptych.tensors import encode_request

PATH = "/inference.GRPCInferenceService/ModelInfer"
Send = Callable[[pb.ModelInferRequest], Awaitable[pb.ModelInferResponse]]


def grpcio(address: str) -> Send:
    """grpc.aio, as the stages use it."""
    return _ours(address, "grpcio")


def http2(address: str) -> Send:
    """Ours, on the loop."""
    return _ours(address, "http2")


def _ours(address: str, transport: str) -> Send:
    """What the stages call each other with."""
    upstream = Upstream("echo", address, SERVICE, relays=False, transport=transport)

    async def send(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        answer: pb.ModelInferResponse = await upstream.call("ModelInfer", request, Call.within(10))
        return answer

    return send


def pyqwest(address: str) -> Send:
    """HTTP/2 in Rust, gRPC's framing by hand."""
    from pyqwest import Client, HTTPTransport, HTTPVersion

    client = Client(HTTPTransport(http_version=HTTPVersion.HTTP2, enable_otel=False, follow_redirects=False))
    headers = {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "10S"}

    async def send(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        answer = await client.post(f"http://{address}{PATH}", headers, framed(request.SerializeToString()))
        if answer.trailers.get("grpc-status") != "0":
            raise RuntimeError(f"no answer: {answer.headers} {answer.trailers}")
        return pb.ModelInferResponse.FromString(answer.content[5:])

    return send


KINDS = {"grpcio": grpcio, "http2": http2, "pyqwest": pyqwest}


async def measure(kind: str, address: str, callers: int, calls: int) -> float:
    send = KINDS[kind](address)
    request = encode_request(pb.ModelInferRequest(model_name="echo"), {"rows": np.ones((1, 28), np.float32)})
    for _ in range(100):
        await send(request)
    numbers = iter(range(calls))

    async def caller() -> None:
        for _ in numbers:
            await send(request)

    start = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.process_time() - start


if __name__ == "__main__":
    kind, address, callers, calls = sys.argv[1:]
    print(uvloop.run(measure(kind, address, int(callers), int(calls))))
