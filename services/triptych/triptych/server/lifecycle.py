"""The life of a service process: start, ready, drain, stop. Python as PID 1 ignores SIGTERM without this."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import signal
import sys
from typing import Protocol, runtime_checkable

import uvloop

from triptych.runtime.addresses import join
from triptych.runtime.settings import StageSettings
from triptych.server import GrpcServer
from triptych.telemetry import logs

log = logging.getLogger(__name__)

GARBAGE = 20_000  # objects made and not yet gone, at which the youngest are searched; Python's own limit is 700


class Running(Protocol):
    """A service that has been built and not yet started."""

    server: GrpcServer

    async def start(self) -> None:
        """Starts what runs beside the server and returns when the service may call itself ready."""

    async def close(self) -> None:
        """Closes channels and pools, after the last call was answered."""


@runtime_checkable
class Drains(Protocol):
    """A service with calls that have no end of their own, such as streams that follow something."""

    async def drain(self) -> None:
        """Ends them, and every later one; the server would wait for them until its grace is over."""


def run(stage: str, settings: StageSettings) -> int:
    """Runs a service until SIGTERM or SIGINT; returns the exit code of the process.

    The service is what `build` makes in module `server` of the stage's package.
    """
    logs.configure(stage, settings.log_level)
    try:
        uvloop.run(_live(stage, settings))
    except OSError as error:
        sys.stderr.write(f"{stage}: {error}\n")
        return 1
    return 0


async def _live(stage: str, settings: StageSettings) -> None:
    """Start, ready, and after SIGTERM or SIGINT drain and end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service: Running = await importlib.import_module(f"{stage}.server").build(settings)
    await service.server.open()
    log.info("live", extra={"address": join(settings.host, service.server.port), "revision": settings.revision})
    starting = asyncio.create_task(_become_ready(service))
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting in done and starting.exception() is not None:
        await service.server.close(0)
        starting.result()
    await stopping
    starting.cancel()
    await shut_down(service, settings)


async def _become_ready(service: Running) -> None:
    await service.start()
    _spare_the_collector()
    await service.server.set_ready(True)
    log.info("ready")


def _spare_the_collector() -> None:
    """Leaves all that was made for the start out of the search for garbage, and lets more gather between two.

    Requests make hardly any cycles, yet the search took 15 % of a request's time in preprocess (2026-11-21).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


async def shut_down(service: Running, settings: StageSettings) -> None:
    """The order of leaving: say so, serve on while callers hear it, end what is endless, let calls end, close."""
    log.info("draining", extra={"drain_s": settings.drain_s})
    await service.server.set_ready(False)
    await asyncio.sleep(settings.drain_s)
    if isinstance(service, Drains):
        await service.drain()
    await service.server.close(settings.grace_s)
    await service.close()
    log.info("stopped")
