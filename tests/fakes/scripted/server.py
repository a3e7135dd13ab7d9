"""A stage whose behaviour is chosen by the model's name in the request, behind the configured server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from tests.fakes.scripted.samples import BY_NAME
from tests.fakes.scripted.settings import Settings
from triptych import errors
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.metadata import ModelInfo
from triptych.protocol.methods import methods_of
from triptych.protocol.parameters import decode_parameters, encode_parameter
from triptych.server import probes, server_for
from triptych.server.inference_servicer import SERVICE, InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing


class Scripted(InferenceServicer):
    """Servicer that acts on the model's name; unknown names echo."""

    def __init__(self, settings: Settings, metrics: StageMetrics) -> None:
        super().__init__("scripted", settings, metrics, lambda: True)
        self._release = asyncio.Event()
        self.counts = {"held": 0, "cancelled": 0, "watches": 0, "watches_cancelled": 0}

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        raise errors.UnknownModel(name)

    async def model_ready(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        """Release all `hold` requests; this method is outside of the limit of requests in flight."""
        self._release.set()
        self._release = asyncio.Event()
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(self, _request: pb.ServerMetadataRequest, call: Call) -> pb.ServerMetadataResponse:
        """Counters, and the servicer's view of the call."""
        seen = {**self.counts, "remaining_s": call.remaining_s(), "metadata": dict(call.metadata)}
        return pb.ServerMetadataResponse(name=json.dumps(seen))

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        parameters = decode_parameters(request.parameters)
        answer = pb.ModelInferResponse(id=request.id, model_name=request.model_name)
        match request.model_name:
            case "raise":
                raise BY_NAME[str(parameters["error"])].with_traceback(None)  # else it keeps all frames
            case "sleep":
                await asyncio.sleep(_seconds(parameters))
            case "hold":
                await self._hold()
            case "large":
                answer.raw_output_contents.append(bytes(int(parameters["bytes"])))
            case _:
                answer.raw_output_contents.extend(request.raw_input_contents)
                answer.parameters["bytes"].CopyFrom(encode_parameter(sum(map(len, request.raw_input_contents))))
        return answer

    async def _hold(self) -> None:
        self.counts["held"] += 1
        try:
            await self._release.wait()
        except asyncio.CancelledError:
            self.counts["cancelled"] += 1
            raise


def _seconds(parameters: Mapping[str, Any]) -> float:
    """Seconds in a model's name, which a fuzzer may have changed."""
    try:
        return float(parameters["seconds"])
    except (KeyError, ValueError):
        raise errors.InvalidParameter("seconds", "a number", repr(parameters)) from None


class Watched:
    """Service with a stream that ends only when the server drains."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts, self._end = counts, asyncio.Event()

    async def watch(self, _request: Any, _call: Call) -> AsyncIterator[cp.CatalogUpdate]:
        self._counts["watches"] += 1
        try:
            yield cp.CatalogUpdate(revision=1)
            await self._end.wait()
        except (asyncio.CancelledError, GeneratorExit):  # the second: its answer was just being written
            self._counts["watches_cancelled"] += 1
            raise
        raise errors.Draining("watch it again")

    def end(self) -> None:
        self._end.set()


class Stage:
    """The scripted stage, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._metrics = settings, StageMetrics("scripted", Tracing())
        servicer = Scripted(settings, self._metrics)
        self._watched = Watched(servicer.counts)
        self.server = server_for(
            [methods_of(SERVICE, servicer), methods_of(CONTROLLER_SERVICE, self._watched)], settings
        )

    async def start(self) -> None:
        probes.serve(self._settings, self.server, self._metrics)
        await asyncio.sleep(self._settings.start_s)

    async def drain(self) -> None:
        self._watched.end()

    async def close(self) -> None:
        return


async def build(settings: Settings) -> Stage:
    return Stage(settings)
