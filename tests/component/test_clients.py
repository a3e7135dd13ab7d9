"""A restart under load loses no call of clients in other languages, with default settings and no retry policy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from local.endpoints import free_endpoints
from local.programs.clients import CLIENTS, SOURCES, find_client
from local.server_process import ServerProcess
from tests.fakes.scripted.process import request, start

PYTHON = [sys.executable, str(SOURCES / "python" / "client.py")]
RESTARTS = 3
ENOUGH = 500
REQUEST = request("sleep", seconds="0.01").SerializeToString()


def command_of(client: str) -> list[str]:
    if client in CLIENTS:
        built = find_client(client)
        if built is None:
            pytest.skip("make test-clients builds the gRPC clients of other languages, where their toolchains are")
        return built
    return [*PYTHON, "--aio"] if client == "grpc.aio" else PYTHON


def until_live(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(30)


class Pair:
    """Two replicas of a stage, the first of which can be restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_endpoints()["preprocess"].port
        self._first, first = self._start(self._port)
        self._second, second = self._start(None)
        self.addresses = [first, second]

    def _start(self, port: int | None) -> tuple[ServerProcess, str]:
        part, address = start("http2", self._folder, port=port, drain_s=0.2)
        until_live(address)
        return part, address

    def restart(self) -> None:
        os.kill(self._first.pid, signal.SIGTERM)
        assert self._first.stop(30)
        self._first, _ = self._start(self._port)

    def answered(self) -> None:
        """Wait until the first replica has answered some calls of the client."""
        with grpc.insecure_channel(self.addresses[0]) as channel:
            for _ in range(20):
                channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(REQUEST, timeout=30)

    def stop(self) -> None:
        self._first.stop(20)
        self._second.stop(20)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.stop()


@contextmanager
def calling(command: list[str], addresses: list[str], mode: str) -> Iterator[dict[str, Any]]:
    """Run a client during the block; the dictionary has the outcomes of its calls afterwards."""
    arguments = ["--addresses", ",".join(addresses), "--mode", mode, "--request", REQUEST.hex()]
    counted: dict[str, Any] = {}
    with subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            assert client.stdout.readline() == "calling\n"
            yield counted
        finally:
            output, _ = client.communicate(timeout=60)
        counted.update(json.loads(output))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("client", [pytest.param("grpcio", marks=pytest.mark.long), "grpc.aio", *CLIENTS])
def test_a_restart_of_one_replica_loses_no_call_of_an_ordinary_client(client: str, pair: Pair) -> None:
    command = command_of(client)
    with ExitStack() as clients:
        counts = [clients.enter_context(calling(command, pair.addresses, mode)) for mode in ("unary", "stream")]
        for _ in range(RESTARTS):
            pair.answered()
            pair.restart()
        pair.answered()
    assert [count["lost"] for count in counts] == [{}, {}]
    assert sum(count["ok"] for count in counts) >= ENOUGH
