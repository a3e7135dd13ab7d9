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
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 60.0
WHERE = "Debian's package postgresql has it: apt-get install postgresql"
USER = "triptych"


@dataclass(frozen=True)
class Postgres:
    """A server that listens on a Unix socket in `folder`."""

    folder: Path
    psql: str

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
        with server(initdb, user, data, folder):
            yield Postgres(folder, psql)
    finally:
        shutil.rmtree(folder)


@contextmanager
def server(initdb: str, user: str | None, data: Path, folder: Path) -> Iterator[None]:
    """The server process, until it listens and then until the end of the block."""
    options = ["-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-c", "max_connections=50"]
    postgres = Path(initdb).resolve().with_name("postgres")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([postgres, *options], stdout=log, stderr=log, cwd=folder, user=user)
    try:
        until = time.monotonic() + START_S
        while "ready to accept connections" not in (text := (folder / "log").read_text()):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"Postgres does not start: {text[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: its data is removed
        process.wait(START_S)


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
