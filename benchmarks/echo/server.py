"""Builds echo: the least that perf_analyzer asks of a server, behind any server of ours."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import service_pb2 as pb

from benchmarks.echo.settings import Settings
from triptych.client.upstream import Upstream
from triptych.protocol.call import Call
from triptych.protocol.metadata import ModelInfo, TensorInfo, config_of
from triptych.protocol.methods import methods_of
from triptych.server import server_for
from triptych.server.inference_servicer import SERVICE

TENSOR = TensorInfo("rows", "FP32", [-1, 28])
MODEL = ModelInfo("echo", ["1"], 64, [TENSOR], [TENSOR])


class EchoServicer:
    """One tensor in, the same out."""

    def __init__(self, settings: Settings) -> None:
        self.upstream = _upstream(settings) if settings.upstream else None
        self._answered = 0

    async def server_live(self, _request: Any, _call: Call) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_metadata(self, _request: Any, _call: Call) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="echo", version="1", extensions=["statistics"])

    async def model_metadata(self, _request: Any, _call: Call) -> pb.ModelMetadataResponse:
        tensor = pb.ModelMetadataResponse.TensorMetadata(name=TENSOR.name, datatype=TENSOR.datatype, shape=TENSOR.shape)
        return pb.ModelMetadataResponse(name=MODEL.name, versions=MODEL.versions, inputs=[tensor], outputs=[tensor])

    async def model_config(self, _request: Any, _call: Call) -> pb.ModelConfigResponse:
        return pb.ModelConfigResponse(config=config_of(MODEL.name, MODEL))

    async def model_statistics(self, _request: Any, _call: Call) -> pb.ModelStatisticsResponse:
        """perf_analyzer finds the version by its counts."""
        counted = pb.ModelStatistics(
            name=MODEL.name, version="1", inference_count=self._answered, execution_count=self._answered
        )
        counted.inference_stats.success.count = counted.inference_stats.queue.count = self._answered
        return pb.ModelStatisticsResponse(model_stats=[counted])

    async def model_infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        self._answered += 1
        if self.upstream is not None:
            relayed: pb.ModelInferResponse = await self.upstream.call("ModelInfer", request, call)
            return relayed
        answer = pb.ModelInferResponse(
            id=request.id, model_name=MODEL.name, model_version="1", raw_output_contents=request.raw_input_contents
        )
        answer.outputs.add(name=TENSOR.name, datatype=TENSOR.datatype, shape=request.inputs[0].shape)
        return answer


def _upstream(settings: Settings) -> Upstream:
    return Upstream("echo", settings.upstream, SERVICE, relays=False, transport=settings.transport)


class Echo:
    """The stage, built and not yet started."""

    def __init__(self, settings: Settings) -> None:
        self._servicer = EchoServicer(settings)
        self.server = server_for([methods_of(SERVICE, self._servicer)], settings)

    async def start(self) -> None:
        return

    async def close(self) -> None:
        if self._servicer.upstream is not None:
            await self._servicer.upstream.close()


async def build(settings: Settings) -> Echo:
    return Echo(settings)
