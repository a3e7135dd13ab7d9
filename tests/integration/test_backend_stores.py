"""Feature stores of the example backend: embedded, a real Redis, and Feast's feature server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local.endpoints import free_endpoints
from local.environments import ROOT, ensure
from local.stack import LocalStack
from tests.integration import test_backend
from tests.integration.load import until
from tests.integration.messages import sales
from tests.integration.test_backend import StartBackend, token

features, start = test_backend.features, test_backend.start
SHOE = {name: array[0].tolist() for name, array in sales().items()}


def asked_for(path: str, get: test_backend.Get) -> tuple[int, dict[str, Any]]:
    return get(f"/forecasts/{path}", token())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    """Port of a running Redis."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not on the PATH")
    port = free_endpoints()["preprocess"].port
    options = ["--port", str(port), "--save", ""]
    with subprocess.Popen([program, *options], cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        until(lambda: answers(port))
        yield port
        server.terminate()


def answers(port: int) -> bool:
    try:
        return command(port, "PING") == b"+PONG\r\n"
    except OSError:
        return False


def command(port: int, *words: str) -> bytes:
    """Send a command in Redis's protocol and return the reply."""
    given = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(b"*%d\r\n" % len(words) + given)
        return connection.recv(4096)


class FeatureServer(BaseHTTPRequestHandler):
    """Fake of `feast serve` (Feast 0.67) with one article in the feature service `articles`."""

    asked: dict[str, Any] = {}
    names = ("history", "price", "promotion")

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        FeatureServer.asked = given | {"path": self.path}
        if given["feature_service"] != "articles":
            self.answer(404, {"detail": f"Feature service {given['feature_service']} does not exist in project shop"})
            return
        (country,), (article,) = given["entities"]["country"], given["entities"]["article"]
        found = (country, article) == ("DE", "shoe")
        columns = [column(country), column(article), *(column(SHOE[name] if found else None) for name in self.names)]
        self.answer(200, {"metadata": {"feature_names": ["country", "article", *self.names]}, "results": columns})

    def answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


def column(value: Any) -> dict[str, Any]:
    status = "NOT_FOUND" if value is None else "PRESENT"
    return {"values": [value], "statuses": [status], "event_timestamps": ["2026-11-21T00:00:00Z"]}


@pytest.fixture
def feast() -> Iterator[str]:
    """Address of a feature server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FeatureServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"feast+http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_articles_of_a_file_are_in_the_embedded_store(stack: LocalStack, start: StartBackend, tmp_path: Path) -> None:
    file = tmp_path / "articles.json"
    file.write_text(json.dumps({"DE": {"boot": SHOE}}))
    get = start(stack.address("preprocess"), FEATURES="sqlite::memory:", ARTICLES=str(file))
    assert asked_for("DE/boot", get)[0] == 200
    assert asked_for("DE/shoe", get)[0] == 404


def test_features_come_from_redis_and_its_absence_is_a_503_that_names_it(
    stack: LocalStack, start: StartBackend, redis: int
) -> None:
    assert command(redis, "SET", "features:DE:shoe", json.dumps(SHOE)) == b"+OK\r\n"
    get = start(stack.address("preprocess"), FEATURES=f"redis://127.0.0.1:{redis}/0")
    status, answer = asked_for("DE/shoe", get)
    assert (status, answer["model"]) == (200, "sales_forecast_de")
    assert asked_for("DE/hat", get) == (404, {"error": "article 'hat' is not known in DE"})
    command(redis, "SHUTDOWN", "NOSAVE")
    status, answer = asked_for("DE/shoe", get)
    assert status == 503
    assert "Redis does not answer" in answer["error"]


def test_features_come_from_the_feature_server_of_feast(stack: LocalStack, start: StartBackend, feast: str) -> None:
    get = start(stack.address("preprocess"), FEATURES=f"{feast}/articles")
    status, answer = asked_for("DE/shoe", get)
    assert (status, answer["model"]) == (200, "sales_forecast_de")
    assert FeatureServer.asked == {
        "path": "/get-online-features",
        "feature_service": "articles",
        "entities": {"country": ["DE"], "article": ["shoe"]},
    }
    assert asked_for("DE/hat", get) == (404, {"error": "article 'hat' is not known in DE"})


def test_what_feast_refuses_or_lacks_is_a_503_with_its_words(
    start: StartBackend, feast: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, answer = asked_for("DE/shoe", start("127.0.0.1:1", FEATURES=f"{feast}/others"))
    assert status == 503
    assert "answers 404" in answer["error"]
    assert "Feature service others does not exist" in answer["error"]
    monkeypatch.setattr(FeatureServer, "names", ("history", "price"))
    status, answer = asked_for("DE/shoe", start("127.0.0.1:1", FEATURES=f"{feast}/articles"))
    assert status == 503
    assert "feature service 'articles'" in answer["error"]
    assert "has no feature 'promotion'" in answer["error"]


def test_a_feature_server_that_is_not_there_is_a_503(start: StartBackend) -> None:
    port = free_endpoints()["preprocess"].port
    status, answer = asked_for("DE/shoe", start("127.0.0.1:1", FEATURES=f"feast+http://127.0.0.1:{port}/articles"))
    assert status == 503
    assert f"Feast at http://127.0.0.1:{port} does not answer" in answer["error"]


def test_articles_for_another_store_than_the_embedded_one_end_the_start() -> None:
    environment = {"BACKEND_JWT_KEY": test_backend.KEY, "BACKEND_FEATURES": "redis://a", "BACKEND_ARTICLES": "a.json"}
    assert "BACKEND_ARTICLES: is for the embedded store" in refused(environment)


def test_a_file_of_articles_that_is_wrong_ends_the_start_with_its_fault(tmp_path: Path) -> None:
    file = tmp_path / "articles.json"
    file.write_text(json.dumps({"DE": {"boot": {"history": []}}}))
    environment = {"BACKEND_JWT_KEY": test_backend.KEY, "BACKEND_FEATURES": "sqlite::memory:"}
    said = refused(environment | {"BACKEND_ARTICLES": str(file)})
    assert f"BACKEND_ARTICLES: {file}: DE/boot: want history, price, promotion, got history" in said


def refused(environment: dict[str, str]) -> str:
    """Output of a start that fails."""
    done = subprocess.run(
        [str(ensure("backend")), "-m", "backend"],
        cwd=ROOT / "examples/backend",
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    return done.stderr
