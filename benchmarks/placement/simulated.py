"""Simulated Tritons with the real protocol and no models, for measurements of the controller.

    python -m benchmarks.placement.simulated --models FOLDER --count 20 --load-s 0.05 --unload-s 1

prints one address a line. A load takes `load-s`; an unload answers at once and stays in the index as UNLOADING for
`unload-s`, as Triton's does. The whole index lists every folder, as Triton's does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from grpc import StatusCode, aio, method_handlers_generic_handler, unary_unary_rpc_method_handler
from tritonclient.grpc import service_pb2 as pb

from triptych.protocol.methods import snake_case
from triptych.protocol.tensors import encode_response
from triptych.server.inference_servicer import SERVICE

Key = tuple[str, int]
Entry = pb.RepositoryIndexResponse.ModelIndex


class SimulatedTriton:
    """The calls that the controller makes of a Triton."""

    def __init__(self, listed: Mapping[str, bytes], load_s: float, unload_s: float) -> None:
        self._load_s, self._unload_s = load_s, unload_s
        self._listed = listed  # index entries of models that are not loaded
        self._states: dict[Key, str] = {}
        self._requests: dict[Key, int] = {}
        self._forgetting: set[asyncio.Task[None]] = set()

    def hold(self, keys: Iterable[Key]) -> None:
        """Have these versions loaded from the start; each has answered one request."""
        for key in keys:
            self._states[key], self._requests[key] = "READY", 1

    async def server_live(self, _request: pb.ServerLiveRequest, _context: Any) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: pb.ServerReadyRequest, _context: Any) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, request: pb.ModelReadyRequest, _context: Any) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._states.get((request.name, int(request.version))) == "READY")

    async def model_infer(self, request: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        """Answer the made-up rows of a warm-up; all models are copies of `sales_forecast`."""
        rows = request.inputs[0].shape[0]
        return encode_response(pb.ModelInferResponse(), {"forecast": np.zeros((rows, 7), np.float32)})

    async def repository_index(self, request: pb.RepositoryIndexRequest, _context: Any) -> bytes:
        """Encode as bytes, since messages with repeated fields can be concatenated."""
        held = _bytes(
            [
                Entry(name=name, version=str(version), state=state)
                for (name, version), state in self._states.items()
                if state == "READY" or not request.ready
            ]
        )
        known = {name for name, _ in self._states}
        rest = [] if request.ready else [data for name, data in self._listed.items() if name not in known]
        return b"".join([held, *rest])

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, context: Any
    ) -> pb.RepositoryModelLoadResponse:
        name = request.model_name
        if name not in self._listed:
            await context.abort(StatusCode.INTERNAL, f"failed to load '{name}', no such folder")
        policy = json.loads(request.parameters["config"].string_param)["version_policy"]
        wanted = {(name, int(version)) for version in policy["specific"]["versions"]}
        there = {key for key, state in self._states.items() if key[0] == name and state == "READY"}
        for key in wanted - there:
            self._states[key] = "LOADING"
        if wanted - there:
            await asyncio.sleep(self._load_s)
        self.hold(wanted - there)  # the request is the one that it was loaded for
        self._unload(there - wanted)
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest, _context: Any
    ) -> pb.RepositoryModelUnloadResponse:
        self._unload({key for key in self._states if key[0] == request.model_name})
        return pb.RepositoryModelUnloadResponse()

    async def model_statistics(self, _request: pb.ModelStatisticsRequest, _context: Any) -> pb.ModelStatisticsResponse:
        response = pb.ModelStatisticsResponse()
        for key, state in self._states.items():
            if state == "READY":
                statistics = response.model_stats.add(name=key[0], version=str(key[1]))
                statistics.inference_stats.success.count = self._requests[key]
        return response

    def _unload(self, keys: set[Key]) -> None:
        for key in keys:
            self._states[key] = "UNLOADING"
            task = asyncio.create_task(self._forget(key))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def _forget(self, key: Key) -> None:
        await asyncio.sleep(self._unload_s)
        if self._states.get(key) == "UNLOADING":
            del self._states[key]


def listing(names: Iterable[str]) -> Mapping[str, bytes]:
    """Index entry of each model that is not loaded; all simulated Tritons share it."""
    return {name: _bytes([Entry(name=name)]) for name in names}


def _bytes(entries: list[pb.RepositoryIndexResponse.ModelIndex]) -> bytes:
    data: bytes = pb.RepositoryIndexResponse(models=entries).SerializeToString()
    return data


def _encoded(answer: bytes | Message) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


async def serve(triton: SimulatedTriton, host: str = "127.0.0.1", port: int = 0) -> tuple[aio.Server, str]:
    """Serve the simulated Triton, and return its address."""
    handlers = {}
    for method in SERVICE.methods:
        if answer := getattr(triton, snake_case(method.name), None):
            request: type[Message] = getattr(pb, method.input_type.name)
            handlers[method.name] = unary_unary_rpc_method_handler(
                answer, request_deserializer=request.FromString, response_serializer=_encoded
            )
    server = aio.server()
    server.add_generic_rpc_handlers((method_handlers_generic_handler(SERVICE.full_name, handlers),))
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server, f"{host}:{bound}"


async def _run(models: Path, count: int, load_s: float, unload_s: float) -> None:
    names = sorted(folder.name for folder in models.iterdir())
    listed = listing(names)
    started = [await serve(SimulatedTriton(listed, load_s, unload_s)) for _ in range(count)]
    print("\n".join(address for _, address in started), flush=True)
    await asyncio.gather(*(server.wait_for_termination() for server, _ in started))


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement.simulated", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of the models")
    parser.add_argument("--count", type=int, default=20, help="Tritons, each on a port of its own")
    parser.add_argument("--load-s", type=float, default=0.05)
    parser.add_argument("--unload-s", type=float, default=1.0)
    given = parser.parse_args()
    asyncio.run(_run(given.models, given.count, given.load_s, given.unload_s))


if __name__ == "__main__":
    main()
