"""The other side of the controller's streams: simulated predictors, and stages that follow the catalog.

    python -m benchmarks.placement.fleet

takes commands from stdin and answers each with one line, both JSON, until stdin ends. A process of its own, so that the
controller's has only the controller's work. `FleetProcess` runs it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import uvloop
from tritonclient.grpc import service_pb2 as pb

from benchmarks.placement.simulated import SimulatedTriton
from local.errors import LocalError
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.errors import TriptychError
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.methods import methods_of
from triptych.runtime.settings import StageSettings
from triptych.server import server_for
from triptych.server.base import GrpcServer
from triptych.server.inference_servicer import SERVICE

LINE_BYTES: Final = 64 << 20  # of one command: it may name 100,000 models
PROBE_PAUSE_S: Final = 0.01
PROBE_TIMEOUT_S: Final = 30.0
RETRY_S: Final = 0.1
UNAGED: Final = StageSettings(connection_age_s=0.0)


class SimulatedPredictor(SimulatedTriton):
    """Loads at once and lists what it holds, not the folders beside it."""

    def __init__(self) -> None:
        super().__init__(_Anything(), load_s=0.0, unload_s=0.0)

    async def repository_index(self, request: pb.RepositoryIndexRequest, _context: Any) -> Any:
        return pb.RepositoryIndexResponse.FromString(await super().repository_index(request, _context))


class _Anything(dict[str, bytes]):
    """A model repository that has every model."""

    def __contains__(self, _name: object) -> bool:
        return True


class WatchingStages:
    """Stages that follow the catalog, each on a connection of its own."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._whole = 0  # that have the whole catalog
        self._refused = 0  # streams that ended before that
        self._messages = 0
        self._received: dict[str, list[float]] = defaultdict(list)  # by route: when each stage had it

    async def watch(self, address: str, count: int) -> dict[str, float]:
        """Start the stages; when all have the whole catalog, and how many streams were refused before."""
        transport = Transport()
        self._tasks = [asyncio.create_task(self._follow(address, transport)) for _ in range(count)]
        while self._whole < count:
            await asyncio.sleep(0.01)
        return {"at": time.monotonic(), "refused": self._refused}

    async def received(self, route: str) -> dict[str, float]:
        """When the last stage had a model with that route."""
        while len(self._received[route]) < len(self._tasks):
            await asyncio.sleep(0.001)
        return {"at": max(self._received.pop(route), default=time.monotonic()), "messages": self._messages}

    async def _follow(self, address: str, transport: Transport) -> None:
        upstream = Upstream("controller", address, CONTROLLER_SERVICE, relays=False, transport=transport)
        while True:
            with suppress(TriptychError):
                await self._follow_once(upstream)
            self._refused += 1
            await asyncio.sleep(RETRY_S)

    async def _follow_once(self, upstream: Upstream) -> None:
        whole = False
        async for update in upstream.stream("Watch", cp.WatchRequest()):
            if not whole:
                if not update.more:
                    whole = True
                    self._whole += 1
                continue
            self._messages += 1
            for model in update.models:
                if model.route.startswith("changed-"):
                    self._received[model.route].append(time.monotonic())


class Worker:
    """The commands, by name."""

    def __init__(self) -> None:
        self._predictors: list[SimulatedPredictor] = []
        self._servers: list[GrpcServer] = []
        self._stages = WatchingStages()
        self._commands: Mapping[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "serve": self._serve,
            "watch": self._stages.watch,
            "received": self._stages.received,
            "probe": _probe,
        }

    async def run(self) -> None:
        reader = asyncio.StreamReader(limit=LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            name, arguments = json.loads(line)
            print(json.dumps(await self._commands[name](**arguments)), flush=True)

    async def _serve(self, loaded: Sequence[Sequence[str]]) -> list[str]:
        """One predictor for each list of loaded models; their addresses."""
        for names in loaded:
            predictor = SimulatedPredictor()
            predictor.hold((name, 1) for name in names)
            server = server_for([methods_of(SERVICE, predictor)], UNAGED)
            await server.open()
            await server.set_ready(True)
            self._predictors.append(predictor)
            self._servers.append(server)
        return [f"127.0.0.1:{server.port}" for server in self._servers]


async def _probe(address: str, model: str, until: float) -> list[tuple[float, float]]:
    """Small requests, one after the other: the start and the seconds of each."""
    upstream = Upstream("controller", address, CONTROLLER_SERVICE, relays=False)
    calls = []
    while (start := time.monotonic()) < until:
        await upstream.call("GetContract", cp.GetContractRequest(model=model, version=1), Call.within(PROBE_TIMEOUT_S))
        calls.append((start, time.monotonic() - start))
        await asyncio.sleep(PROBE_PAUSE_S)
    await upstream.close()
    return calls


class FleetProcess:
    """The process with the worker. Ends when the block does."""

    async def __aenter__(self) -> FleetProcess:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.placement.fleet",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=LINE_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def ask(self, name: str, **arguments: Any) -> Any:
        """The answer to a command. Raises `LocalError` if the process ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
        await self._process.stdin.drain()
        if not (line := await self._process.stdout.readline()):
            raise LocalError(f"the process of predictors and stages ended at '{name}'")
        return json.loads(line)


if __name__ == "__main__":
    uvloop.run(Worker().run())
