"""Streams whose callers fall silent: they hold no message, and thousands of them keep nobody else out."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.fakes.scripted.frames import END_HEADERS, HEADERS, fields, frame, literal, opening
from tests.fakes.scripted.process import ScriptedStage, request, scripted
from triptych.server import SERVERS

MIB = 1 << 20
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
LARGE = 48 * MIB
STREAMS = 6
CONNECTIONS, CALLS = 4, 500
FIELD, FIELDS = literal("x", "v" * 3_000, indexed=True), 19  # 58 KiB of metadata for 19 bytes on the wire


def resident(stage: ScriptedStage) -> float:
    return stage.resident_bytes() / MIB


@contextmanager
def answered(stage: ScriptedStage, sent: Any) -> Iterator[None]:
    """A stream with one request that is answered, and none that follows."""
    requests: queue.Queue[Any] = queue.Queue()
    requests.put(sent)
    call = stage.oip.ModelStreamInfer(iter(requests.get, None))
    assert not next(call).error_message
    try:
        yield
    finally:
        requests.put(None)
        call.cancel()


def large_request() -> Any:
    sent = request("sleep", seconds="0")
    sent.raw_input_contents.append(bytes(LARGE))
    return sent


@pytest.mark.parametrize("what", ["request", "answer"])
def test_a_silent_stream_does_not_hold_its_last_message(what: str, tmp_path: Path) -> None:
    """grpc.aio holds it."""
    made = large_request() if what == "request" else request("large", bytes=str(LARGE))
    with scripted("http2", tmp_path) as stage, ExitStack() as streams:
        streams.enter_context(answered(stage, made))  # what the first one takes may stay
        before = resident(stage)
        for _ in range(STREAMS):
            streams.enter_context(answered(stage, made))
        assert resident(stage) - before < STREAMS * LARGE / MIB / 2


@pytest.mark.parametrize("server", sorted(SERVERS))
def test_the_request_of_a_server_stream_is_small(server: str, tmp_path: Path) -> None:
    """It is held as long as the stream lasts: six of 60 MiB took 300 MiB."""
    with scripted(server, tmp_path) as stage:
        with pytest.raises(grpc.RpcError) as refused:
            next(stage.health.Watch(health_pb2.HealthCheckRequest(service="x" * 5_000), timeout=20))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert next(stage.health.Watch(health_pb2.HealthCheckRequest(service="x" * 100), timeout=20)).status


def silent(connection: socket.socket) -> None:
    """Open calls of ModelStreamInfer with large metadata and no message. Read what the server says."""
    base = b"".join(literal(name, value) for name, value in fields(STREAM).items())
    connection.sendall(opening() + frame(HEADERS, END_HEADERS, 1, base + FIELD))
    connection.settimeout(0.01)
    for stream in range(3, 2 * CALLS, 2):
        connection.sendall(frame(HEADERS, END_HEADERS, stream, base + b"\xbe" * FIELDS))
        if stream % 100 == 1:
            drop_received(connection)


def drop_received(connection: socket.socket) -> None:
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return


def test_thousands_of_silent_calls_take_little_memory_and_keep_nobody_out(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, connection_age_s=0, max_bytes_in_flight=16 * MIB) as stage, ExitStack() as opened:
        stage.infer()
        before = resident(stage)
        for _ in range(CONNECTIONS):
            silent(opened.enter_context(stage.connect()))
            stage.infer(timeout=30)
        assert resident(stage) - before < 80  # 150 MiB without a limit
