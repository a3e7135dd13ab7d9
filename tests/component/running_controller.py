"""A controller on a free port, with a fake Triton behind a real gRPC server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from controller.server import Controller
from controller.settings import Settings
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.errors import NotSupported
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.methods import methods_of
from triptych.runtime.settings import StageSettings
from triptych.server import GrpcioServer
from triptych.server.inference_servicer import SERVICE
from triptych.server.lifecycle import shut_down


class FakeTriton:
    """Servicer that answers index and load from a folder of models."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.ready: set[tuple[str, str]] = set()
        self.loads: list[str] = []
        self.may_finish = asyncio.Event()  # what it loads
        self.may_finish.set()

    async def repository_index(self, _request: Any, _call: Call) -> Any:
        entry = pb.RepositoryIndexResponse.ModelIndex
        models = [entry(name=name, version=version, state="READY") for name, version in sorted(self.ready)]
        return pb.RepositoryIndexResponse(models=models)

    async def model_ready(self, request: Any, _call: Call) -> Any:
        return pb.ModelReadyResponse(ready=(request.name, request.version) in self.ready)

    async def repository_model_load(self, request: Any, _call: Call) -> Any:
        name = request.model_name
        self.loads.append(name)
        await self.may_finish.wait()
        if name.startswith("broken"):
            raise NotSupported(f"failed to load '{name}', no version is available")
        config = json.loads(request.parameters["config"].string_param)
        versions = config["version_policy"]["specific"]["versions"]
        self.ready |= {(name, version) for version in versions if (self.models / name / version).is_dir()}
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(self, request: Any, _call: Call) -> Any:
        self.ready = {key for key in self.ready if key[0] != request.model_name}
        return pb.RepositoryModelUnloadResponse()

    async def model_infer(self, request: Any, _call: Call) -> Any:
        """Return input x as output y, as `publish` declares."""
        (given,) = request.inputs
        response = pb.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        response.outputs.add(name="y", datatype=given.datatype, shape=given.shape)
        response.raw_output_contents.extend(request.raw_input_contents)
        return response

    async def model_statistics(self, _request: Any, _call: Call) -> Any:
        return pb.ModelStatisticsResponse()


class Stub:
    """Client stub of triptych.v1.Controller."""

    def __init__(self, channel: aio.Channel) -> None:
        for method in CONTROLLER_SERVICE.methods:
            make = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = make(
                f"/{CONTROLLER_SERVICE.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class RunningController:
    """A running controller with its folders, its Triton, and stubs of both protocols."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.models, self.documents = folder / "models", folder / "served"
        self.triton = FakeTriton(self.models)
        self.triton_settings = StageSettings(port=free_port())
        self.server = self.triton_server()
        self.settings = Settings(
            port=free_port(),
            metrics_port=0,
            model_repository=self.models,
            served_models=self.documents,
            triton=f"127.0.0.1:{self.triton_settings.port}",
            **{"poll_s": 0.01, "sync_s": 0.01, "drain_s": 0, "grace_s": 1} | settings,
        )
        self.controller = Controller(self.settings)
        self.channel = aio.insecure_channel(self.address)
        self.own = Stub(self.channel)
        self.oip = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.settings.port}"

    @property
    def predictor(self) -> str:
        return f"127.0.0.1:{self.triton_settings.port}"

    def triton_server(self) -> GrpcioServer:
        return GrpcioServer([methods_of(SERVICE, self.triton)], self.triton_settings)

    async def updates(self) -> AsyncIterator[cp.CatalogUpdate]:
        call = self.own.Watch(cp.WatchRequest(), timeout=30)
        try:
            async for update in call:
                yield update
        finally:  # else the call lasts until it is collected
            call.cancel()

    async def until(self, wanted: Any) -> cp.CatalogUpdate:
        """First update of a new stream for which `wanted` is true."""
        async for update in self.updates():
            if wanted(update):
                return update
        raise AssertionError("the stream ended")

    async def ensure(self, model: str, version: int = 1) -> Any:
        return await self.own.EnsureLoaded(cp.EnsureLoadedRequest(model=model, version=version), timeout=10)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def running(folder: Path, *, triton: bool = True, **settings: Any) -> AsyncIterator[RunningController]:
    system = RunningController(folder, **settings)
    if triton:
        await system.server.open()
    await system.controller.server.open()
    try:
        await system.controller.start()
        await system.controller.server.set_ready(True)
        yield system
    finally:  # a server that is left open takes the tests behind it down
        await system.channel.close()
        await shut_down(system.controller, system.settings)
        await system.server.close(0)
