"""The REST server on a real port, before a servicer of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from preprocess.rest import server as rest
from preprocess.settings import Settings
from triptych.errors import Overloaded, UnknownModel
from triptych.protocol.call import Call
from triptych.protocol.metadata import ModelInfo
from triptych.protocol.tensors import encode_response
from triptych.server.http1 import HttpServer
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

INFER = "/v2/models/echo/infer"
BODY = json.dumps({"id": "7", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).encode()
LARGE = encode_response(pb.ModelInferResponse(model_name="large"), {"y": np.full(2 << 20, 0.1, np.float32)})


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo(InferenceServicer):
    """Answers with the id and the metadata of the call; some names of models do something else."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("preprocess", settings, StageMetrics("preprocess", Tracing()), lambda: True)
        self.cancelled = asyncio.Event()
        self.holding, self.release = asyncio.Event(), asyncio.Event()
        self.held = 0  # requests that waited

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        raise UnknownModel(name)

    async def model_available(self, name: str, version: str, call: Call) -> bool:
        return name == "echo"

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        if request.model_name == "busy":
            raise Overloaded("later", 1.2)
        if request.model_name == "large":
            return LARGE
        if request.model_name == "broken":
            raise ValueError("secret")
        if request.model_name == "hold":
            self.holding.set()
            self.held += 1
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        made = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
        made.parameters["traceparent"].string_param = call.metadata.get("traceparent", "")
        return made


class Running:
    def __init__(self, server: HttpServer, servicer: Echo) -> None:
        self.server, self.servicer = server, servicer
        self.opened: list[asyncio.StreamWriter] = []

    async def connect(self, model: str = "", body: bytes = BODY, length: int | None = None) -> Connection:
        """A connection, with a request for a model on it if one is named. `length` differs from that of the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.opened.append(writer)
        if model:
            length = len(body) if length is None else length
            writer.write(
                f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
            )
            writer.write(body)
        return reader, writer

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, document and headers of an answer."""
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null"), dict(answer.getheaders())
        finally:
            connection.close()


@asynccontextmanager
async def rest_server(**more: Any) -> AsyncIterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Settings(**{"rest_port": port, "host": "127.0.0.1", "grace_s": 20} | more)
    servicer = Echo(settings)
    server = rest.rest_server(settings, servicer)
    await server.open()
    running = Running(server, servicer)
    yield running
    for writer in running.opened:
        writer.transport.abort()
    await server.close()
