"""What one hop costs, one call at a time: by TCP and by a Unix socket, and to Triton with and without shared memory.

A call of grpc.aio carries bytes to a process that sends them back: the least that a hop can be. TCP_NODELAY is set by
gRPC and by Envoy; what else gRPC lets one set about a connection is tried beside it. To Triton go rows of `digits`, in
the message and through a region that both have mapped, written and read for every request.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
import uvloop
from grpc import aio
from tritonclient.utils import shared_memory

from benchmarks import processes
from benchmarks.report import Report
from local.chain import Chain
from local.endpoints import free_endpoints
from local.environments import ensure
from triptych.datatypes import Array

HELP = "one hop: TCP and its settings, a Unix socket, Triton with and without shared memory"
TITLE = "What a hop costs"

READY_S = 20.0
METHOD = "/echo/Bytes"
SIZES = (200, 10_000, 1_000_000)
MODEL, ROW, CLASSES = "digits_de", (3, 32, 32), 10
ROWS = (1, 16, 64)
UNBOUNDED: list[tuple[str, Any]] = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
# Settings of the caller's side. The window of HTTP/2 follows pings that measure the connection, if not told otherwise.
SETTINGS: dict[str, list[tuple[str, Any]]] = {
    "TCP": [],
    "TCP, no pings for the window": [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4 << 20)],
    "TCP, large reads": [
        ("grpc.experimental.tcp_read_chunk_size", 256 << 10),
        ("grpc.tcp_receive_buffer_size", 4 << 20),
    ],
    "TCP, large frames": [("grpc.http2.max_frame_size", 1 << 20), ("grpc.http2.write_buffer_size", 1 << 20)],
    "Unix socket": [],
}


@dataclass(frozen=True)
class Cost:
    """Of a call: median microseconds until the answer, and mean microseconds of CPU on both sides together."""

    p50_us: float
    cpu_us: float


Costs = dict[tuple[str, str], list[Cost]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_000, help="of one run")
    parser.add_argument("--rounds", type=int, default=5)


def main(given: argparse.Namespace, report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="triptych-hops-") as name:
        folder = Path(name)
        _tell(report, "grpc.aio to grpc.aio", uvloop.run(_sockets(given, folder)), "TCP")
        chain = Chain(free_endpoints(), folder / "run", ensure("predictor"))
        with chain:
            _tell(report, f"To Triton, {MODEL}", _triton(given, chain), "in the message")


def _tell(report: Report, title: str, costs: Costs, first: str) -> None:
    """Medians over the rounds, and the ratio to the first way within a round."""
    rows = []
    for (size, way), each in costs.items():
        base = costs[size, first]
        row: list[str | float] = [size, way]
        for what in ("p50_us", "cpu_us"):
            ratios = [getattr(one, what) / getattr(other, what) for one, other in zip(each, base, strict=True)]
            row += [round(median(getattr(one, what) for one in each)), f"{median(ratios):.2f}"]
        rows.append(row)
    report.table(title, ["", "way", "p50, us", f"to {first}", "CPU of both sides, us", f"to {first}"], rows)
    report.figures(
        title, [{"size": size, "way": way, "costs": [vars(one) for one in each]} for (size, way), each in costs.items()]
    )


async def _sockets(given: argparse.Namespace, folder: Path) -> Costs:
    tcp, unix = f"127.0.0.1:{processes.free_port()}", f"unix:{folder}/echo.sock"
    server = get_context("spawn").Process(target=_serve, args=([tcp, unix],), daemon=True)
    server.start()
    costs: Costs = {}
    try:
        for size in SIZES:
            for _ in range(given.rounds):
                for way, options in SETTINGS.items():
                    address, calls = tcp if way.startswith("TCP") else unix, given.calls // (1 + size // 100_000)
                    run = await _echoed(address, options, bytes(size), calls, server.pid or 0)
                    costs.setdefault((f"{size:,} bytes", way), []).append(run.cost())
    finally:
        server.terminate()
        server.join()
    return costs


async def _echoed(address: str, options: list[tuple[str, Any]], data: bytes, calls: int, server: int) -> _Run:
    async with aio.insecure_channel(address, options=[*UNBOUNDED, *options]) as channel:
        await asyncio.wait_for(channel.channel_ready(), READY_S)
        method: Any = channel.unary_unary(METHOD)
        for _ in range(calls // 10):
            await method(data)
        run = _Run(server)
        for _ in range(calls):
            with run.call():
                await method(data)
    return run


def _triton(given: argparse.Namespace, chain: Chain) -> Costs:
    costs: Costs = {}
    with triton.InferenceServerClient(chain.address("predictor")) as client:
        client.load_model(MODEL)
        for rows in ROWS:
            pixels = np.random.default_rng(0).random((rows, *ROW), np.float32)
            with _ways(client, pixels) as ways:
                for _ in range(given.rounds):
                    for way, infer in ways.items():
                        run = _inferred(infer, given.calls // (1 + rows // 8), chain.pids()["predictor"])
                        costs.setdefault((f"{rows} rows, {pixels.nbytes:,} bytes", way), []).append(run.cost())
    return costs


def _inferred(infer: Callable[[], Any], calls: int, server: int) -> _Run:
    for _ in range(calls // 10):
        infer()
    run = _Run(server)
    for _ in range(calls):
        with run.call():
            infer()
    return run


@contextmanager
def _ways(client: Any, pixels: Array) -> Iterator[dict[str, Callable[[], Any]]]:
    """The same rows to the same model, and its answer back as an array."""
    answer_bytes = 4 * len(pixels) * CLASSES
    with _shared(client, "given", pixels.nbytes) as given, _shared(client, "answer", answer_bytes) as answer:

        def in_the_message() -> Any:
            tensor = triton.InferInput("pixels", list(pixels.shape), "FP32")
            tensor.set_data_from_numpy(pixels)
            return client.infer(MODEL, [tensor]).as_numpy("logits")

        def through_memory() -> Any:
            shared_memory.set_shared_memory_region(given, [pixels])
            tensor = triton.InferInput("pixels", list(pixels.shape), "FP32")
            tensor.set_shared_memory("given", pixels.nbytes)
            wanted = triton.InferRequestedOutput("logits")
            wanted.set_shared_memory("answer", answer_bytes)
            client.infer(MODEL, [tensor], outputs=[wanted])
            return shared_memory.get_contents_as_numpy(answer, np.float32, [len(pixels), CLASSES])

        np.testing.assert_allclose(in_the_message(), through_memory(), rtol=1e-5)
        yield {"in the message": in_the_message, "shared memory": through_memory}


@contextmanager
def _shared(client: Any, name: str, size: int) -> Iterator[Any]:
    """A region that Triton knows."""
    region = shared_memory.create_shared_memory_region(name, f"/triptych-hops-{name}-{os.getpid()}", size)
    client.register_system_shared_memory(name, f"/triptych-hops-{name}-{os.getpid()}", size)
    try:
        yield region
    finally:
        client.unregister_system_shared_memory(name)
        shared_memory.destroy_shared_memory_region(region)


class _Run:
    """Calls one after the other, and the CPU of this process and of the server's from the first to the last."""

    def __init__(self, server: int) -> None:
        self._pids = (os.getpid(), server)
        self._took_s: list[float] = []
        self._before_s = self._cpu_s()

    @contextmanager
    def call(self) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        self._took_s.append(time.perf_counter() - started_s)

    def cost(self) -> Cost:
        return Cost(1e6 * median(self._took_s), 1e6 * (self._cpu_s() - self._before_s) / len(self._took_s))

    def _cpu_s(self) -> float:
        return sum(map(processes.cpu_s, self._pids))


def _serve(addresses: Sequence[str]) -> None:
    uvloop.run(_echo(addresses))


async def _echo(addresses: Sequence[str]) -> None:
    async def back(data: bytes, _context: Any) -> bytes:
        return data

    server = aio.server(options=UNBOUNDED)
    handler: Any = grpc.unary_unary_rpc_method_handler(back)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", {"Bytes": handler}),))
    for address in addresses:
        server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()
