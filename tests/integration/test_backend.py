"""The example backend as a process in front of the real stack."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from local.endpoints import free_endpoints
from local.environments import ROOT, ensure
from local.stack import LocalStack
from tests.integration.conftest import INFER
from tests.integration.load import until
from tests.integration.messages import sales

KEY = "a key of this test, and of 32 characters or more"
HUGE = json.dumps({"history": [10**400], "price": [float("nan")], "promotion": [True]})
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Get:
    """Calls a backend: status and document of an answer."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, path: str, bearer: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        given = headers | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=given)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


StartBackend = Callable[..., Get]


def token(key: str = KEY, **claims: Any) -> str:
    """JSON Web Token of HS256; claims of None are left out."""
    given = {"sub": "shop", "aud": "forecasts", "exp": time.time() + 60} | claims
    parts = ({"alg": "HS256", "typ": "JWT"}, {name: value for name, value in given.items() if value is not None})
    signed = b".".join(_word(json.dumps(part).encode()) for part in parts)
    return (signed + b"." + _word(hmac.digest(key.encode(), signed, hashlib.sha256))).decode()


def _word(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Features of one article in two countries, one of which has a model."""
    file = tmp_path / "features.db"
    known = json.dumps({name: array[0].tolist() for name, array in sales().items()})
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE features (country TEXT, article TEXT, features TEXT)")
        connection.executemany("INSERT INTO features VALUES (?, 'shoe', ?)", [("DE", known), ("ZZ", known)])
    connection.close()
    return file


@pytest.fixture
def start(features: Path, tmp_path: Path) -> Iterator[StartBackend]:
    """Start a backend in front of a stack, and return a function that calls it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(preprocess: str, **settings: str) -> Get:
        port = free_endpoints()["preprocess"].port
        own = {"JWT_KEY": KEY, "PREPROCESS": preprocess, "FEATURES": f"sqlite:{features}", "PORT": str(port)} | settings
        environment = {f"BACKEND_{name}": value for name, value in own.items()}
        with (tmp_path / "backend.log").open("wb") as log:
            command = [str(ensure("backend")), "-m", "backend"]
            folder = ROOT / "examples/backend"
            started.append(subprocess.Popen(command, cwd=folder, env=os.environ | environment, stderr=log, stdout=log))

        get = Get(port)

        def live() -> bool:
            try:
                return get("/live")[0] == 200
            except urllib.error.URLError:
                assert started[-1].poll() is None, (tmp_path / "backend.log").read_text()
                return False

        until(live)
        return get

    yield start
    for process in started:
        process.terminate()
        assert process.wait(20) == 0


class Flaky:
    """Fake preprocess that refuses some calls first, like one being replaced, and never answers the others."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.calls = refusals, 0
        self.traces: set[Any] = set()
        self.remaining_s: list[float] = []

    def answer(self, _request: bytes, context: Any) -> bytes:
        self.calls += 1
        self.traces.add(dict(context.invocation_metadata())["traceparent"])
        self.remaining_s.append(context.time_remaining())
        if self.calls <= self.refusals:
            context.abort(grpc.StatusCode.UNAVAILABLE, "leaving")
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        raise AssertionError

    def serve(self) -> tuple[grpc.Server, str]:
        server = grpc.server(ThreadPoolExecutor(2))
        service, _, method = INFER[1:].partition("/")
        handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(self.answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server, f"127.0.0.1:{port}"


def test_a_caller_with_a_token_gets_a_forecast_from_the_features_of_the_store(
    stack: LocalStack, start: StartBackend
) -> None:
    status, answer = start(stack.address("preprocess"))("/forecasts/DE/shoe", token(), traceparent=TRACE)
    assert status == 200
    assert len(answer["units"]) == 7
    assert all(0 < units < 1000 for units in answer["units"])
    assert (answer["model"], answer["version"]) == ("sales_forecast_de", "1")


def test_an_unknown_name_is_404_with_the_message_of_its_origin(stack: LocalStack, start: StartBackend) -> None:
    get = start(stack.address("preprocess"))
    assert get("/forecasts/DE/hat", token()) == (404, {"error": "article 'hat' is not known in DE"})
    status, answer = get("/forecasts/ZZ/shoe", token())
    assert status == 404
    assert "ZZ" in answer["error"]
    for path in ("/forecasts/DE:x/shoe", f"/forecasts/DE/{'x' * 5_000}", f"/forecasts/{'x' * 200}/shoe"):
        status, answer = get(path, token())
        assert status == 404
        assert len(answer["error"]) < 200


@pytest.mark.parametrize(
    "kept", ["", "{", "[" * 100_000, "[]", "{}", '{"history": [1], "price": [1], "promotion": ["x"]}', "\ud800", HUGE]
)
def test_wrong_features_of_a_store_are_503_without_a_traceback(
    start: StartBackend, features: Path, tmp_path: Path, kept: str
) -> None:
    with sqlite3.connect(features) as connection:
        connection.execute("INSERT INTO features VALUES ('DE', 'odd', ?)", (kept.encode(errors="surrogatepass"),))
    connection.close()
    status, answer = start("127.0.0.1:1")("/forecasts/DE/odd", token())
    assert (status, answer["error"][:28]) == (503, "the features of 'odd' in DE ")
    assert not (tmp_path / "backend.log").read_text()


@pytest.mark.parametrize("trace", ["", "no trace", TRACE.upper(), "caf\u00e9", TRACE * 50])
def test_a_trace_that_is_none_is_replaced_and_the_call_goes_on(start: StartBackend, trace: str) -> None:
    flaky = Flaky(0)
    server, address = flaky.serve()
    assert start(address)("/forecasts/DE/shoe", token(), traceparent=trace) == (503, {"error": "full"})
    (sent,) = flaky.traces
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", sent)
    assert sent != TRACE
    server.stop(0).wait()


@pytest.mark.parametrize(
    "bearer",
    [
        "",
        "no.token.atall",
        token("another key, of 32 characters or more too"),
        token(exp=time.time() - 10),
        token(exp=None),
        token(aud="other"),
        token(sub=None),
    ],
    ids=["none", "nonsense", "another key", "expired", "for ever", "for others", "of nobody"],
)
def test_without_a_good_token_nothing_is_asked(start: StartBackend, bearer: str) -> None:
    flaky = Flaky(0)
    server, address = flaky.serve()
    status, answer = start(address)("/forecasts/DE/shoe", bearer)
    assert status == 401
    assert answer["error"]
    assert flaky.calls == 0
    server.stop(0).wait()


@pytest.mark.parametrize("bearer", [b"\xff", b"\xff.\xff.\xff", "caf\u00e9".encode()])
def test_a_token_that_is_not_ascii_is_refused_without_a_log_line(
    start: StartBackend, tmp_path: Path, bearer: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", start("127.0.0.1:1").port), 10) as caller:
        caller.sendall(b"GET /forecasts/DE/shoe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + bearer + b"\r\n\r\n")
        assert caller.recv(1000).startswith(b"HTTP/1.1 401")
    assert not (tmp_path / "backend.log").read_text()


def test_connections_without_a_request_give_way_to_others(start: StartBackend, tmp_path: Path) -> None:
    get = start("127.0.0.1:1", MAX_CONNECTIONS="8")
    with ExitStack() as opened:
        idle = [opened.enter_context(socket.create_connection(("127.0.0.1", get.port), 10)) for _ in range(60)]
        for each in idle[::2]:
            each.sendall(b"GET /live HTTP/1.1\r\n")
        assert get("/live") == (200, {})
        ended = 0
        for each in idle[:40]:
            with suppress(ConnectionResetError):
                assert not each.recv(1)
            ended += 1
        assert ended == 40
    assert not (tmp_path / "backend.log").read_text()


class Holding(Flaky):
    """Fake preprocess that answers when `release` is set."""

    def __init__(self) -> None:
        super().__init__(0)
        self.release = threading.Event()

    def answer(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        self.release.wait(20)
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing")
        raise AssertionError


def test_requests_beyond_the_connections_get_503(start: StartBackend) -> None:
    holding = Holding()
    server, address = holding.serve()
    get = start(address, MAX_CONNECTIONS="2", TIMEOUT_S="20")
    with ThreadPoolExecutor(2) as callers:
        waiting = [callers.submit(get, "/forecasts/DE/shoe", token()) for _ in range(2)]
        until(lambda: holding.calls == 2)
        assert get("/other")[0] == 503
        assert get("/live") == (200, {})
        holding.release.set()
        assert [each.result()[0] for each in waiting] == [404, 404]
    assert get("/other")[0] == 401
    server.stop(0).wait()


def test_a_refused_call_is_tried_again_with_the_same_trace_within_one_deadline(start: StartBackend) -> None:
    flaky = Flaky(refusals=2)
    server, address = flaky.serve()
    get = start(address, TIMEOUT_S="3")
    assert get("/forecasts/DE/shoe", token(), traceparent=TRACE) == (503, {"error": "full"})
    assert flaky.calls == 3, "two are refused, and what is no refusal is not tried again"
    assert flaky.traces == {TRACE}
    assert max(flaky.remaining_s) <= 3
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"BACKEND_JWT_KEY": "short"}, "BACKEND_JWT_KEY: want a key of 32 characters"),
        (
            {"BACKEND_PREPROCESS": "http://preprocess:9000"},
            "BACKEND_PREPROCESS: want host:port, dns:///host:port, or [::1]:9000",
        ),
        ({"BACKEND_HOST": "[::1]"}, "BACKEND_HOST: want an address without brackets"),
        (
            {"BACKEND_PREPROCESS_CERT": "a.pem"},
            "BACKEND_PREPROCESS_CERT: want BACKEND_PREPROCESS_KEY and BACKEND_PREPROCESS_CA beside it",
        ),
        ({"BACKEND_PREPROCESS_CA": "/no/such.pem"}, "cannot use /no/such.pem: No such file or directory"),
        ({"BACKEND_PREPROCESS_CA": "/dev/null"}, "cannot use /dev/null: "),
    ],
)
def test_a_wrong_setting_ends_the_start_with_its_name(settings: dict[str, str], said: str) -> None:
    environment = os.environ | {"BACKEND_JWT_KEY": "k" * 32} | settings
    command = [str(ensure("backend")), "-m", "backend"]
    done = subprocess.run(
        command, cwd=ROOT / "examples/backend", env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert said in done.stderr
