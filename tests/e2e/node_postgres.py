"""A real Postgres beside the cluster, on the address of its node, with a password for pods."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.kubectl import Kubectl
from tests.integration.postgres import (
    START_S,
    USER,
    WHERE,
    Postgres,
    program,
    running,
    server_command,
    server_user,
)


@dataclass(frozen=True)
class NodePostgres:
    """A server whose `url` is for pods, and for this machine too."""

    url: str
    psql: str

    def execute(self, statement: str) -> str:
        """Output of a statement, without headers."""
        command = [self.psql, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", self.url, "--command", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=START_S).stdout.strip()


@contextmanager
def node_postgres(kubectl: Kubectl) -> Iterator[NodePostgres]:
    """Run a server. Skips the test without its programs, or if the node is another machine."""
    initdb, psql = program("initdb"), program("psql")
    if not (initdb and psql):
        pytest.skip(f"initdb is not installed; {WHERE}")
    address, port = _address_of_the_node(kubectl)
    user, password = server_user(), uuid.uuid4().hex
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    (folder / "password").write_text(password)
    if user is not None:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    try:
        data = folder / "data"
        options = ["--auth", "scram-sha-256", "--username", USER, "--pwfile", str(folder / "password")]
        command = [initdb, *options, "--encoding", "UTF8", "--pgdata", str(data)]
        subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True, timeout=START_S)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        listening = ("-c", f"listen_addresses={address}", "-c", f"port={port}")
        with running(Postgres(folder, psql, server_command(initdb, data, folder, *listening), user)):
            yield NodePostgres(f"postgresql://{USER}:{password}@{address}:{port}/postgres", psql)
    finally:
        shutil.rmtree(folder)


def _address_of_the_node(kubectl: Kubectl) -> tuple[str, int]:
    """Address of the node and a free port. Skips the test if it is not an address of this machine."""
    (node, *_) = kubectl.get("nodes")["items"]
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    try:
        with socket.create_server((address, 0)) as listener:
            return address, int(listener.getsockname()[1])
    except OSError:
        pytest.skip(f"needs a Postgres that pods reach: the node {address} is another machine")
