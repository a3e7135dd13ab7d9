"""HTTP probes of liveness and readiness, for each server in a process as in production."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from prometheus_client import CollectorRegistry

from local.endpoints import free_endpoints
from tests.e2e.kubectl import wait_for
from tests.fakes.scripted.process import scripted, start
from triptych.runtime.settings import StageSettings
from triptych.server import SERVERS, GrpcioServer
from triptych.server.probes import ProbeHandler


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def status(port: int, path: str) -> int:
    """HTTP status of a path; 0 if the port does not answer."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_stage_that_starts_is_live_and_becomes_ready_with_its_server(server: str, tmp_path: Path) -> None:
    port = free_endpoints()["preprocess"].metrics_port
    said: list[tuple[int, int]] = []  # live and ready, from the start on
    part, _ = start(server, tmp_path, metrics_port=port, start_s=4)

    def look() -> bool:
        said.append((status(port, "/live"), status(port, "/ready")))
        return said[-1] == (200, 200)

    try:
        wait_for(look, "it is live and ready", 60)
    finally:
        part.stop(20)
    assert (200, 503) in said


def test_a_stage_that_leaves_is_live_and_not_ready_and_its_metrics_stay(server: str, tmp_path: Path) -> None:
    port = free_endpoints()["preprocess"].metrics_port
    with scripted(server, tmp_path, metrics_port=port, drain_s=5) as stage:
        wait_for(lambda: status(port, "/ready") == 200, "it is ready")
        os.kill(stage.part.pid, signal.SIGTERM)
        wait_for(lambda: status(port, "/ready") == 503, "it is not ready")
        assert status(port, "/live") == 200
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            assert b"triptych_in_flight" in page.read()


async def test_a_loop_that_does_not_turn_is_neither_live_nor_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.server.probes.LOOP_TIMEOUT_S", 0.05)
    said: list[int] = []
    server = GrpcioServer([], StageSettings())
    await server.set_ready(True)
    pages = ProbeHandler(CollectorRegistry(), server, asyncio.get_running_loop())
    for path in ("/live", "/ready"):
        ask = partial(pages.answer, "GET", path, HTTPMessage())
        asking = threading.Thread(target=lambda ask=ask: said.append(asyncio.run(ask())[0]))
        asking.start()
        asking.join()  # the loop stands still meanwhile
    assert said == [503] * 2


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Metrics port of a stage that closes a connection after 1 s, and the oldest of more than 8."""
    port = free_endpoints()["preprocess"].metrics_port
    limits: dict[str, Any] = {"metrics_timeout_s": 1, "metrics_max_connections": 8}
    with scripted("grpcio", tmp_path_factory.mktemp("stage"), metrics_port=port, **limits):
        wait_for(lambda: status(port, "/ready") == 200, "it is ready")
        yield port


def reply(port: int, *sent: bytes) -> bytes:
    """All bytes until the connection ends; empty if it ends without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with suppress(OSError):
            for piece in sent:
                connection.sendall(piece)
        with suppress(ConnectionResetError):
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return b""


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/metrics", 200), ("/metrics?name=x", 200), ("/", 404), ("/metrics/", 404), ("/../metrics", 404), ("/live", 200)],
)
def test_only_known_paths_have_pages(port: int, path: str, expected: int) -> None:
    assert status(port, path) == expected


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405 Method Not Allowed"),
        (b"HEAD /live HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"GET /metrics\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01 what is this\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"400 Bad Request"),
    ],
    ids=["another method", "the head alone", "another protocol", "bytes", "many headers"],
)
def test_what_is_no_request_for_a_page_gets_an_error_status(port: int, sent: bytes, said: bytes) -> None:
    assert said in reply(port, sent).partition(b"\r\n")[0]


@pytest.fixture(scope="module")
def slow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Metrics port of a stage that closes a connection for its time after 10 minutes only."""
    port = free_endpoints()["preprocess"].metrics_port
    limits: dict[str, Any] = {"metrics_timeout_s": 600, "metrics_max_connections": 8}
    with scripted("http2", tmp_path_factory.mktemp("stage"), metrics_port=port, **limits):
        wait_for(lambda: status(port, "/ready") == 200, "it is ready")
        yield port


def test_a_head_without_an_end_is_not_gathered(slow_port: int) -> None:
    reply(slow_port, *[b"a" * 65_536] * 20)  # it ends
    assert status(slow_port, "/live") == 200


def test_of_too_many_connections_the_oldest_is_closed(slow_port: int) -> None:
    with ExitStack() as stack:
        address = ("127.0.0.1", slow_port)
        opened = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(9)]
        with suppress(ConnectionResetError):
            assert opened[0].recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HT"], ids=["nothing", "half a line"])
def test_a_connection_that_sends_too_little_is_closed(port: int, sent: bytes) -> None:
    assert reply(port, sent) == b""


def test_many_connections_take_no_threads_and_no_page_from_others(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)).sendall(b"GET ")
        assert status(port, "/metrics") == 200
        assert status(port, "/ready") == 200


def test_a_stage_has_one_thread_for_its_pages(tmp_path: Path) -> None:
    port = free_endpoints()["preprocess"].metrics_port
    with scripted("grpcio", tmp_path, metrics_port=port) as stage, ExitStack() as stack:
        wait_for(lambda: status(port, "/ready") == 200, "it is ready")
        before = psutil.Process(stage.part.pid).num_threads()
        for _ in range(50):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)).sendall(b"GET ")
        assert status(port, "/live") == 200
        assert psutil.Process(stage.part.pid).num_threads() == before
