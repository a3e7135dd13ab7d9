"""What a gRPC server costs by itself: the same echo behind each, and the same relay behind the doors of ours.

Load comes from perf_analyzer, with one row of 28 numbers; the CPU is that of the server with its children, by the
process times. Servers take turns within each round, so that other work on the machine meets all of them. A relay's
calls go to an echo of its own kind. The clients are measured by themselves, against our door with Envoy. Runs are short
since zttp ends a connection after 4,096 calls.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.processes import free_port, own_mib
from benchmarks.report import Report
from benchmarks.serving import cpu, load
from local.environments import ROOT
from local.errors import LocalError
from local.health import server_is_live
from local.part import Part
from local.perf import PerfAnalyzer, ensure_perf_analyzer

HELP = "gRPC servers and clients: CPU for each call of an echo and of a relay"
TITLE = "Doors"

READY_S = 60.0
CALLERS_KINDS = ("grpcio", "pyqwest")
ASGI = "benchmarks.echo.asgi:app"


@dataclass(frozen=True)
class Server:
    """A way to serve echo; `needs` is the package that has to be installed for it, `{port}` stands for its port."""

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    needs: str = ""

    def there(self) -> bool:
        return not self.needs or find_spec(self.needs) is not None


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *words)


SERVERS = (
    Server("grpc.aio (door grpcio)", python("benchmarks.echo"), {"ECHO_DOOR": "grpcio"}),
    Server("grpc.aio, 2 processes", python("benchmarks.echo.several", "2"), {}),
    Server("Envoy (door envoy)", python("benchmarks.echo"), {"ECHO_DOOR": "envoy"}),
    Server("pygrpc-native", python("benchmarks.echo.native"), {}, "pygrpc_native"),
    Server(
        "uvicorn, zttp",
        python("uvicorn", "--http", "zttp", "--http2", "--no-access-log", "--port", "{port}", ASGI),
        {},
        "zttp",
    ),
)
RELAYS = (SERVERS[0], SERVERS[2])


@dataclass
class Echo:
    """One that runs."""

    name: str
    part: Part

    def cpu_s(self) -> float:
        return sum(cpu.of_parts({"": self.part.pid}).values())


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64], help="at once")
    parser.add_argument("--requests", type=int, default=4_000, help="of one run; a single caller sends a quarter of it")
    parser.add_argument("--rounds", type=int, default=3)


def main(given: argparse.Namespace, report: Report) -> None:
    program = ensure_perf_analyzer()
    missing = [server.name for server in SERVERS if not server.there()]
    if missing:
        report.text(f"Not installed, so not measured: {', '.join(missing)} (see benchmarks/requirements.txt).")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        data = folder / "echo.json"
        data.write_text(json.dumps({"data": [{"rows": {"content": [1.0] * 28, "shape": [28]}}]}))
        echoes = [stack.enter_context(running(server, folder)) for server in SERVERS if server.there()]
        by_name = {echo.name: echo for echo in echoes}
        relays = [stack.enter_context(running(server, folder, by_name[server.name].part.address)) for server in RELAYS]
        tell(report, "A unary echo, 1 x 28 FP32", measured(given, program, echoes, data), given.callers)
        tell(report, "A relay: one call for each call", measured(given, program, relays, data), given.callers)
        memory = [(echo.name, own_mib(echo.part.pid)) for echo in echoes]
        report.table("Memory after it, without pages of files", ["server", "MiB"], memory)
        tell_clients(given, report, by_name["Envoy (door envoy)"].part.address, folder)


@contextmanager
def running(server: Server, folder: Path, upstream: str = "") -> Iterator[Echo]:
    """A server that answers; with `upstream`, a relay to it."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    name = f"{server.name}, relay" if upstream else server.name
    ours = {"ECHO_PORT": str(port), "ECHO_METRICS_PORT": "0", "ECHO_UPSTREAM": upstream, "ECHO_DRAIN_S": "0"}
    part = Part(
        name=name,
        command=[word.replace("{port}", str(port)) for word in server.command],
        environment={**os.environ, **ours, **server.variables, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        address=address,
        log=folder / f"{port}.log",
        is_ready=lambda: server_is_live(address),
    )
    part.start()
    try:
        while not part.ready(READY_S):
            pass
        yield Echo(name, part)
    finally:
        part.stop(READY_S)


Runs = dict[tuple[str, int], list[tuple[float, load.Seen]]]


def measured(given: argparse.Namespace, program: PerfAnalyzer, echoes: Sequence[Echo], data: Path) -> Runs:
    """CPU us of each call and what perf_analyzer saw, by server and number of callers."""
    runs: Runs = defaultdict(list)
    for number in range(given.rounds):
        for callers in given.callers:
            requests = given.requests if callers > 1 else given.requests // 4
            for at in range(len(echoes)):
                echo = echoes[(at + number) % len(echoes)]
                ask = load.Ask(echo.part.address, "echo", data)
                before = echo.cpu_s()
                seen = load.closed(program, ask, callers, requests)
                used_us = (echo.cpu_s() - before) / seen.requests * 1e6
                runs[echo.name, callers].append((used_us, seen))
                print(f"{echo.name}, {callers} callers: {used_us:.0f} us", file=sys.stderr, flush=True)
    return runs


def tell(report: Report, title: str, runs: Runs, callers: Sequence[int]) -> None:
    """Medians, with the least and the most CPU of a call."""
    rows = []
    for name in dict.fromkeys(name for name, _ in runs):
        for count in callers:
            used = [us for us, _ in runs[name, count]]
            seen = [each for _, each in runs[name, count]]
            rates, p50 = [each.rate for each in seen], [each.ms(50) for each in seen]
            spread = f"{min(used):.0f} to {max(used):.0f}"
            rows.append((name, count, median(used), spread, median(rates), median(p50)))
    head = ["server", "callers", "CPU of a call, us", "spread", "calls/s", "p50, ms"]
    report.table(title, head, rows)
    report.figures(title, [dict(zip(head, row, strict=True)) for row in rows])


def tell_clients(given: argparse.Namespace, report: Report, address: str, folder: Path) -> None:
    rows = []
    for callers in given.callers:
        for kind in CALLERS_KINDS:
            calls = given.requests if callers > 1 else given.requests // 4
            used = [client_s(kind, address, callers, calls) / calls * 1e6 for _ in range(given.rounds)]
            rows.append((kind, callers, median(used), f"{min(used):.0f} to {max(used):.0f}"))
    head = ["client", "calls at once", "CPU of a call, us", "spread"]
    report.table("Clients: the caller's own CPU", head, rows)
    report.figures("clients", [dict(zip(head, row, strict=True)) for row in rows])


def client_s(kind: str, address: str, callers: int, calls: int) -> float:
    command = python("benchmarks.echo.callers", kind, address, str(callers), str(calls))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise LocalError(f"{kind}: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)
