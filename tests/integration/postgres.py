"""A real Postgres on this machine: one server with a folder of its own, durable as in production (fsync is on)."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_S = 60.0
WHERE = "Debian's package postgresql has it: apt-get install postgresql"
USER = "triptych"


@dataclass
class Postgres:
    """A server that listens on a Unix socket in `folder`."""

    folder: Path
    psql: str
    command: list[str | Path]
    user: str | None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder, user=self.user)
        until = time.monotonic() + START_S
        while "ready to accept connections" not in (text := (self.folder / "log").read_text()):
            if self._process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"Postgres does not start: {text[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server at once, without a checkpoint: the next start recovers what was committed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_S)

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def new_database(self, name: str) -> str:
        """Create an empty database, and return its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def emptied(self) -> str:
        """Empty the database that the server came with, and return its URL. That is faster than a new one."""
        self.execute("SET client_min_messages = warning; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url()

    def execute(self, statements: str) -> None:
        command = [self.psql, "--no-psqlrc", "--quiet", "--host", str(self.folder), "--username", USER, "postgres"]
        subprocess.run([*command, "--command", statements], check=True, capture_output=True, timeout=START_S)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Run a server. Skips the test if the programs are missing."""
    initdb, psql = program("initdb"), program("psql")
    if not (initdb and psql):
        pytest.skip(f"initdb is not installed; {WHERE}")
    user = server_user()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # not below a test's folder, which other users cannot enter
    if user is not None:
        shutil.chown(folder, user)
    try:
        data = folder / "data"
        options = ["--auth", "trust", "--username", USER, "--encoding", "UTF8", "--pgdata", str(data)]
        subprocess.run([initdb, *options], user=user, cwd=folder, check=True, capture_output=True, timeout=START_S)
        with running(Postgres(folder, psql, server_command(initdb, data, folder), user)) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(server: Postgres) -> Iterator[Postgres]:
    """Start a server, and end it behind the block: its data is removed."""
    try:
        server.start()
        yield server
    finally:
        server.kill()


def server_command(initdb: str, data: Path, folder: Path, *more: str) -> list[str | Path]:
    """The command of a server with its socket in a folder, and more options."""
    options = ["-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-c", "max_connections=50", *more]
    return [Path(initdb).resolve().with_name("postgres"), *options]


def program(name: str) -> str | None:
    """Path of a program of Postgres; Debian keeps the server's own ones off the PATH."""
    if (found := shutil.which(name)) is not None:
        return found
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(versions[-1]) if versions else None


def server_user() -> str | None:
    """The account of the server, which must not be root; None for our own."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
