"""Servicer of the Open Inference Protocol: everything that does not depend on the stage.

A stage derives from `InferenceServicer` and implements `describe`, `model_available` and `infer`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from triptych import __version__
from triptych.errors import MAX_WORD, DeadlineExceeded, InvalidRequest, Overloaded, clipped
from triptych.protocol.call import Call
from triptych.protocol.infer_request import RequestLimits, mark_final, own_timeout_s, refuse_unknown_fields
from triptych.protocol.metadata import ModelInfo, config_of
from triptych.protocol.status import outcome_code, status_of
from triptych.runtime.ewma import Ewma
from triptych.runtime.first_step import time_limit
from triptych.runtime.settings import StageSettings
from triptych.server.base import refusal
from triptych.server.stream_window import AnswerBytes, StreamedRequest, StreamWindow
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_scope import RequestScope

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_NO_SHARED_MEMORY = "tensors travel in the message here, there is no shared memory between this server and its callers"
_NO_CONTROL = "the model repository defines what is served; the controller's own service (port 9002) shows and loads it"
# Methods of Triton that this server does not offer, and what to do instead.
NOT_OFFERED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "RepositoryIndex": _NO_CONTROL,
        "RepositoryModelLoad": _NO_CONTROL,
        "RepositoryModelUnload": _NO_CONTROL,
        "SystemSharedMemoryStatus": _NO_SHARED_MEMORY,
        "SystemSharedMemoryRegister": _NO_SHARED_MEMORY,
        "SystemSharedMemoryUnregister": _NO_SHARED_MEMORY,
        "CudaSharedMemoryStatus": _NO_SHARED_MEMORY,
        "CudaSharedMemoryRegister": _NO_SHARED_MEMORY,
        "CudaSharedMemoryUnregister": _NO_SHARED_MEMORY,
        "TraceSetting": "spans go to the collector that the setting otlp_endpoint names",
        "LogSettings": "the setting log_level selects what is logged",
    }
)
MIN_RETRY_HINT_S = 0.05  # before the first request has been timed
LATEST_WEIGHT = 0.1  # of the latest request in the average


class InferenceServicer:
    """Open Inference Protocol of a stage. Subclasses implement `describe`, `model_available` and `infer`."""

    extensions: Sequence[str] = ("model_configuration", "parameters", "statistics")
    not_offered = NOT_OFFERED
    begins_at_once = frozenset({"ModelInfer"})

    def __init__(self, stage: str, settings: StageSettings, metrics: StageMetrics, is_ready: Callable[[], bool]):
        self.stage = stage
        self.settings = settings
        self.metrics = metrics
        self.limits = RequestLimits(settings.max_request_items, settings.max_text_length)
        self._is_ready, self._max_in_flight = is_ready, settings.max_in_flight
        self._in_flight = 0
        self._stream_bytes = AnswerBytes(settings.max_bytes_in_flight)
        self._request_s = Ewma(LATEST_WEIGHT, initial=0.0)
        metrics.watch_in_flight(lambda: self._in_flight)

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        """Metadata of a model. Raises the errors of `UnknownTarget`."""
        raise NotImplementedError

    async def model_available(self, name: str, version: str, call: Call) -> bool:
        """Whether a request for that model would be accepted."""
        raise NotImplementedError

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """Answer one request."""
        raise NotImplementedError

    # Methods of the protocol.

    async def server_live(self, request: pb.ServerLiveRequest, _call: Call) -> pb.ServerLiveResponse:
        self.check(request)
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest, _call: Call) -> pb.ServerReadyResponse:
        self.check(request)
        return pb.ServerReadyResponse(ready=self._is_ready())

    async def server_metadata(self, request: pb.ServerMetadataRequest, _call: Call) -> pb.ServerMetadataResponse:
        """Name, version and `extensions`, which have the names of Triton's documentation."""
        self.check(request)
        return pb.ServerMetadataResponse(name=f"triptych-{self.stage}", version=__version__, extensions=self.extensions)

    async def model_ready(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        self.check(request, request.name, request.version)
        return pb.ModelReadyResponse(ready=await self.model_available(request.name, request.version, call))

    async def model_metadata(self, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
        self.check(request, request.name, request.version)
        model = await self.describe(request.name, request.version, call)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=model.versions,
            platform="triptych",
            inputs=[tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in model.inputs],
            outputs=[tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in model.outputs],
        )

    async def model_config(self, request: pb.ModelConfigRequest, call: Call) -> pb.ModelConfigResponse:
        self.check(request, request.name, request.version)
        model = await self.describe(request.name, request.version, call)
        return pb.ModelConfigResponse(config=config_of(request.name, model))

    async def model_statistics(self, request: pb.ModelStatisticsRequest, call: Call) -> pb.ModelStatisticsResponse:
        self.check(request, request.name, request.version)
        if not request.name:
            return self.metrics.statistics("", ())
        model = await self.describe(request.name, request.version, call)
        return self.metrics.statistics(request.name, [model.asked] if model.asked else model.versions)

    async def model_infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """Answer one request, with metrics and within the limit of requests in flight."""
        self._in_flight += 1
        try:
            with RequestScope(self.metrics, request, call):
                self.refuse_beyond(self._max_in_flight)
                self.limits.check(request)
                started_s = time.monotonic()
                limit_s = own_timeout_s(request)
                answer = await (
                    self.infer(request, call) if limit_s is None else self._infer_in_time(request, call, limit_s)
                )
                self._request_s.add(time.monotonic() - started_s)
                return answer
        finally:
            self._in_flight -= 1

    async def _infer_in_time(self, request: pb.ModelInferRequest, call: Call, limit_s: float) -> pb.ModelInferResponse:
        """Answer within the request's parameter `timeout`, which no transport enforces."""
        call.shorten(limit_s)
        try:
            async with time_limit(call.remaining_s()):
                return await self.infer(request, call)
        except TimeoutError:
            raise DeadlineExceeded(f"the request's timeout of {limit_s * 1e6:.0f} us has passed") from None

    def refuse_beyond(self, limit: int) -> None:
        """Raises `Overloaded` if more requests are in flight.

        Its retry hint is the time of one request with jitter, so that retries spread out.
        """
        if self._in_flight > limit:
            text = f"{self.stage} already works on {limit} requests, its limit; try again later"
            raise Overloaded(text, max(self._request_s.value, MIN_RETRY_HINT_S) * random.uniform(0.5, 1.5))

    def check(self, request: Message, name: str = "", version: str = "") -> None:
        """Raises `InvalidRequest` for unknown fields, and for a name or version over the limit."""
        self.limits.check_text("name", name)
        self.limits.check_text("version", version)
        refuse_unknown_fields(request)

    async def model_stream_infer(
        self, requests: AsyncIterator[Callable[[], pb.ModelInferRequest]], call: Call
    ) -> AsyncIterator[bytes]:
        """Answer in the order of the requests. An error answers its own request, and the stream continues."""
        window = StreamWindow(self._stream_bytes)
        reader = asyncio.create_task(self._read_stream(requests, call, window))
        try:
            while (oldest := await window.oldest()) is not None:
                yield await window.answer(oldest)
                oldest.call.settle("OK")
                window.remove_oldest()
            await reader
        finally:
            reader.cancel()
            left = window.cancel()  # at once, so that nothing more is made for nobody
            await asyncio.gather(reader, return_exceptions=True)
            for unsent in left:
                unsent.call.settle(outcome_code(asyncio.CancelledError(), call))

    async def _read_stream(
        self, requests: AsyncIterator[Callable[[], pb.ModelInferRequest]], call: Call, window: StreamWindow
    ) -> None:
        try:
            async for parse in requests:
                await window.until_free()
                request = StreamedRequest(Call(call.deadline, call.metadata, on_settled=[]))
                window.add(request, self._answer_in_stream(parse, request, window))
                del parse, request  # with the bytes of the message: the next one may never come
        finally:
            window.end()

    async def _answer_in_stream(
        self, parse: Callable[[], pb.ModelInferRequest], streamed: StreamedRequest, window: StreamWindow
    ) -> bytes:
        """Encoded answer to one request of a stream. An error has Triton's form: `error_message` with the id."""
        try:
            request = parse()
        except InvalidRequest as error:
            code, text = status_of(error)
            request, answer = pb.ModelInferRequest(), pb.ModelStreamInferResponse(error_message=f"{code.name}: {text}")
        else:
            del parse  # with the bytes of the message
            answer = await self._streamed(request, streamed.call)
        data: bytes = answer.SerializeToString()
        try:
            window.count(streamed, len(data))
        except Overloaded as error:
            streamed.call.settle(status_of(error)[0].name)
            data = self._error_answer(error, request, streamed.call, MAX_WORD).SerializeToString()
            window.count_unchecked(streamed, len(data))
        return data

    async def _streamed(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelStreamInferResponse:
        """Answer one request of a stream, an error as well."""
        try:
            call.deadline = time.monotonic() + call.remaining_s(self.settings.request_timeout_s)
            answer = pb.ModelStreamInferResponse(infer_response=await self.model_infer(request, call))
        except Exception as error:
            return self._error_answer(error, request, call, self.limits.text)
        mark_final(answer.infer_response)
        return answer

    def _error_answer(
        self, error: Exception, request: pb.ModelInferRequest, call: Call, max_id: int
    ) -> pb.ModelStreamInferResponse:
        """Answer of a stream to a request that failed, with the first `max_id` characters of the caller's id."""
        request_id, shows_cause = call.failed_request or request.id, self.settings.show_internal_errors
        code, text, _ = refusal(error, "ModelStreamInfer", request_id, shows_cause=shows_cause)
        answer = pb.ModelStreamInferResponse(error_message=f"{code.name}: {text}")
        answer.infer_response.id, answer.infer_response.model_name = request.id[:max_id], clipped(request.model_name)
        mark_final(answer.infer_response)
        return answer
