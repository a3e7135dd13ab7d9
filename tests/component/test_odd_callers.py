"""Calls with protocol errors: each fails alone, and others on its connection are answered."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import psutil
import pytest

from tests.fakes.scripted.frames import DATA, END_STREAM, GOAWAY, frame, opening, read_frame
from tests.fakes.scripted.process import ScriptedStage, request, scripted
from tests.fakes.scripted.raw import INFER, Headers, RawConnection, connected
from triptych.server import SERVERS

FAST = request("echo").SerializeToString()
HELD = request("hold").SerializeToString()
OK, UNKNOWN, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = "0", "2", "3", "8", "12", "13"
PROTOCOL_ERROR = 1
MALFORMED = "the header fields of the call are not those of HTTP/2"


@pytest.fixture(scope="module", params=sorted(SERVERS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedStage]:
    with scripted(request.param, tmp_path_factory.mktemp("stage"), connection_age_s=0) as running:
        yield running


def with_field(changed: str, to: str) -> Headers:
    """Headers with another value of a field, at its position, since pseudo-headers must come first."""
    return [(name, to if name == changed else value) for name, value in INFER]


def with_path(path: str) -> Headers:
    return with_field(":path", path)


def without(name: str) -> Headers:
    return [header for header in INFER if header[0] != name]


# What HTTP/2 forbids (RFC 9113, 8.2), which gateways and backends forward all the same.
FORBIDDEN: dict[str, Headers] = {
    "connection": [*INFER, ("connection", "keep-alive")],
    "keep-alive": [*INFER, ("keep-alive", "timeout=5")],
    "transfer-encoding": [*INFER, ("transfer-encoding", "chunked")],
    "upgrade": [*INFER, ("upgrade", "h2c")],
    "proxy-connection": [*INFER, ("proxy-connection", "keep-alive")],
    "te": [*INFER, ("te", "gzip")],
    "content-length of another size": [*INFER, ("content-length", "3")],
    "content-length that is no number": [*INFER, ("content-length", "abc")],
    "name in capitals": [*INFER, ("X-Request-Id", "1")],
    "empty name": [*INFER, ("", "1")],
    "name with a space": [*INFER, ("a b", "1")],
    "CR and LF": [*INFER, ("x", "a\r\nb: c")],
    "NUL": [*INFER, ("x", "a\0b")],
    "unknown pseudo-header": [*INFER, (":odd", "1")],
    "no path": without(":path"),
    "path that is none": with_path("no slash \x7f"),
    "blanks around a value": [*INFER, ("x", " a ")],
    "a tab behind a value": [*INFER, ("x", "a\t")],
    "empty authority": with_field(":authority", ""),  # grpc-go's for a target without an endpoint
    "authority with a slash": with_field(":authority", "a/b"),
    "no authority": without(":authority"),
    "large": [*INFER, ("x", "v" * 40_000), ("connection", "close")],
}
# Found when the call has begun: the caller gets the reset alone.
FOUND_LATER = {"content-length of another size"}

# What is odd and allowed.
ALLOWED: dict[str, Headers] = {
    "host": [*INFER, ("host", "other")],
    "te twice": [*INFER, ("te", "trailers")],
    "underscore": [*INFER, ("a_b", "1")],
    "bytes over 127": [*INFER, ("x", "\xe9")],
    "expect": [*INFER, ("expect", "100-continue")],
    "100 entries": [*INFER, *((f"k{number}", "v") for number in range(100))],
    "1000 entries": [*INFER, *((f"k{number}", "v") for number in range(1000))],
    "60 KiB": [*INFER, ("big", "v" * 60 * 1024)],
}

TOO_LARGE: dict[str, Headers] = {
    "70 KiB": [*INFER, ("big", "v" * 70 * 1024)],
    "70 KiB in two entries": [*INFER, *((f"big{number}", "v" * 35 * 1024) for number in range(2))],
    "70 entries of 1 KiB": [*INFER, *((f"k{number}", "v" * 1024) for number in range(70))],
    "2000 entries": [*INFER, *((f"k{number}", "v") for number in range(2000))],
    "200 KiB": [*INFER, ("big", "v" * 200 * 1024)],
    "200 KiB in four entries": [*INFER, *((f"big{number}", "v" * 50 * 1024) for number in range(4))],
}

# grpc.aio looks for the method first.
TOO_LARGE_AND_ODD: dict[str, Headers] = {
    "70 KiB of a name": [*INFER, ("n" * 70 * 1024, "1")],
    "70 KiB of a path": [(":path", "/" + "p" * 70 * 1024), *without(":path")],
    "1 MiB": [*INFER, ("big", "v" * 1024 * 1024)],
}


def between_neighbours(stage: ScriptedStage, odd: Headers) -> tuple[str, str, int | None]:
    """Send an invalid call between two good ones, and return its status, text and reset."""
    with connected(stage.part.address) as connection:
        before = stage.seen()["held"]
        held = connection.send(INFER, HELD)
        stage.until("held", before + 1)
        answer = connection.send(odd, FAST)
        behind = connection.send(INFER, FAST)
        connection.until(lambda: answer.ended and behind.ended)
        stage.release()
        connection.until(lambda: held.ended)
        assert (held.status, behind.status, connection.goaway) == (OK, OK, None)
        return answer.status, answer.text, answer.reset


@pytest.mark.parametrize("odd", FORBIDDEN)
def test_a_malformed_call_fails_alone(stage: ScriptedStage, odd: str) -> None:
    status, text, reset = between_neighbours(stage, FORBIDDEN[odd])
    if stage.server == "http2" and odd in FOUND_LATER:
        assert reset == PROTOCOL_ERROR
    elif stage.server == "http2":
        assert (status, text.partition(" (RFC")[0]) == (INVALID_ARGUMENT, MALFORMED)
    elif status not in (OK, ""):  # grpc.aio passes some as metadata
        assert text


@pytest.mark.parametrize("odd", ALLOWED)
def test_what_is_odd_and_allowed_is_served(stage: ScriptedStage, odd: str) -> None:
    assert between_neighbours(stage, ALLOWED[odd])[0] == OK


@pytest.mark.parametrize("odd", TOO_LARGE)
def test_metadata_over_the_limit_gets_a_sentence(stage: ScriptedStage, odd: str) -> None:
    expect_refused(stage, TOO_LARGE[odd])


@pytest.mark.parametrize("odd", TOO_LARGE_AND_ODD)
def test_metadata_far_over_the_limit_gets_a_sentence(stage: ScriptedStage, odd: str) -> None:
    if stage.server != "http2":
        pytest.skip("each answers in its own way")
    expect_refused(stage, TOO_LARGE_AND_ODD[odd])


def expect_refused(stage: ScriptedStage, odd: Headers) -> None:
    status, text, _ = between_neighbours(stage, odd)
    assert status == RESOURCE_EXHAUSTED
    assert text.startswith("received metadata larger than max (")
    assert text.endswith(" vs. 65536)")


@pytest.mark.parametrize("entries", [1, 100])
@pytest.mark.parametrize("size", [70 * 1024, 200 * 1024, 300 * 1024, 1 << 20])
def test_a_client_receives_the_limit_of_metadata_and_keeps_its_connection(
    stage: ScriptedStage, size: int, entries: int
) -> None:
    held = stage.oip.ModelInfer.future(request("sleep", seconds="1"), timeout=20)
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as caught:
            stage.oip.ModelInfer(request(), metadata=[("big", "v" * (size // entries))] * entries, timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    held.result()


def test_the_limit_of_metadata_is_a_setting(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, max_metadata_bytes=4096) as stage:
        assert between_neighbours(stage, [*INFER, ("big", "v" * 3000)])[0] == OK
        for size in (4000, 20_000, 60_000, 70_000):
            assert between_neighbours(stage, [*INFER, ("big", "v" * size)])[0] == RESOURCE_EXHAUSTED


def test_an_entry_is_never_larger_than_the_transport_takes(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, max_metadata_bytes=1 << 20) as stage:
        assert between_neighbours(stage, [*INFER, *[("big", "v" * 65_536)] * 8])[0] == OK
        status, text, _ = between_neighbours(stage, [*INFER, ("big", "v" * 65_537)])
        assert (status, text.rpartition(" vs. ")[2]) == (RESOURCE_EXHAUSTED, "65536)")


TRAILERS: Headers = [("big", "v" * 70 * 1024)]


def test_a_call_with_trailers_over_the_limit_fails_alone(stage: ScriptedStage) -> None:
    if stage.server != "http2":
        pytest.skip("grpc.aio reads no trailers")
    with connected(stage.part.address) as connection:
        held = connection.send(INFER, HELD, end=False)
        odd = connection.send(INFER, FAST, end=False)
        connection.send_trailers(odd, TRAILERS)
        behind = connection.send(INFER, FAST)
        connection.until(lambda: odd.ended and behind.ended)
        assert (odd.status, behind.status, connection.goaway) == (RESOURCE_EXHAUSTED, OK, None)
        assert held.reset is None


@pytest.mark.parametrize("path", ["/inference.GRPCInferenceService/Model\x98", "/a%98/b", "/a/b?\xff", "/\xc3"])
def test_a_path_that_is_no_utf8_is_answered(stage: ScriptedStage, path: str) -> None:
    status, _, _ = between_neighbours(stage, with_path(path))
    assert status in (UNIMPLEMENTED, UNKNOWN if stage.server == "grpcio" else UNIMPLEMENTED)


def test_a_deadline_that_is_none_gets_a_sentence(stage: ScriptedStage) -> None:
    status, text, _ = between_neighbours(stage, [*INFER, ("grpc-timeout", "soon")])
    assert status == (INTERNAL if stage.server == "grpcio" else INVALID_ARGUMENT)
    assert "grpc-timeout" in text


def test_keepalive_pings_do_not_cost_the_connection(stage: ScriptedStage) -> None:
    with connected(stage.part.address) as connection:
        held = connection.send(INFER, HELD)
        for number in range(1, 8):  # gRPC's default ends the connection with the third in five minutes
            connection.ping()
            connection.until(lambda number=number: connection.pings == number)  # type: ignore[misc]
            time.sleep(1)
        stage.release()
        connection.until(lambda: held.ended)
        assert (held.status, connection.goaway) == (OK, None)


def refused(address: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 10).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was waiting to be accepted when the port was closed
        return False
    return False


def test_while_it_leaves_the_port_is_closed_and_open_connections_are_served(tmp_path: Path) -> None:
    with scripted("http2", tmp_path, grace_s=60) as stage, connected(stage.part.address) as idle:
        idle.until(answered(idle))
        taken = stage.oip.ModelInfer.future(request("sleep", seconds="5"), timeout=60)
        stage.seen()  # behind it on the same connection
        process = psutil.Process(stage.part.pid)
        process.send_signal(signal.SIGTERM)
        while not refused(stage.part.address):
            pass
        late = idle.send(INFER, FAST)
        idle.until(lambda: late.ended and idle.goaway is not None)
        assert (late.status, idle.goaway) == (OK, 0)
        assert taken.result(30).model_name == "sleep"
        assert process.wait(30) == 0


def answered(connection: RawConnection) -> Callable[[], bool]:
    answer = connection.send(INFER, FAST)
    return lambda: answer.ended


def kinds(connection: socket.socket) -> Iterator[int]:
    """Kinds of all frames until the server closes the connection. Raises `ConnectionResetError` if it resets it."""
    with suppress(EOFError):
        while True:
            yield read_frame(connection)[0]


def test_a_caller_that_still_sends_reads_why_its_connection_ends(stage: ScriptedStage) -> None:
    """Closed at once, the connection would be reset, and the GOAWAY be lost with it."""
    if stage.server == "grpcio":
        pytest.xfail("the C core closes at once")
    for _ in range(20):
        with stage.connect() as connection:
            connection.sendall(opening() + frame(DATA, END_STREAM, 0, b"x"))  # a call has a number
            connection.sendall(bytes(100_000))
            time.sleep(0.01)
            with suppress(BrokenPipeError):
                connection.sendall(bytes(100_000))
            assert GOAWAY in set(kinds(connection))
    assert stage.infer()
