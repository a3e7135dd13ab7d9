"""A real Ray of two nodes and a real Spark of two executors, each in an environment of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from local.environments import ENVIRONMENTS, ROOT

OBJECT_STORE_BYTES = 100 << 20
START_S, STOP_S = 900.0, 60.0  # of a busy machine
AGENT_PORTS = (  # named, because a node gives up if an agent does not tell it a port within 15 s
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
    "--metrics-export-port",
    "--runtime-env-agent-port",
)
SPARK_OPTIONS = (
    "--master local-cluster[2,1,1024]",
    "--driver-memory 512m",
    "--conf spark.executor.memory=1g",
    "--conf spark.ui.enabled=false",
    "--conf spark.ui.showConsoleProgress=false",
    "--conf spark.driver.host=127.0.0.1",
    "--conf spark.driver.bindAddress=127.0.0.1",
    "--conf spark.network.timeout=800s",  # of a busy machine; a process that is killed closes its connections
    "--conf spark.executor.heartbeatInterval=60s",
)


@dataclass(frozen=True)
class RunningEngine:
    """An engine as a command finds it. `owners` started it; none if the driver does.

    `worker` is in the command line of each process that answers parts.
    """

    name: str
    python: Path
    variables: Mapping[str, str]
    worker: str
    owners: Sequence[int] = ()

    def workers(self, driver: int) -> list[psutil.Process]:
        """The processes that answer parts of a driver."""
        found = {child for owner in self.owners or (driver,) for child in _children(owner)}
        return [process for process in found if self.worker in _command(process)]


@pytest.fixture(scope="session", params=["ray", "spark"])
def engine(request: pytest.FixtureRequest) -> Iterator[RunningEngine]:
    """Each engine, running."""
    environment = ENVIRONMENTS[request.param]
    if not (environment.folder() / "complete").exists():
        pytest.skip(f"make test-engines creates the environment of {request.param}")
    with (_ray if request.param == "ray" else _spark)(environment.python()) as running:
        yield running


@contextmanager
def _spark(python: Path) -> Iterator[RunningEngine]:
    (home,) = python.parent.parent.glob("lib/python3*/site-packages/pyspark")
    variables = {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": str(python),
        "PYSPARK_SUBMIT_ARGS": " ".join((*SPARK_OPTIONS, "pyspark-shell")),
        "PYTHONPATH": str(ROOT),
    }
    yield RunningEngine("spark", python, os.environ | variables, "CoarseGrainedExecutorBackend")


@contextmanager
def _ray(python: Path) -> Iterator[RunningEngine]:
    """Two nodes on this machine, of one core each."""
    address = f"127.0.0.1:{_free_port()}"
    variables = os.environ | {
        "RAY_ADDRESS": address,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": str(int(START_S)),
        "RAY_agent_register_timeout_ms": str(int(START_S * 1000)),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    common = ["--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats", "--block"]
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        nodes: list[subprocess.Popen[bytes]] = []
        start = [str(python), "-m", "ray.scripts.scripts", "start", *common]
        head = [
            "--head",
            f"--port={address.rpartition(':')[2]}",
            f"--ray-client-server-port={_free_port()}",
            "--include-dashboard=false",
            f"--temp-dir={folder}",
        ]
        try:
            for more in (head, [f"--address={address}"]):
                with (Path(folder) / f"node{len(nodes)}.log").open("wb") as log:
                    command = [*start, *more, *(f"{option}={_free_port()}" for option in AGENT_PORTS)]
                    nodes.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log))
                _until_nodes(python, variables, len(nodes), nodes)
            yield RunningEngine("ray", python, variables, "ray::", [node.pid for node in nodes])
        finally:
            for node in reversed(nodes):
                _end(node.pid)
                node.wait(STOP_S)


def _until_nodes(
    python: Path, variables: Mapping[str, str], wanted: int, nodes: Sequence[subprocess.Popen[bytes]]
) -> None:
    """Wait until the cluster has some nodes."""
    count = "import ray; ray.init(log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert all(node.poll() is None for node in nodes), "a node of Ray has ended"
        done = subprocess.run([str(python), "-c", count], env=variables, capture_output=True, text=True)
        if done.stdout.strip() == str(wanted):
            return
    raise AssertionError(f"Ray has no {wanted} nodes after {START_S} s: {done.stderr[-2000:]}")


def _end(pid: int) -> None:
    """End a process and all below it, by their ids."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        below = process.children(recursive=True)
        process.terminate()
        _, left = psutil.wait_procs([process, *below], timeout=STOP_S)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _command(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
