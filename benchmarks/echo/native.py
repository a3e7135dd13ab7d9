"""`python -m benchmarks.echo.native`: echo on pygrpc-native, the interface of grpc.aio with HTTP/2 in Rust."""

from __future__ import annotations

import asyncio

import pygrpc_native.aio
import uvloop

from benchmarks.echo.server import table
from benchmarks.echo.settings import Settings
from triptych.door import GrpcioDoor
from triptych.door.grpcio import _method_handler


async def serve() -> None:
    settings = Settings()
    service, door = table(settings), GrpcioDoor([], settings)
    server = pygrpc_native.aio.server()
    handlers = {method.name: _method_handler(service.full_name, method, door) for method in service.methods}
    server.add_registered_method_handlers(service.full_name, handlers)
    server.add_insecure_port(f"{settings.host}:{settings.port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
