"""The proxy of the environment: no call inside the cluster goes there."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from kubernetes.aio.config import incluster_config
from ruamel.yaml import YAML

from controller.kubernetes.api import Api
from local.health import stage_is_ready
from tests.fakes.http_proxy import HttpProxy, http_proxy
from tests.fakes.scripted.process import ScriptedStage, request, scripted
from tests.fakes.span_collector import Collector
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.protocol.call import Call
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.exported_spans import ExportedSpans
from triptych_cli.controller_client import ControllerClient, ControllerUnavailable
from triptych_cli.rollout.metrics.sources import fetch


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[ScriptedStage]:
    with scripted("http2", tmp_path) as stage:
        yield stage


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpProxy]:
    """A proxy in the environment, with exceptions that do not cover this machine."""
    with http_proxy() as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.mark.parametrize("transport", ["http2", "grpcio"])
async def test_calls_between_stages(stage: ScriptedStage, proxy: HttpProxy, transport: str) -> None:
    """grpc#40366"""
    upstream = Upstream("s", stage.part.address, SERVICE, relays=True, transport=Transport(transport))
    try:
        answer = await upstream.call("ModelInfer", request(), Call.within(10))
    finally:
        await upstream.close()
    assert answer.id == "1"
    assert stage_is_ready(stage.part.address)
    assert proxy.asked == []


def test_calls_of_the_command_line_to_the_controller(stage: ScriptedStage, proxy: HttpProxy) -> None:
    client = ControllerClient(stage.part.address)
    with pytest.raises(ControllerUnavailable, match="UNIMPLEMENTED"):  # the stage is none
        client.describe()
    client.close()
    assert proxy.asked == []


def test_spans_to_the_collector(proxy: HttpProxy) -> None:
    collector = Collector()
    tracing = ExportedSpans("preprocess", collector.address)
    try:
        with tracing.span("infer", Call.within(10)):
            pass
        tracing.flush()
        assert [span.name for span in collector.spans()] == ["infer"]
    finally:
        tracing.close()
        collector.close()
    assert proxy.asked == []


class _Pods(BaseHTTPRequestHandler):
    """An API server with one page, and a page of metrics."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Suppress the request log."""

    def do_GET(self) -> None:
        content = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https_port(authority: trustme.CA) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pods) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10)


async def test_calls_of_a_pod_to_the_kubernetes_api(
    proxy: HttpProxy, https_port: int, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("token")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(https_port))
    api = await Api.connect()
    try:
        assert json.loads(await api.text("/api/v1/pods")) == {"path": "/api/v1/pods"}
    finally:
        await api.close()
    assert proxy.asked == []


@pytest.mark.parametrize("exception", ["127.0.0.0/8", "10.0.0.0/8, 127.0.0.1"])
async def test_calls_by_a_kubeconfig_to_a_network_in_no_proxy(
    proxy: HttpProxy,
    https_port: int,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exception: str,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, f"localhost,{exception},.svc")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    cluster = {"server": f"https://127.0.0.1:{https_port}", "certificate-authority": str(tmp_path / "ca.crt")}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    with (tmp_path / "kubeconfig").open("w") as file:
        YAML().dump(config, file)
    api = await Api.connect(tmp_path / "kubeconfig")
    try:
        assert json.loads(await api.text("/api/v1/pods")) == {"path": "/api/v1/pods"}
    finally:
        await api.close()
    assert proxy.asked == []


def test_metrics_of_a_rollout(proxy: HttpProxy) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pods) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        assert json.loads(fetch(f"http://127.0.0.1:{server.server_address[1]}/metrics")) == {"path": "/metrics"}
        server.shutdown()
        thread.join(10)
    assert proxy.asked == []
