"""The REST server on a real port, before a servicer of its own: errors, limits, callers that leave or wait."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from preprocess.rest.server import RestServer
from preprocess.settings import Settings
from triptych.errors import Overloaded, UnknownModel
from triptych.protocol.call import Call
from triptych.protocol.metadata import ModelInfo
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

INFER = "/v2/models/echo/infer"
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).encode()


class Echo(InferenceServicer):
    """Answers with the id and the metadata of the call; `hold` waits, `busy` is overloaded, others are unknown."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("preprocess", settings, StageMetrics("preprocess", Tracing()), lambda: True)
        self.cancelled = asyncio.Event()
        self.holding, self.release = asyncio.Event(), asyncio.Event()

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        raise UnknownModel(name)

    async def model_available(self, name: str, version: str, call: Call) -> bool:
        return name == "echo"

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        if request.model_name == "busy":
            raise Overloaded("later", 1.2)
        if request.model_name == "broken":
            raise ValueError("secret")
        if request.model_name == "hold":
            self.holding.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        made = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
        made.parameters["traceparent"].string_param = call.metadata.get("traceparent", "")
        return made


class Running:
    def __init__(self, server: RestServer, servicer: Echo) -> None:
        self.server, self.servicer = server, servicer

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


@pytest.fixture
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    more = getattr(request, "param", {})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Settings(**{"rest_port": port, "host": "127.0.0.1", "grace_s": 20} | more)
    servicer = Echo(settings)
    server = RestServer(settings, servicer)
    await server.open()
    yield Running(server, servicer)
    await server.close()


async def test_each_path_answers(running: Running) -> None:
    assert (await running.ask("GET", "/v2/health/live"))[:2] == (200, {"live": True})
    assert (await running.ask("GET", "/v2/health/ready"))[:2] == (200, {"ready": True})
    status, about, _ = await running.ask("GET", "/v2")
    assert (status, about["name"]) == (200, "triptych-preprocess")
    assert (await running.ask("GET", "/v2/models/echo/ready"))[:2] == (200, {"name": "echo", "ready": True})
    assert (await running.ask("GET", "/v2/models/no/versions/1/ready"))[:2] == (503, {"name": "no", "ready": False})
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    status, answer, _ = await running.ask("POST", INFER, BODY, traceparent=trace)
    assert (status, answer["parameters"]) == (200, {"traceparent": trace})


async def test_errors_have_the_status_and_the_sentence_of_the_table(running: Running) -> None:
    assert (await running.ask("GET", "/v2/models/no"))[:2] == (404, {"error": "unknown model or family 'no'"})
    status, answer, headers = await running.ask("POST", "/v2/models/busy/infer", BODY)
    assert (status, answer, headers["retry-after"]) == (429, {"error": "later"}, "2")
    status, answer, _ = await running.ask("POST", "/v2/models/broken/infer", BODY)
    assert status == 500
    assert "secret" not in answer["error"]
    assert (await running.ask("POST", INFER, b"{"))[0] == 400
    status, answer, _ = await running.ask("GET", "/v2/repository/index")
    assert (status, answer["error"][:11]) == (404, "want one of")
    assert (await running.ask("GET", INFER))[0] == 405
    status, answer, _ = await running.ask("POST", INFER, BODY, Content_Encoding="gzip")
    assert (status, "Content-Encoding" in answer["error"]) == (400, True)
    assert (await running.ask("POST", INFER, BODY, Inference_Header_Content_Length="-1"))[0] == 400


@pytest.mark.parametrize("running", [{"rest_max_json_bytes": 1024, "max_message_bytes": 4096}], indirect=True)
async def test_json_and_bodies_have_limits(running: Running) -> None:
    status, answer, _ = await running.ask("POST", INFER, b'"' + b"x" * 1024 + b'"')
    assert (status, answer["error"][:31]) == (413, "want at most 1024 bytes of JSON")
    status, answer, _ = await running.ask("POST", INFER, b"x" * 5000)
    assert (status, answer["error"]) == (429, "want a body of at most 4096 bytes, got more")
    assert (await running.ask("POST", INFER, BODY))[0] == 200


async def test_a_caller_that_leaves_cancels_its_request(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
    head = f"POST /v2/models/hold/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
    writer.write(head.encode() + BODY)
    await running.servicer.holding.wait()
    writer.close()
    await asyncio.wait_for(running.servicer.cancelled.wait(), 10)


@pytest.mark.parametrize("running", [{"slow_after_s": 0.2, "request_timeout_s": 0.5}], indirect=True)
async def test_a_connection_without_a_request_is_closed_and_a_slow_body_answered(running: Running) -> None:
    idle, unused = await asyncio.open_connection("127.0.0.1", running.server.port)
    assert await asyncio.wait_for(idle.read(), 10) == b""
    unused.close()
    slow, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
    writer.write(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n123".encode())
    assert (await asyncio.wait_for(slow.readline(), 10)).startswith(b"HTTP/1.1 504")
    writer.close()


@pytest.mark.parametrize("running", [{"rest_max_connections": 2}], indirect=True)
async def test_more_connections_than_allowed_are_answered_with_503(running: Running) -> None:
    held = [await asyncio.open_connection("127.0.0.1", running.server.port) for _ in range(2)]
    _, writer = third = await asyncio.open_connection("127.0.0.1", running.server.port)
    writer.write(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(third[0].readline(), 10)).startswith(b"HTTP/1.1 503")
    for _, each in (*held, third):
        each.close()


async def test_a_request_in_flight_is_answered_while_the_server_stops(running: Running) -> None:
    asking = asyncio.create_task(running.ask("POST", "/v2/models/hold/infer", BODY))
    await running.servicer.holding.wait()
    closing = asyncio.create_task(running.server.close())
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(closing), 0.3)
    running.servicer.release.set()
    assert (await asking)[0] == 200
    await closing


@pytest.mark.parametrize("running", [{"grace_s": 1}], indirect=True)
async def test_a_request_that_takes_longer_than_the_grace_period_is_cancelled(running: Running) -> None:
    asking = asyncio.create_task(running.ask("POST", "/v2/models/hold/infer", BODY))
    await running.servicer.holding.wait()
    await running.server.close()
    assert running.servicer.cancelled.is_set()
    assert (await asking)[:2] == (503, {"error": "this replica is stopping; send the request again"})
