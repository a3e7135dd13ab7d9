"""gRPC's public interop cases against each server, by grpc-go's client and by one of ours on @grpc/grpc-js.

Cases of features that are not served are left out: response metadata of a successful call (custom_metadata),
compression by the servicer (client_compressed_*, server_compressed_*), and Google's credentials.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from local.programs.clients import find_client
from tests.fakes.interop.server import PROTO
from tests.fakes.scripted.process import ScriptedStage, scripted
from triptych.server import SERVERS

CASES = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
]
OF_GO = ["rpc_soak", "channel_soak"]  # of 10 calls, each at most a second by default
OF_NODE = ["large_unary_gzip", "client_streaming_gzip", "ping_pong_gzip"]
SOAK = ["--soak_iterations", "100", "--soak_per_iteration_max_acceptable_latency_ms", "20000"]
LIMIT_S = 100


@pytest.fixture(scope="module", params=sorted(SERVERS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedStage]:
    folder = tmp_path_factory.mktemp("stage")
    with scripted(request.param, folder, module="tests.fakes.interop") as running:
        yield running


def run(client: str, stage: ScriptedStage, options: list[str]) -> None:
    command = find_client(client)
    if command is None:
        pytest.skip("make conformance builds h2spec and the interop clients, where their toolchains are")
    host, _, port = stage.part.address.rpartition(":")
    whole = [*command, "--server_host", host, "--server_port", port, *options]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", [*CASES, *OF_GO])
def test_the_client_of_grpc_go_accepts_every_case(case: str, stage: ScriptedStage) -> None:
    soak = [*SOAK, "--soak_overall_timeout_seconds", str(LIMIT_S)] if case in OF_GO else []
    run("interop-go", stage, ["--test_case", case, *soak])


@pytest.mark.parametrize("case", [*CASES, *OF_NODE])
def test_a_client_of_grpc_js_is_content(case: str, stage: ScriptedStage) -> None:
    run("interop-node", stage, ["--test_case", case, "--proto", str(PROTO)])
