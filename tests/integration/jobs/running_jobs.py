"""The service on a free port, a worker beside it, and stubs of its two protocols."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2 as lro
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from jobs.api import operations, servicer
from jobs.ledger import Ledger
from jobs.objects import Objects
from jobs.server import JobsService, build
from jobs.settings import Settings
from jobs.worker import PartWorker, WorkerOptions
from tests.integration.jobs.doubling import Doubling
from triptych.protocol import jobs_pb2 as jp
from triptych.server.lifecycle import shut_down


class RunningJobs:
    """A running service with its client stubs, `Submit` and so on."""

    def __init__(self, service: JobsService, channel: aio.Channel, settings: Settings) -> None:
        self.service, self.settings, self.channel = service, settings, channel
        self.ledger: Ledger = service._ledger
        self.objects: Objects = service._objects
        self._calls = {
            **stubs(channel, servicer.SERVICE),
            **stubs(channel, operations.SERVICE),
        }

    def __getattr__(self, name: str) -> Any:
        return self._calls[name]

    async def submit(self, document: str, request_id: str = "r", **options: Any) -> str:
        request = jp.SubmitRequest(request_id=request_id, document=document, **options)
        return str((await self.Submit(request, timeout=60)).name)

    async def operation(self, name: str) -> lro.Operation:
        """The operation once it is done."""
        while not (found := await self.WaitOperation(lro.WaitOperationRequest(name=name), timeout=60)).done:
            pass
        return found

    async def follow(self, name: str, position: int = 0, *, in_order: bool = False) -> list[jp.FollowReply]:
        request = jp.FollowRequest(name=name, position=position, in_order=in_order)
        return [reply async for reply in self.Follow(request, timeout=60)]


def stubs(channel: aio.Channel | grpc.Channel, service: ServiceDescriptor) -> dict[str, Any]:
    found = {}
    for method in service.methods:
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        found[method.name] = getattr(channel, kind)(
            f"/{service.full_name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
    return found


@asynccontextmanager
async def running_jobs(
    folder: Path, ledger_url: str, *, work: Doubling | None = None, **settings: Any
) -> AsyncIterator[RunningJobs]:
    chosen: dict[str, Any] = {"port": 0, "metrics_port": 0, "drain_s": 0, "grace_s": 5, "parallel_parts": 0} | settings
    config = Settings(ledger=ledger_url, objects=str(folder / "objects"), **chosen)
    service = await build(config, work or Doubling())
    await service.server.open()
    channel = aio.insecure_channel(f"127.0.0.1:{service.server.port}")
    try:
        await service.start()
        await service.server.set_ready(True)
        yield RunningJobs(service, channel, config)
    finally:
        await channel.close()
        await shut_down(service, config)


@asynccontextmanager
async def worker_beside(system: RunningJobs, work: Doubling | None = None) -> AsyncIterator[PartWorker]:
    """A worker until the end of the block."""
    options = WorkerOptions(renew_s=0.05, idle_s=0.02)
    worker = PartWorker(system.ledger, system.objects, work or Doubling(), options)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running
