"""CPU of one gRPC call by transport, as ratios to grpc.aio: of the client of a hop, and of an echo server.

Transports take turns within each round, and a ratio is made within a round, so that other work on the machine meets
all of them. Clients all call the same echo, which is served by http2; echo servers get their load from perf_analyzer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.processes import free_port
from benchmarks.report import Report
from benchmarks.serving import cpu, load
from benchmarks.serving.statistics import Spread
from local.environments import ROOT
from local.errors import LocalError
from local.health import server_is_live
from local.perf import ensure_perf_analyzer
from local.server_process import ServerProcess

HELP = "gRPC transports, interleaved: CPU of a client's call and of an echo server, as ratios to grpc.aio"
TITLE = "Transports"

READY_S = 60.0


@dataclass(frozen=True)
class Server:
    """A way to serve echo."""

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *words)


BASE, SHARED = "grpcio", "http2"  # what ratios are made to, and the echo that all clients call
SERVERS = tuple(Server(name, python("benchmarks.echo"), {"ECHO_SERVER": name}) for name in (BASE, SHARED))
CLIENTS = (BASE, SHARED)

# Microseconds of a call in each round, by transport and callers.
Used = dict[tuple[str, int], list[float]]


@dataclass
class Echo:
    """One that runs."""

    name: str
    part: ServerProcess

    def cpu_s(self) -> float:
        return sum(cpu.of_parts({"": self.part.pid}).values())


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64], help="at once")
    parser.add_argument("--calls", type=int, default=4_000, help="of one run; a single caller sends a quarter of them")
    parser.add_argument("--rounds", type=int, default=5)


def main(given: argparse.Namespace, report: Report) -> None:
    program = ensure_perf_analyzer()
    with tempfile.TemporaryDirectory(prefix="triptych-transport-") as name, ExitStack() as stack:
        data = Path(name, "echo.json")
        data.write_text(json.dumps({"data": [{"rows": {"content": [1.0] * 28, "shape": [28]}}]}))
        echoes = {server.name: stack.enter_context(running(server, Path(name))) for server in SERVERS}

        def served(transport: str, callers: int, calls: int) -> float:
            echo = echoes[transport]
            before = echo.cpu_s()
            seen = load.closed(program, load.Ask(echo.part.address, "echo", data), callers, calls)
            return (echo.cpu_s() - before) / seen.requests

        def called(transport: str, callers: int, calls: int) -> float:
            return client_s(transport, echoes[SHARED].part.address, callers, calls) / calls

        tell(report, "An echo server: CPU of a call", interleaved(given, list(echoes), served))
        tell(report, "A client: CPU of a call", interleaved(given, CLIENTS, called))


@contextmanager
def running(server: Server, folder: Path) -> Iterator[Echo]:
    """A server that answers."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    ours = {"ECHO_PORT": str(port), "ECHO_METRICS_PORT": "0", "ECHO_DRAIN_S": "0"}
    part = ServerProcess(
        name=server.name,
        command=list(server.command),
        environment={**os.environ, **ours, **server.variables, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        address=address,
        log=folder / f"{port}.log",
        is_ready=lambda: server_is_live(address),
    )
    part.start()
    try:
        while not part.poll_ready(READY_S):
            pass
        yield Echo(server.name, part)
    finally:
        part.stop(READY_S)


def interleaved(
    given: argparse.Namespace, transports: Sequence[str], measure: Callable[[str, int, int], float]
) -> Used:
    """All transports in each round at each number of callers; each round begins with another."""
    used: Used = {(name, callers): [] for callers in given.callers for name in transports}
    for number in range(given.rounds):
        for callers in given.callers:
            for at in range(len(transports)):
                name = transports[(at + number) % len(transports)]
                used_us = 1e6 * measure(name, callers, given.calls if callers > 1 else given.calls // 4)
                used[name, callers].append(used_us)
                print(f"{name}, {callers} callers: {used_us:.0f} us", file=sys.stderr, flush=True)
    return used


def tell(report: Report, title: str, used: Used) -> None:
    rows = [
        (callers, name, round(median(each)), ratio(used, name, callers).text) for (name, callers), each in used.items()
    ]
    report.table(title, ["callers", "transport", "us", f"to {BASE}, within a round"], rows)
    report.figures(title, [{"transport": key[0], "callers": key[1], "us": each} for key, each in used.items()])


def ratio(used: Mapping[tuple[str, int], Sequence[float]], name: str, callers: int) -> Spread:
    return Spread.of(own / base for own, base in zip(used[name, callers], used[BASE, callers], strict=True))


def client_s(kind: str, address: str, callers: int, calls: int) -> float:
    command = python("benchmarks.echo.callers", kind, address, str(callers), str(calls))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise LocalError(f"{kind}: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)
