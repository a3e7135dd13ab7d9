"""All three steps in one process: grpc.aio, onnxruntime, and the work before and after the model inline.

    python -m benchmarks.serving.programs.grouped --port P --configs FOLDER NAME=FILE.onnx ...

FOLDER holds the serialised answers to ModelMetadata and ModelConfig of each model.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvloop
from grpc import aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from benchmarks.serving.programs import messages, work

Array = np.ndarray[Any, Any]


class GroupedServicer(pb_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Servicer with the methods that callers and load generators use."""

    def __init__(self, models: dict[str, Path], configs: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the models are small; more threads only compete for the cores
        self._sessions = {
            name: onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for name, file in models.items()
        }
        self._configs = configs
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return pb.ServerMetadataResponse(name="grouped", version="1")

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        return pb.ModelMetadataResponse.FromString((self._configs / f"{request.name}.metadata").read_bytes())

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        return pb.ModelConfigResponse.FromString((self._configs / f"{request.name}.config").read_bytes())

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        inputs = messages.inputs_of(request)
        kind = work.kind_of(request.model_name)
        if kind == "digits":  # pictures take milliseconds, and OpenCV releases the GIL
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._pool, self._answer, request.model_name, kind, inputs)
        else:
            answer = self._answer(request.model_name, kind, inputs)
        return messages.answer_to(request, answer)

    def _answer(self, model: str, kind: str, inputs: dict[str, Array]) -> dict[str, Array]:
        session = self._sessions[model]
        names = [output.name for output in session.get_outputs()]
        return work.after(kind, dict(zip(names, session.run(names, work.before(kind, inputs)), strict=True)))


async def serve(port: int, service: GroupedServicer) -> None:
    server = aio.server()
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("models", nargs="+")
    given = parser.parse_args()
    models = {name: Path(file) for name, _, file in (each.partition("=") for each in given.models)}
    uvloop.run(serve(given.port, GroupedServicer(models, given.configs)))


if __name__ == "__main__":
    main()
