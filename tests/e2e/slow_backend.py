"""A stand-in for preprocess, run in a pod of its image: calls take long, and a health Watch speaks late.

    python slow_backend.py SECONDS

ModelInfer answers after that time. Watch reports SERVING at once, and NOT_SERVING after twice that time.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as health
from tritonclient.grpc import service_pb2 as pb


async def main(seconds: float) -> None:
    async def infer(request: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        await asyncio.sleep(seconds)
        return pb.ModelInferResponse(model_name=request.model_name)

    async def watch(_request: health.HealthCheckRequest, _context: Any) -> AsyncIterator[health.HealthCheckResponse]:
        yield health.HealthCheckResponse(status=health.HealthCheckResponse.SERVING)
        await asyncio.sleep(2 * seconds)
        yield health.HealthCheckResponse(status=health.HealthCheckResponse.NOT_SERVING)

    unary = grpc.unary_unary_rpc_method_handler(
        infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    stream = grpc.unary_stream_rpc_method_handler(
        watch, health.HealthCheckRequest.FromString, health.HealthCheckResponse.SerializeToString
    )
    server = grpc.aio.server()
    services = {"inference.GRPCInferenceService": {"ModelInfer": unary}, "grpc.health.v1.Health": {"Watch": stream}}
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())
    )
    server.add_insecure_port("0.0.0.0:9000")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
