"""Addresses of each server and of its metrics: IPv6, both families, names."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from local.endpoints import free_endpoints
from tests.e2e.kubectl import wait_for
from tests.fakes.scripted.process import COMMAND, scripted, variables
from triptych.runtime.addresses import join
from triptych.server import SERVERS


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on its loopback")


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answers(host: str, port: int, metrics_port: int) -> bool:
    with grpc.insecure_channel(join(host, port)) as channel:
        live = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=10).live
    with urlopen(f"http://{join(host, metrics_port)}/metrics", timeout=10) as page:
        return bool(live and b"triptych_in_flight" in page.read())


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "called"),
    [("::1", ["::1"]), ("[::1]", ["::1"]), ("::", ["::1", "127.0.0.1"]), ("localhost", ["localhost"])],
)
def test_a_stage_listens_on_the_address_of_its_setting(
    server: str, host: str, called: list[str], tmp_path: Path
) -> None:
    ports = free_endpoints()["preprocess"]
    with scripted(server, tmp_path, host=host, port=ports.port, metrics_port=ports.metrics_port) as stage:
        wait_for(lambda: '"ready"' in stage.part.log.read_text(), "it is ready")
        assert all(answers(each, ports.port, ports.metrics_port) for each in called)
        live = next(line for line in stage.part.log.read_text().splitlines() if '"live"' in line)
        assert json.loads(live)["address"] == join(host.strip("[]"), ports.port)


@needs_ipv6
def test_a_taken_port_of_an_ipv6_address_is_one_line_with_brackets(server: str) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = variables(server, host="::1", port=port)
        ended = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"cannot listen on [::1]:{port}" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no-such-name.invalid"])
def test_an_address_that_is_not_of_this_machine_is_one_line(server: str, host: str) -> None:
    port = free_endpoints()["preprocess"].port
    environment = variables(server, host=host, port=port)
    ended = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert f"cannot listen on {join(host, port)}" in line
    assert "SCRIPTED_HOST" in line
    assert "Traceback" not in ended.stderr


def test_port_0_is_a_free_one_that_the_log_names(server: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(COMMAND, env=variables(server, port=0), stdout=out, stderr=out)
    try:
        wait_for(lambda: '"live"' in log.read_text(), "it is live")
        live = next(line for line in log.read_text().splitlines() if '"live"' in line)
        with grpc.insecure_channel(json.loads(live)["address"]) as channel:
            grpc.channel_ready_future(channel).result(20)
    finally:
        process.terminate()
        process.wait(30)
