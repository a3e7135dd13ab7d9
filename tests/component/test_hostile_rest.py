"""Hostile callers of the REST server: each test fails without its limit."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from preprocess.rest.codec import decode_body
from tests.component.running_rest import BODY, INFER, Connection, Running, rest_server
from triptych.server import http1

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = b"0\r\n\r\n"  # of an empty body
WAIT_S = 10
SOON_S = 0.2


@pytest.fixture
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with rest_server(**getattr(request, "param", {})) as started:
        yield started


async def first_line(connection: Connection) -> bytes:
    """The status line; empty if the connection is closed without one."""
    try:
        return await asyncio.wait_for(connection[0].readline(), WAIT_S)
    except ConnectionError:
        return b""


async def is_closed(connection: Connection) -> bool:
    try:
        while await asyncio.wait_for(connection[0].read(1 << 20), WAIT_S):
            pass
    except ConnectionError:
        pass
    return True


async def until_held(running: Running, number: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while running.servicer.held < number:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("running", [{"slow_after_s": SOON_S}], indirect=True)
async def test_a_connection_without_a_request_is_closed(running: Running) -> None:
    idle = await running.connect()
    begun = await running.connect()
    begun[1].write(LIVE[:10])
    assert await first_line(idle) == await first_line(begun) == b""


@pytest.mark.parametrize("running", [{"rest_max_connections": 4}], indirect=True)
async def test_connections_without_a_request_give_way_for_others(running: Running) -> None:
    idle = [await running.connect() for _ in range(40)]
    kept = await running.connect()
    kept[1].write(LIVE)
    assert await first_line(kept) == b"HTTP/1.1 200 OK\r\n"
    assert (await running.ask("POST", INFER, BODY))[0] == 200
    for each in idle[:30]:
        assert await is_closed(each)


@pytest.mark.parametrize("running", [{"rest_max_connections": 2}], indirect=True)
async def test_more_requests_at_once_than_connections_are_answered_with_503(running: Running) -> None:
    held = [await running.connect("hold") for _ in range(2)]
    await until_held(running, 2)
    assert (await first_line(await running.connect("echo"))).startswith(b"HTTP/1.1 503")
    running.servicer.release.set()
    for each in held:
        assert (await first_line(each)).startswith(b"HTTP/1.1 200")
    assert (await running.ask("POST", INFER, BODY))[0] == 200


@pytest.mark.parametrize("running", [{"slow_after_s": SOON_S, "max_bytes_in_flight": 1 << 20}], indirect=True)
async def test_a_body_that_stops_gives_its_bytes_back_soon(running: Running) -> None:
    stopped = await running.connect("echo", b"x" * (1 << 20), length=2 << 20)
    assert (await first_line(stopped)).startswith(b"HTTP/1.1 504")
    assert (await running.ask("POST", INFER, BODY))[0] == 200
    assert await is_closed(stopped)


@pytest.mark.parametrize("running", [{"request_timeout_s": 0.3}], indirect=True)
async def test_a_body_arrives_within_the_time_of_a_call(running: Running) -> None:
    assert (await first_line(await running.connect("echo", b"x", length=100))).startswith(b"HTTP/1.1 504")


@pytest.mark.parametrize("running", [{"slow_after_s": SOON_S, "min_bytes_per_s": 0}], indirect=True)
async def test_without_a_least_rate_a_body_may_pause(running: Running) -> None:
    paused = await running.connect("echo", BODY[:9], length=len(BODY))
    await asyncio.sleep(4 * SOON_S)
    paused[1].write(BODY[9:])
    assert (await first_line(paused)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("running", [{"slow_after_s": SOON_S, "max_bytes_in_flight": 12 << 20}], indirect=True)
async def test_answers_that_nobody_reads_are_limited_and_end(running: Running) -> None:
    body = b'{"parameters": {"binary_data_output": true}}'  # the answer takes 8 MiB
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", running.server.port))
        silent.sendall(
            f"POST /v2/models/large/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        silent.sendall(body)
        async with asyncio.timeout(WAIT_S):
            while not (await first_line(await running.connect("large", body))).startswith(b"HTTP/1.1 429"):
                await asyncio.sleep(0.01)
            while not (await first_line(await running.connect("large", body))).startswith(b"HTTP/1.1 200"):
                await asyncio.sleep(0.01)


async def test_a_large_answer_as_json_is_refused_while_the_loop_turns(running: Running) -> None:
    longest_s = 0.0

    async def watch() -> None:
        nonlocal longest_s
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.005)
            longest_s = max(longest_s, time.monotonic() - before_s)

    watching = asyncio.create_task(watch())
    status, answer, _ = await running.ask("POST", "/v2/models/large/infer", BODY)
    watching.cancel()
    assert (status, "binary_data" in answer["error"]) == (400, True)
    assert longest_s < 1


async def test_a_body_of_tiny_chunks_is_refused_and_one_of_larger_chunks_is_not(running: Running) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    tiny, larger = await running.connect(), await running.connect()
    tiny[1].write(head + b"1\r\n \r\n" * 3000)
    assert (await first_line(tiny)).startswith(b"HTTP/1.1 400")
    larger[1].write(head + b"100\r\n%b\r\n" % (b" " * 256) * 3000 + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
    assert (await first_line(larger)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("running", [{"slow_after_s": SOON_S}], indirect=True)
async def test_a_body_after_the_answer_ends_the_connection_and_logs_nothing(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    broken, endless = await running.connect(), await running.connect()
    for each in (broken, endless):
        each[1].write(head)
        assert (await first_line(each)).startswith(b"HTTP/1.1 200")
    broken[1].write(b"no chunk\r\n")
    assert await is_closed(broken)
    endless[1].write(b"1\r\n \r\n")
    assert await is_closed(endless)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_requests_whose_callers_left_while_others_are_parsed_are_not_parsed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = list[str]()

    def slow(*arguments: object) -> object:
        parsed.append(str(arguments[2]))
        time.sleep(0.5)
        return decode_body(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("preprocess.rest.app.decode_body", slow)
    first = await running.connect("echo")
    async with asyncio.timeout(WAIT_S):
        while not parsed:
            await asyncio.sleep(0.01)
    for _ in range(10):
        (await running.connect("left"))[1].close()
    assert (await running.ask("POST", "/v2/models/after/infer", BODY))[0] == 200
    assert (await first_line(first)).startswith(b"HTTP/1.1 200")
    assert parsed == ["echo", "after"]


async def test_no_answer_names_the_host_that_a_caller_made_up(running: Running) -> None:
    status, answer, headers = await running.ask("GET", "/v2/models/echo/", Host="elsewhere.example")
    assert (status, answer["error"][:11]) == (404, "want one of")
    assert "location" not in headers
    assert (await running.ask("POST", "/v2/models/broken/infer", BODY, Host="["))[0] == 500


@pytest.mark.parametrize(("limit", "value"), [("HANDSHAKE_S", SOON_S), ("MAX_HANDSHAKES", 1)])
async def test_unfinished_tls_handshakes_end(
    limit: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some time, and when there are too many of them."""
    monkeypatch.setattr(http1, "HANDSHAKE_S", 600.0)
    monkeypatch.setattr(http1, limit, value)
    issued = trustme.CA().issue_cert("127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    async with rest_server(tls_cert=str(certificate), tls_key=str(key)) as running:
        first, _second = await running.connect(), await running.connect()
        assert await is_closed(first)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(CHUNKS + LIVE),
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Content-Length: 0\r\nContent-Length: %d" % len(CHUNKS + LIVE),
        b"Content-Length: 0, 5",
        b"Content-Length : 5",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ],
)
async def test_a_request_with_two_lengths_ends_its_connection(running: Running, head: bytes) -> None:
    """Else a proxy that takes the other length hands the rest to the next caller as a request (smuggling)."""
    reader, writer = await running.connect()
    writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (INFER.encode(), head) + CHUNKS + LIVE)
    answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
