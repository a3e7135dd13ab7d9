"""Paths of the HTTP form, and its errors."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tritonclient.grpc import service_pb2 as pb

from preprocess.rest.codec import RestAnswer, RestRequest, decode_body, encode_answer
from preprocess.settings import Settings
from triptych.errors import DeadlineExceeded, InvalidRequest, Overloaded
from triptych.protocol.call import Call
from triptych.protocol.infer_request import memory_bytes
from triptych.protocol.request_ids import request_suffix
from triptych.protocol.status import RETRY_AFTER
from triptych.runtime.in_flight import InFlightBytes
from triptych.server.base import STOPPING, refusal
from triptych.server.inference_servicer import InferenceServicer

STATUS: Final[dict[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.FAILED_PRECONDITION: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_PART_BYTES: Final = 256 << 10
_INLINE_BYTES: Final = 64 << 10  # of an answer that is encoded on the loop
JSON_BYTES: Final = "Inference-Header-Content-Length"
_PATHS = "/v2, /v2/health/live, /v2/health/ready, /v2/models/MODEL[/versions/VERSION][/ready|/infer]"

Answer = Callable[[Request, Call], Awaitable[Response]]


class _TooMuchJson(Exception):
    """More JSON than the setting allows."""


class _OwnBytes:
    """Bytes in flight of one request, or of one answer."""

    def __init__(self, all_bytes: InFlightBytes) -> None:
        self._all_bytes, self._own_bytes = all_bytes, 0

    def add(self, size_bytes: int) -> None:
        """Raises `Overloaded`."""
        self._all_bytes.acquire(size_bytes, self._own_bytes)
        self._own_bytes += size_bytes

    def close(self) -> None:
        self._all_bytes.release(self._own_bytes)


class _CountedResponse(Response):
    """An answer whose bytes are in flight until its caller has read them. Raises `Overloaded`.

    It is sent in parts: uvicorn waits for a caller that does not read before each part, and not after the last one.
    """

    def __init__(self, all_bytes: InFlightBytes, body: bytes, headers: dict[str, str], media_type: str) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._bytes = _OwnBytes(all_bytes)
        self._bytes.add(len(body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), _PART_BYTES):
                part = self.body[start : start + _PART_BYTES]
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            self._bytes.close()


class RestApp:
    """The paths over a servicer. `app` is the ASGI application."""

    def __init__(self, settings: Settings, servicer: InferenceServicer) -> None:
        self._settings, self._servicer = settings, servicer
        self._arriving = InFlightBytes(settings.max_bytes_in_flight)
        self._answering = InFlightBytes(settings.max_bytes_in_flight)  # until their callers have read them
        self._parsing = asyncio.Lock()  # a parsed document takes many times its bytes: one at a time
        model = "/v2/models/{model}"
        routes = [Route("/v2", self._guarded(self._server)), Route("/v2/", self._guarded(self._server))]
        routes += [Route(f"/v2/health/{name}", self._guarded(answer)) for name, answer in self._health()]
        for path in (model, f"{model}/versions/{{version}}"):
            routes.append(Route(path, self._guarded(self._metadata)))
            routes.append(Route(f"{path}/ready", self._guarded(self._model_ready)))
            routes.append(Route(f"{path}/infer", self._guarded(self._infer), methods=["POST"]))
        self.app = Starlette(routes=routes, exception_handlers={404: _unknown_path, 405: _wrong_method})
        self.app.router.redirect_slashes = False  # a redirect would name the host that the caller did

    def _health(self) -> tuple[tuple[str, Answer], ...]:
        async def live(_request: Request, call: Call) -> Response:
            return _json({"live": (await self._servicer.server_live(pb.ServerLiveRequest(), call)).live})

        async def ready(_request: Request, call: Call) -> Response:
            is_ready = (await self._servicer.server_ready(pb.ServerReadyRequest(), call)).ready
            return _json({"ready": is_ready}, 200 if is_ready else 503)

        return ("live", live), ("ready", ready)

    async def _server(self, _request: Request, call: Call) -> Response:
        about = await self._servicer.server_metadata(pb.ServerMetadataRequest(), call)
        extensions = ["binary_tensor_data", "parameters"]
        return _json({"name": about.name, "version": about.version, "extensions": extensions})

    async def _metadata(self, request: Request, call: Call) -> Response:
        name, version = _target(request)
        about = await self._servicer.model_metadata(pb.ModelMetadataRequest(name=name, version=version), call)
        inputs, outputs = (
            [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in tensors]
            for tensors in (about.inputs, about.outputs)
        )
        document = {"name": about.name, "versions": list(about.versions), "platform": about.platform}
        return _json(document | {"inputs": inputs, "outputs": outputs})

    async def _model_ready(self, request: Request, call: Call) -> Response:
        name, version = _target(request)
        answer = await self._servicer.model_ready(pb.ModelReadyRequest(name=name, version=version), call)
        return _json({"name": name, "ready": answer.ready}, 200 if answer.ready else 503)

    async def _infer(self, request: Request, call: Call) -> Response:
        name, version = _target(request)
        _check_encoding(request)
        arrived = _OwnBytes(self._arriving)
        try:
            asked = await self._read(request, call, arrived, name, version)
            response = await _unless_gone(request, self._servicer.model_infer(asked.message, call))
            answer = await self._encode(response, asked)
        finally:
            arrived.close()
        if answer.json_bytes is None:
            return _CountedResponse(self._answering, answer.body, {}, "application/json")
        headers = {JSON_BYTES: str(answer.json_bytes)}
        return _CountedResponse(self._answering, answer.body, headers, "application/octet-stream")

    async def _read(self, request: Request, call: Call, arrived: _OwnBytes, name: str, version: str) -> RestRequest:
        """The request. Its bytes, and then its message, are counted in `arrived`."""
        json_bytes = _json_bytes(request)
        body = await self._receive(request, call, arrived)
        size = len(body) if json_bytes is None else json_bytes
        if size > self._settings.rest_max_json_bytes:
            limit = f"{self._settings.rest_max_json_bytes} bytes of JSON; send tensors as binary, or by gRPC"
            raise _TooMuchJson(f"want at most {limit}, got {size}")
        async with self._parsing:
            call.remaining_s()  # the others took their time
            if await request.is_disconnected():
                raise ClientDisconnect
            asked = await asyncio.to_thread(decode_body, body, json_bytes, name, version, self._servicer.limits)
        arrived.add(max(0, memory_bytes(asked.message) - len(body)))
        return asked

    async def _receive(self, request: Request, call: Call, arrived: _OwnBytes) -> bytearray:
        """The body, at the least rate of the settings and within the time of the call."""
        settings, body, begun, loop = self._settings, bytearray(), 0, asyncio.get_running_loop()
        until_s = loop.time() + call.remaining_s()
        wanted_bytes = settings.min_bytes_per_s * settings.slow_after_s
        window_s = settings.slow_after_s if wanted_bytes else math.inf
        try:
            async with asyncio.timeout_at(min(until_s, loop.time() + window_s)) as limit:
                async for part in request.stream():
                    if len(body) + len(part) > settings.max_message_bytes:
                        raise Overloaded(f"want a body of at most {settings.max_message_bytes} bytes, got more")
                    arrived.add(len(part))
                    body += part
                    if len(body) - begun >= wanted_bytes:
                        begun = len(body)
                        limit.reschedule(min(until_s, loop.time() + window_s))
        except TimeoutError:
            raise DeadlineExceeded(
                f"the body did not arrive in time; {len(body)} bytes of it did. Want {wanted_bytes:.0f} bytes of it in "
                f"{settings.slow_after_s:g} s, and all within the call's time"
            ) from None
        return body

    async def _encode(self, response: pb.ModelInferResponse, asked: RestRequest) -> RestAnswer:
        """The body of an answer, a large one from a thread."""
        most = self._settings.rest_max_json_bytes
        if response.ByteSize() <= _INLINE_BYTES:
            return encode_answer(response, asked.binary, most)
        return await asyncio.to_thread(encode_answer, response, asked.binary, most)

    def _guarded(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a path: its call has a deadline, and errors become their status."""

        async def guarded(request: Request) -> Response:
            call = Call.within(self._settings.request_timeout_s, dict(request.headers))
            try:
                return await answer(request, call)
            except ClientDisconnect:
                return Response(status_code=499)
            except _TooMuchJson as error:
                return _json({"error": str(error)}, 413)
            except asyncio.CancelledError:  # the grace period is over
                return _json({"error": STOPPING + request_suffix(call.failed_request)}, 503)
            except Exception as error:
                shows_cause = self._settings.show_internal_errors
                code, text, trailers = refusal(error, request.url.path, call.failed_request, shows_cause=shows_cause)
                return _json({"error": text}, STATUS.get(code, 500), _retry_after(trailers))

        return guarded


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any:
    """The answer, or its cancellation once the caller has closed the connection. Raises `ClientDisconnect`."""
    working = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for each in (working, leaving):
            each.cancel()
        await asyncio.wait({working, leaving})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


def _check_encoding(request: Request) -> None:
    """Raises `InvalidRequest` for a compressed body."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise InvalidRequest("want a body without Content-Encoding; compressed requests are for gRPC")


def _json_bytes(request: Request) -> int | None:
    """Bytes of JSON at the start of the body, None for all of it. Raises `InvalidRequest`."""
    text = request.headers.get(JSON_BYTES)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest(f"{JSON_BYTES}: want a whole number of bytes")
    return int(text)


def _json(document: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(document, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type="application/json")


def _retry_after(trailers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The retry hint in whole seconds, as HTTP has it."""
    milliseconds = dict(trailers).get(RETRY_AFTER)
    return {"Retry-After": str(math.ceil(int(milliseconds) / 1000))} if milliseconds else {}


async def _unknown_path(_request: Request, _error: Exception) -> Response:
    return _json({"error": f"want one of {_PATHS}"}, 404)


async def _wrong_method(_request: Request, _error: Exception) -> Response:
    return _json({"error": "want POST for /infer, GET for the others"}, 405)
