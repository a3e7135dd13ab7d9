"""Slow and idle connections, and windows that open byte by byte."""

from __future__ import annotations

import resource
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import trustme
from tritonclient.grpc import service_pb2 as pb

from local.endpoints import free_endpoints
from tests.e2e.kubectl import wait_for
from tests.fakes.scripted.attacks import INFER, block
from tests.fakes.scripted.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    PING,
    PREFACE,
    fields,
    frame,
    literal,
    message,
    opening,
    read_frame,
    settings,
    window,
)
from tests.fakes.scripted.process import CHART_BYTES, ScriptedStage, request, scripted
from triptych.http2.server import TLS_CONNECTION_BYTES
from triptych.server import SERVERS

MIB = 1 << 20
MANY = 200
IDLE = 9_000
SPARE = 1_000  # file descriptors for other things
BYTE_S = 0.02


@pytest.fixture(scope="module", params=sorted(SERVERS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedStage]:
    with scripted(request.param, tmp_path_factory.mktemp("stage"), connection_age_s=0) as running:
        running.infer()
        yield running


def descriptors(stage: ScriptedStage) -> int:
    return int(psutil.Process(stage.part.pid).num_fds())


@contextmanager
def connections(stage: ScriptedStage, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that have sent the same bytes; at the end all their descriptors must be closed."""
    before = descriptors(stage)
    with ExitStack() as stack:
        made = [stack.enter_context(stage.connect()) for _ in range(count)]
        for connection in made:
            connection.sendall(first)
        yield made
    wait_for(lambda: descriptors(stage) < before + 10, "the descriptors have come back")


HEAD = opening() + frame(HEADERS, END_HEADERS, 1, block())
SLOW = {
    "nothing": b"",
    "a preface": PREFACE,
    "a request of HTTP/1": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n" + bytes(100),
    "the head of a frame": opening() + (100).to_bytes(3, "big") + bytes((HEADERS, 0)),
    "headers": opening() + frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, 0, 1, b"") * 4,
    "a message": HEAD + frame(DATA, 0, 1, b"\0" + (60_000).to_bytes(4, "big") + bytes(2_000)),
    "a body without a message": HEAD,
}


@pytest.mark.parametrize("what", SLOW)
def test_callers_who_send_byte_by_byte_cost_nobody_else(what: str, stage: ScriptedStage) -> None:
    data = SLOW[what]
    with connections(stage, MANY) as slow:
        for at in range(0, len(data), max(1, len(data) // 20)):
            for connection in slow:
                send(connection, data[at : at + max(1, len(data) // 20)])
            stage.infer(timeout=30)
        for _ in range(10):
            stage.infer(timeout=30)
            time.sleep(BYTE_S)
        assert stage.resident_bytes() < CHART_BYTES


def send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:  # it was closed: the better answer
        return


@pytest.mark.slow
def test_thousands_of_idle_connections_cost_nobody_else(stage: ScriptedStage) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < IDLE + SPARE:
        pytest.skip(f"wants {IDLE + SPARE} file descriptors for a process, and {most} are allowed here")
    with connections(stage, IDLE, opening()) as idle:
        wait_for(lambda: descriptors(stage) > len(idle), "all are accepted")
        for _ in range(20):
            stage.infer(timeout=30)
        assert stage.resident_bytes() < 2 * CHART_BYTES  # what preprocess has


def test_connections_leave_file_descriptors_for_probes(tmp_path: Path) -> None:
    """The limit of the test is far below that of the settings."""
    port = free_endpoints()["postprocess"].port
    few = ["prlimit", "--nofile=300:300"]
    with (
        scripted("http2", tmp_path, before=few, connection_age_s=0, metrics_port=port) as stage,
        connections(stage, 600),
    ):
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=30) as answered:
                assert answered.status == 200
            with grpc.insecure_channel(stage.part.address) as channel:
                assert ScriptedStage("http2", stage.part, channel).infer(timeout=30)
        assert descriptors(stage) < 300
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 20_000


@contextmanager
def serving_tls(folder: Path, **settings: Any) -> Iterator[tuple[ScriptedStage, grpc.ChannelCredentials]]:
    """A stage that serves TLS, and the authority of its certificate for callers."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with scripted("http2", folder, channel=trusted, tls_cert=certificate, tls_key=key, **settings) as stage:
        yield stage, trusted


HALF_A_HELLO = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(10_000)


def test_of_too_many_handshakes_the_oldest_ends_and_callers_are_served(tmp_path: Path) -> None:
    """The loop's own server begins any number: 12,000 took 1 GiB."""
    with serving_tls(tmp_path, max_handshakes=20) as (stage, trusted):
        stage.infer()
        before = descriptors(stage)
        with connections(stage, MANY, HALF_A_HELLO) as halves:
            with grpc.secure_channel(stage.part.address, trusted) as fresh:
                assert ScriptedStage("http2", stage.part, fresh).infer(timeout=30)
            assert descriptors(stage) < before + MANY // 2  # after their time of 10 s in any case
            with suppress(ConnectionResetError):  # as the system ends it, where bytes were unread
                assert halves[0].recv(1) == b""
        assert log_size(tmp_path) < 20_000


def test_connections_with_tls_are_limited_by_their_memory(tmp_path: Path) -> None:
    """10,000 idle ones would take 600 MiB."""
    with serving_tls(tmp_path, max_bytes_in_flight=10 * TLS_CONNECTION_BYTES, connection_age_s=0) as (stage, _):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        before = descriptors(stage)
        with ExitStack() as stack:
            for _ in range(30):
                connection = stack.enter_context(context.wrap_socket(stage.connect()))
                connection.sendall(opening())
            stage.infer(timeout=30)
            wait_for(lambda: descriptors(stage) <= before + 10, "idle ones were closed for others")


def log_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.log"))


def answer(connection: socket.socket, opens: Callable[[int], bytes]) -> tuple[bytes, int]:
    """DATA of the answer on stream 1 and its number of frames; `opens` gives the reply to each frame."""
    got, frames = b"", 0
    while True:
        kind, flags, stream, payload = read_frame(connection)
        if kind == DATA and stream == 1:
            got, frames = got + payload, frames + bool(payload)
            connection.sendall(opens(len(payload)))
        if stream == 1 and flags & END_STREAM:
            return got, frames


def call(sent: pb.ModelInferRequest) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, message(sent.SerializeToString()))


def echo(size: int) -> tuple[bytes, bytes]:
    """Frames of a call, and the content of its answer."""
    sent = request()
    sent.raw_input_contents.append(bytes(range(256)) * (size // 256))
    return call(sent), sent.raw_input_contents[0]


def test_an_answer_comes_through_a_window_of_one_byte(stage: ScriptedStage) -> None:
    sent, wanted = echo(512)
    with stage.connect() as connection:
        connection.sendall(opening(INITIAL_WINDOW_SIZE=1) + sent)
        got, frames = answer(connection, lambda size: window(1, size) if size else b"")
    assert frames == len(got)
    assert wanted in got


def test_an_answer_comes_through_a_small_window_of_the_connection(stage: ScriptedStage) -> None:
    """The window is initially 65,535 bytes."""
    with stage.connect() as connection:
        connection.sendall(opening(INITIAL_WINDOW_SIZE=MAX_WINDOW) + call(request("large", bytes="131072")))
        got, frames = answer(connection, lambda size: window(0, min(size, 1_000)) if size else b"")
    assert len(got) > 131_072
    assert frames > 60


def test_a_window_that_shrinks_below_nothing_holds_the_answer(stage: ScriptedStage) -> None:
    sent, wanted = echo(1_024)
    with stage.connect() as connection:
        connection.sendall(opening(INITIAL_WINDOW_SIZE=100) + sent)
        first = next(payload for kind, _, _, payload in iter(lambda: read_frame(connection), None) if kind == DATA)
        assert len(first) == 100
        connection.sendall(settings(INITIAL_WINDOW_SIZE=0) + window(1, 100) + settings(INITIAL_WINDOW_SIZE=50))
        second = next(payload for kind, _, _, payload in iter(lambda: read_frame(connection), None) if kind == DATA)
        assert len(second) == 50  # 100 were used: -100 + 100 + 50
        connection.sendall(settings(INITIAL_WINDOW_SIZE=MAX_WINDOW // 2))
        rest, _ = answer(connection, lambda size: b"")
    assert wanted in first + second + rest


@pytest.mark.parametrize("what", ["no content-type", "GET"])
def test_data_behind_a_refusal_that_waits_for_a_window_is_dropped(what: str, stage: ScriptedStage) -> None:
    made = fields(INFER)
    if what == "GET":
        made[":method"] = "GET"
    else:
        del made["content-type"]
    headers = b"".join(literal(name, value) for name, value in made.items())
    with stage.connect() as connection:
        connection.sendall(opening(INITIAL_WINDOW_SIZE=0) + frame(HEADERS, END_HEADERS, 1, headers))
        for _ in range(3):
            connection.sendall(frame(DATA, 0, 1, message(b"x")) + frame(PING, 0, 0, bytes(8)))
            while (got := read_frame(connection))[:2] != (PING, ACK):
                assert got[0] != GOAWAY
    assert b"Traceback" not in stage.part.log.read_bytes()


def test_a_call_in_flight_when_the_connection_ends_is_answered(server: str, tmp_path: Path) -> None:
    """Until its PING is answered, a caller may not know that the connection ends."""
    sent, wanted = echo(512)
    with scripted(server, tmp_path, connection_age_s=0.5) as stage, stage.connect() as connection:
        connection.sendall(opening())
        while read_frame(connection)[0] != GOAWAY:
            pass
        time.sleep(2)
        connection.sendall(sent)
        got, _ = answer(connection, lambda size: b"")
        assert wanted in got


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(SERVERS))
def with_tls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ScriptedStage]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {"tls_cert": tmp_path / "certificate.pem", "tls_key": tmp_path / "key.pem"}
    issued.cert_chain_pems[0].write_to_path(files["tls_cert"])
    issued.private_key_pem.write_to_path(files["tls_key"])
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    settings_of_tls: dict[str, Any] = {**files, "connection_age_s": 0}
    with scripted(request.param, tmp_path, credentials, **settings_of_tls) as running:
        yield running


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\x40\x00" + bytes(500), opening()])
def test_handshakes_that_are_never_finished_cost_nobody_else(first: bytes, with_tls: ScriptedStage) -> None:
    with connections(with_tls, MANY, first):
        for _ in range(20):
            with_tls.infer(timeout=30)
            time.sleep(BYTE_S)
        assert with_tls.resident_bytes() < CHART_BYTES


def test_a_client_cannot_renegotiate(with_tls: ScriptedStage) -> None:
    """A renegotiation of TLS 1.2 costs the server ten times as much as the client."""
    command = ["openssl", "s_client", "-tls1_2", "-alpn", "h2", "-connect", with_tls.part.address]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=60)
    output = done.stdout + done.stderr
    assert b"RENEGOTIATING" in output, output
    assert b"no renegotiation" in output or b"error" in output.lower(), output
    with_tls.infer(timeout=30)
