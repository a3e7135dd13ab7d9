"""`python -m benchmarks.echo.several N`: N processes of our grpc.aio door on one port, by SO_REUSEPORT."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys

import uvloop

from benchmarks.echo.server import build
from benchmarks.echo.settings import Settings
from triptych.door import grpcio


async def serve() -> None:
    own = grpcio._options
    grpcio._options = lambda settings: [*own(settings), ("grpc.so_reuseport", 1)]  # the last one holds
    echo = await build(Settings())
    await echo.door.open()
    await asyncio.Event().wait()


def one() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    uvloop.run(serve())


if __name__ == "__main__":
    processes = [multiprocessing.get_context("spawn").Process(target=one, daemon=True) for _ in range(int(sys.argv[1]))]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # daemons end with this process
    for process in processes:
        process.start()
    for process in processes:
        process.join()
