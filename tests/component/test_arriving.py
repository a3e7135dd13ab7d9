"""Requests that are large when decompressed, or stall while they arrive, beside good ones."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.kubectl import wait_for
from tests.fakes.scripted.frames import ACK, DATA, END_HEADERS, HEADERS, SETTINGS, fields, frame, literal, opening
from tests.fakes.scripted.process import ScriptedStage, request, scripted

MIB = 1 << 20
INFER, STREAM = "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer"


class RawCall:
    """A gRPC call of HTTP/2 frames, which can stop at any byte."""

    def __init__(self, address: str, path: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.recv(1 << 16)  # its SETTINGS, whose windows hold once they are acknowledged
        block = b"".join(literal(name, value) for name, value in fields(path).items())
        self._socket.sendall(opening() + frame(SETTINGS, ACK, 0, b"") + frame(HEADERS, END_HEADERS, 1, block))

    def send(self, data: bytes) -> None:
        """Send as far as the server reads; drop what it does not take within a second."""
        self._socket.settimeout(1)
        with suppress(TimeoutError):
            for at in range(0, len(data), 16_384):
                self._socket.sendall(frame(DATA, 0, 1, data[at : at + 16_384]))
        self._socket.settimeout(60)

    def is_answered(self) -> bool:
        """Wait for headers; they carry the status if there was no answer before."""
        got = b""
        while HEADERS not in kinds(got):
            piece = self._socket.recv(1 << 16)
            if not piece:
                return False
            got += piece
        return True

    def close(self) -> None:
        self._socket.close()


def kinds(data: bytes) -> Iterator[int]:
    """Types of the complete frames in some bytes."""
    at = 0
    while at + 9 <= len(data) and at + 9 + int.from_bytes(data[at : at + 3], "big") <= len(data):
        yield data[at + 3]
        at += 9 + int.from_bytes(data[at : at + 3], "big")


@contextmanager
def open_calls(stage: ScriptedStage, path: str, count: int) -> Iterator[list[RawCall]]:
    with ExitStack() as stack:
        calls = [RawCall(stage.part.address, path) for _ in range(count)]
        for call in calls:
            stack.callback(call.close)
        yield calls


def prefix(length: int) -> bytes:
    return b"\0" + length.to_bytes(4, "big")


def good(stage: ScriptedStage, size: int = 100_000) -> None:
    sent = request()
    sent.raw_input_contents.append(bytes(size))
    assert stage.oip.ModelInfer(sent, timeout=20).parameters["bytes"].int64_param == size


def resident(stage: ScriptedStage) -> float:
    return stage.resident_bytes() / MIB


def test_what_is_announced_and_not_sent_takes_no_bytes_in_flight(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, max_bytes_in_flight=66 * MIB) as stage, open_calls(stage, INFER, 4) as calls:
        for call in calls:
            call.send(prefix(64 * MIB) + b"12345")
        for _ in range(20):
            good(stage, 3 * MIB)


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_a_caller_that_stops_within_its_message_gets_an_error(path: str, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"slow_after_s": 1, "request_timeout_s": 600}  # the pace alone ends the call
    with scripted("http2", tmp_path, **limits) as stage, open_calls(stage, path, 2) as (stops, never):
        stops.send(prefix(64 * MIB) + bytes(100_000))
        assert stops.is_answered()
        if path == INFER:  # a stream without a message is a silent one, which may last
            assert never.is_answered()
        good(stage)


def test_a_stream_that_is_silent_between_messages_lasts(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, slow_after_s=0.3) as stage:

        def requests() -> Iterator[Any]:
            yield request()
            time.sleep(2)
            yield request()

        assert len(list(stage.oip.ModelStreamInfer(requests(), timeout=20))) == 2


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_unfinished_messages_of_many_streams_are_bounded(path: str, tmp_path: Path) -> None:
    with scripted("http2", tmp_path, max_bytes_in_flight=32 * MIB, slow_after_s=2) as stage:
        good(stage)
        before = resident(stage)
        with open_calls(stage, path, 8) as calls:
            for call in calls:
                call.send(prefix(64 * MIB) + bytes(15 * MIB))
            assert resident(stage) - before < 300
            wait_for(lambda: _takes(stage, 20 * MIB), "those that stopped are gone")


def _takes(stage: ScriptedStage, size: int) -> bool:
    try:
        good(stage, size)
    except grpc.RpcError:
        return False
    return True


def test_a_message_that_is_packed_too_tightly_is_refused(tmp_path: Path) -> None:
    with scripted("http2", tmp_path) as stage:
        good(stage)
        before, sent = resident(stage), bytes(48 * MIB)
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            calls = [
                *[stage.channel.unary_unary(INFER).future(sent, timeout=60, compression=compression) for _ in range(3)],
                stage.channel.stream_stream(STREAM)(iter([sent]), timeout=60, compression=compression),
            ]
            for call in calls:
                assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert "at most 100 times as large" in call.details()
        good(stage)
        assert resident(stage) - before < 100


def test_what_is_large_when_unpacked_is_still_understood_within_the_ratio(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, max_unpacked_ratio=2000) as stage:
        sent = request()
        sent.raw_input_contents.append(bytes(20 * MIB))
        answer = stage.oip.ModelInfer(sent, timeout=20, compression=grpc.Compression.Gzip)
        assert answer.parameters["bytes"].int64_param == 20 * MIB
