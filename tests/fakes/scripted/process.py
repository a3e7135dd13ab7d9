"""The scripted stage as a process, behind the server that a test names."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from local.endpoints import free_endpoints
from local.environments import ROOT
from local.server_process import ServerProcess
from triptych.protocol import controller_pb2 as cp

WATCH = "/triptych.v1.Controller/Watch"
MODULE = "tests.fakes.scripted"
COMMAND = [sys.executable, "-m", MODULE]
UNBOUNDED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A call that is not on its way yet when GOAWAY comes is sent again elsewhere, but by default not one over 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
]


START_S = 90  # on a busy machine
CHART_BYTES = 512 << 20  # the least that the chart gives to a stage


class ScriptedStage:
    """A running stage, with stubs of its methods."""

    def __init__(self, server: str, part: ServerProcess, channel: Any) -> None:
        self.server, self.part, self.channel = server, part, channel
        self.oip: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.watch: Any = channel.unary_stream(WATCH, response_deserializer=cp.CatalogUpdate.FromString)

    def infer(self, model: str = "echo", timeout: float = 10, **parameters: str) -> pb.ModelInferResponse:
        response: pb.ModelInferResponse = self.oip.ModelInfer(request(model, **parameters), timeout=timeout)
        return response

    def seen(self, **options: Any) -> dict[str, Any]:
        """Counters of the servicer, and its view of this call."""
        answer = self.oip.ServerMetadata(pb.ServerMetadataRequest(), **{"timeout": 10, **options})
        seen: dict[str, Any] = json.loads(answer.name)
        return seen

    def until(self, name: str, count: int) -> None:
        """Wait until a counter of the servicer has this value."""
        end = time.monotonic() + 20
        while self.seen()[name] < count:
            assert time.monotonic() < end, f"{name}: {self.seen()}, want {count}"
            time.sleep(0.02)

    def release(self) -> None:
        """Let all `hold` requests end."""
        self.oip.ModelReady(pb.ModelReadyRequest(), timeout=10)

    def connect(self, timeout_s: float = 60) -> socket.socket:
        """A TCP connection to the stage."""
        host, _, port = self.part.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=timeout_s)

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.part.pid).memory_info().rss)

    def peak_bytes(self) -> int:
        """Peak resident memory in bytes, since the start or since the last reset."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.part.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def state(self, service: str = "") -> int:
        return int(self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status)


def request(model: str = "echo", **parameters: str) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name=model, id="1")
    for name, value in parameters.items():
        made.parameters[name].string_param = value
    return made


@contextmanager
def scripted(
    server: str,
    folder: Path,
    channel: grpc.ChannelCredentials | None = None,
    module: str = MODULE,
    before: Sequence[str] = (),
    **settings: Any,
) -> Iterator[ScriptedStage]:
    """Run a stage with these settings; it is live when the block begins."""
    part, address = start(server, folder, module, before, **settings)
    try:
        made = (
            grpc.insecure_channel(address, options=UNBOUNDED)
            if channel is None
            else grpc.secure_channel(address, channel, options=UNBOUNDED)
        )
        with made as opened:
            grpc.channel_ready_future(opened).result(START_S)
            yield ScriptedStage(server, part, opened)
    finally:
        part.stop(20)


def start(
    server: str, folder: Path, module: str = MODULE, before: Sequence[str] = (), **settings: Any
) -> tuple[ServerProcess, str]:
    """Start the process, which may not listen yet, and return it with its address. `before` is a command before it."""
    endpoint = free_endpoints()["preprocess"]
    port = settings.pop("port", None) or endpoint.port
    address = replace(endpoint, host=settings.get("host", "127.0.0.1").strip("[]"), port=port).address
    log = folder / f"{server}-{port}.log"
    command = [*before, sys.executable, "-m", module]
    part = ServerProcess(
        "scripted", command, variables(server, port=port, **settings), address, log, is_ready=lambda: True
    )
    part.start()
    return part, address


def variables(server: str, **settings: Any) -> dict[str, str]:
    """Environment variables of the process."""
    named = {"server": server, "drain_s": 0, **settings}
    ours = {f"SCRIPTED_{name.upper()}": str(value) for name, value in named.items()}
    return {**os.environ, **ours, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
