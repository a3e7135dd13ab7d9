"""One call from our HTTP/2 client to our HTTP/2 server, in one process and without sockets.

The message is W1's request, and its answer has the same bytes, so that the transport is measured: both ends of a hop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from triptych.http2.channel import Http2Channel
from triptych.http2.client import ClientConnection
from triptych.http2.connection import Connection
from triptych.protocol.call import Call
from triptych.protocol.methods import methods_of
from triptych.runtime.settings import StageSettings
from triptych.server.http2 import Http2Server
from triptych.server.inference_servicer import SERVICE

METHOD = f"/{SERVICE.full_name}/ModelInfer"


class _Echo:
    """Servicer that answers with a message of its own, encoded once."""

    begins_at_once = frozenset({"ModelInfer"})

    def __init__(self, data: bytes) -> None:
        self._answer = pb.ModelInferResponse(raw_output_contents=[data])

    async def model_infer(self, _request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        return self._answer


class _Wire(asyncio.Transport):
    """Transport in memory: a write arrives at the other end in the next turn of the loop."""

    def __init__(self, arrive: Callable[[bytes], None]) -> None:
        super().__init__()
        self._arrive, self._loop = arrive, asyncio.get_running_loop()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self._loop.call_soon(self._arrive, data)


def _arrival(protocol: Connection) -> Callable[[bytes], None]:
    def arrive(data: bytes) -> None:
        protocol.get_buffer(-1)[: len(data)] = data
        protocol.buffer_updated(len(data))

    return arrive


async def connect(data: bytes) -> Callable[[bytes], Any]:
    """A function from a request to its answer, both encoded."""
    server = Http2Server([methods_of(SERVICE, _Echo(data))], StageSettings(host="127.0.0.1", connection_age_s=0))
    await server.open()
    assert server._manager is not None
    channel = Http2Channel("127.0.0.1:1")
    client, served = ClientConnection(channel._buffer, channel._changed), server._manager.connect()
    client.connection_made(_Wire(_arrival(served)))
    served.connection_made(_Wire(_arrival(client)))
    await client.ready
    channel._usable.append(client)

    async def answer(request: bytes) -> bytes:
        return await channel.unary(METHOD, request, 30.0)

    return answer
