"""Ray Serve with a deployment for each of the three steps, behind its gRPC proxy with the same protocol.

    python -m benchmarks.serving.programs.ray_serve --port P --configs FOLDER NAME=FILE.onnx ...

FOLDER holds the serialised answers to ModelMetadata and ModelConfig of each model.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import ray
from ray import serve
from ray.serve.config import gRPCOptions
from tritonclient.grpc import service_pb2 as pb

from benchmarks.serving.programs import messages, work

SERVICER = "tritonclient.grpc.service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"
ONGOING = 200
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
CPUS = {"num_cpus": 0.1}  # for Ray's scheduler, not a limit: all share the cores

Array = np.ndarray[Any, Any]


@serve.deployment(max_ongoing_requests=ONGOING, ray_actor_options=CPUS)
class Predict:
    """Deployment that runs the models; waiting requests are batched."""

    def __init__(self, models: dict[str, str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = {
            name: onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for name, file in models.items()
        }

    async def __call__(self, model: str, tensors: dict[str, Array]) -> dict[str, Array]:
        answer: dict[str, Array] = await self._batch((model, tensors))
        return answer

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0)  # type: ignore[untyped-decorator]
    async def _batch(self, asked: list[tuple[str, dict[str, Array]]]) -> list[dict[str, Array]]:
        answers: list[dict[str, Array]] = [{}] * len(asked)
        for model in {model for model, _ in asked}:
            places = [at for at, (name, _) in enumerate(asked) if name == model]
            session = self._sessions[model]
            names = [output.name for output in session.get_outputs()]
            inputs = {name: np.concatenate([asked[at][1][name] for at in places]) for name in asked[places[0]][1]}
            outputs = dict(zip(names, session.run(names, inputs), strict=True))
            ends = np.cumsum([len(next(iter(asked[at][1].values()))) for at in places]).tolist()
            for at, start, end in zip(places, [0, *ends], ends, strict=False):
                answers[at] = {name: array[start:end] for name, array in outputs.items()}
        return answers


@serve.deployment(max_ongoing_requests=ONGOING, ray_actor_options=CPUS)
class After:
    """Deployment that converts the model's outputs to the answer."""

    async def __call__(self, kind: str, outputs: dict[str, Array]) -> dict[str, Array]:
        return work.after(kind, outputs)


@serve.deployment(max_ongoing_requests=ONGOING, ray_actor_options=CPUS)
class Before:
    """Entry deployment: prepares the tensors and calls the other two. Its methods are those of the gRPC service."""

    def __init__(self, predict: Any, after: Any, configs: str) -> None:
        self._predict, self._after, self._configs = predict, after, Path(configs)

    async def ServerReady(self, request: Any) -> Any:
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any) -> Any:
        return pb.ServerMetadataResponse(name="ray-serve", version="1")

    async def ModelMetadata(self, request: Any) -> Any:
        return pb.ModelMetadataResponse.FromString((self._configs / f"{request.name}.metadata").read_bytes())

    async def ModelConfig(self, request: Any) -> Any:
        return pb.ModelConfigResponse.FromString((self._configs / f"{request.name}.config").read_bytes())

    async def ModelInfer(self, request: Any) -> Any:
        inputs = messages.inputs_of(request)
        kind = work.kind_of(request.model_name)
        if kind == "digits":  # pictures take milliseconds, and OpenCV releases the GIL
            tensors = await asyncio.to_thread(work.before, kind, inputs)
        else:
            tensors = work.before(kind, inputs)
        outputs = await self._predict.remote(request.model_name, tensors)
        answer = await self._after.remote(kind, outputs)
        return messages.answer_to(request, answer)


def deployments() -> tuple[Any, Any, Any]:
    """The deployments above, typed as Any."""
    return Before, Predict, After


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--configs", required=True)
    parser.add_argument("models", nargs="+")
    given = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    cores = len(os.sched_getaffinity(0))
    ray.init(include_dashboard=False, num_cpus=cores, object_store_memory=100 << 20, log_to_driver=False)
    serve.start(
        http_options={"port": given.http_port},
        grpc_options=gRPCOptions(port=given.port, grpc_servicer_functions=[SERVICER]),
        logging_config=QUIET,
    )
    models = dict(each.split("=", 1) for each in given.models)
    before, predict, after = deployments()
    serve.run(before.bind(predict.bind(models), after.bind(), given.configs), logging_config=QUIET)
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
