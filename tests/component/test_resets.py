"""Rapid reset (CVE-2023-44487): thousands of calls begun and reset on one connection, beside good ones on another."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from select import select

import grpc
import pytest

from tests.fakes.scripted.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    fields,
    frame,
    literal,
    opening,
)
from tests.fakes.scripted.process import CHART_BYTES, ScriptedStage, request, scripted
from triptych.http2.framing import framed

MIB = 1 << 20
RESETS, BATCH = 100_000, 200
ATTACK_S = 60  # it ends then in any case
PATH = "/inference.GRPCInferenceService/ModelInfer"
MAX_CONCURRENT_STREAMS = 3  # the setting's number in a SETTINGS frame
BOTH_SERVERS = pytest.mark.parametrize("server", ["grpcio", "http2"])

Call = Callable[[int, bytes], bytes]  # the frames of one call, by its stream and header block


def reset(stream: int, block: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, CANCEL)


def reset_after_its_message(stream: int, block: bytes) -> bytes:
    message = frame(DATA, END_STREAM, stream, framed(request("hold").SerializeToString()))
    return frame(HEADERS, END_HEADERS, stream, block) + message + frame(RST_STREAM, 0, stream, CANCEL)


def reset_without_a_message(stream: int, block: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block) + frame(RST_STREAM, 0, stream, CANCEL)


def reset_by_the_server(stream: int, block: bytes) -> bytes:
    """A WINDOW_UPDATE of 0, which makes the server reset the stream (CVE-2025-8671)."""
    return frame(HEADERS, END_HEADERS, stream, block) + frame(WINDOW_UPDATE, 0, stream, bytes(4))


def batches(call: Call) -> Iterator[bytes]:
    """Bytes of one connection; after the first call, each header field is one byte."""
    block = b"".join(literal(name, value, indexed=True) for name, value in fields(PATH).items())
    yield opening() + call(1, block)
    named = bytes(0x80 | 61 + len(fields(PATH)) - at for at in range(len(fields(PATH))))
    for first in count(3, 2 * BATCH):
        yield b"".join(call(stream, named) for stream in range(first, first + 2 * BATCH, 2))


def attack(stage: ScriptedStage, call: Call) -> int:
    """Begin calls until there are enough, over new connections if closed, and return their number."""
    end, sent = time.monotonic() + ATTACK_S, 0
    while sent < RESETS and time.monotonic() < end:
        with suppress(OSError), stage.connect(10) as connection:
            for batch in batches(call):
                connection.sendall(batch)
                sent += BATCH
                while select([connection], [], [], 0)[0]:
                    if not connection.recv(1 << 16):
                        raise OSError("closed")
                if sent >= RESETS or time.monotonic() > end:
                    break
    return sent


@BOTH_SERVERS
@pytest.mark.parametrize("call", [reset, reset_after_its_message, reset_without_a_message, reset_by_the_server])
def test_resets_by_the_thousand_take_no_memory_and_no_call_of_others(server: str, call: Call, tmp_path: Path) -> None:
    with scripted(server, tmp_path) as stage, ThreadPoolExecutor(1) as attacker:
        stage.infer()
        attacking = attacker.submit(attack, stage, call)
        while not attacking.done():
            stage.infer(timeout=30)
            time.sleep(0.01)
        assert attacking.result() >= RESETS
        stage.infer(timeout=30)
        assert stage.peak_bytes() < CHART_BYTES


@BOTH_SERVERS
def test_calls_whose_deadlines_pass_cost_no_other_call_of_their_connection(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path) as stage:
        persistent = []
        for _ in range(12):
            persistent.append(stage.oip.ModelInfer.future(request("sleep", seconds="2"), timeout=60))
            late = [stage.oip.ModelInfer.future(request("sleep", seconds="30"), timeout=0.05) for _ in range(100)]
            assert {call.code() for call in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert {call.code() for call in persistent} == {grpc.StatusCode.OK}


@pytest.mark.parametrize(("server", "streams"), [("grpcio", 28), ("http2", 7)])
def test_a_client_is_reported_how_many_calls_one_connection_may_have(server: str, streams: int, tmp_path: Path) -> None:
    with scripted(server, tmp_path, max_concurrent_streams=7) as stage:
        with stage.connect() as connection:
            connection.sendall(opening())
            head = connection.recv(9, socket.MSG_WAITALL)
            assert head[3] == SETTINGS
            payload = connection.recv(int.from_bytes(head[:3], "big"), socket.MSG_WAITALL)
        pairs = [payload[at : at + 6] for at in range(0, len(payload), 6)]
        reported = {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}
        assert reported[MAX_CONCURRENT_STREAMS] == streams


def test_more_calls_than_one_connection_may_have_wait_in_the_client(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, max_concurrent_streams=2) as stage:
        calls = [stage.oip.ModelInfer.future(request("sleep", seconds="0.05"), timeout=60) for _ in range(32)]
        assert {call.code() for call in calls} == {grpc.StatusCode.OK}
